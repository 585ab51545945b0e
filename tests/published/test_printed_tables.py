"""The tables of the guide and of the README say what the rows of `scale/published` say."""

import re
from pathlib import Path

import pandas as pd
import pytest

from scale.data import catalog
from scale.evaluation import robustness
from scale.evaluation.statistics import summarise
from scale.published import medmnist, ours
from scale.runs.heads import TITLES

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8").split("\n## Results\n")[1].split("\n## ")[0]
TITLE = re.compile(r"\| (\w+MNIST\w*)(?:, [\w ]+)? \|")
HEADS = GUIDE.split("\n## Heads\n")[1].split("\n## ")[0]
OURS, ABLATIONS = ours.table(ours.read()), ours.ablation_table(ours.read())


def lines(text):
    return [line for line in text.splitlines() if line.startswith("|")]


@pytest.mark.parametrize("part", OURS.split("\n\n**"), ids=lambda part: part.partition("\n")[0].strip("*"))
def test_the_guide_has_a_data_sets_table_as_it_is_printed(part):
    title = part.partition("\n")[0].strip("*")
    section = GUIDE.split(f"\n## {title}\n")[1].split("\n## ")[0]
    assert lines(section) == lines(part)


def test_the_guide_has_the_ablations_as_they_are_printed():
    section = GUIDE.split("\n## What the parts contribute\n")[1].split("\n## ")[0]
    assert lines(section) == lines(ABLATIONS)


def test_the_readmes_figures_are_those_of_the_rows():
    """Of each cell the first figure, with its spread: one of ours over its seeds, or the best published one."""
    table = lines(README)
    assert table[0].startswith("| data set |")
    named = [(found[1], line) for line in table if (found := TITLE.match(line))]
    assert len(named) == len(table) - 2
    for title, line in named:
        figures = re.findall(r"0\.\d{3}(?: ± 0\.\d{3})?", line)
        (flag,) = (name for name in catalog.FLAGS if catalog.title(name) == title)
        best = medmnist.best(flag)
        assert best is not None
        assert figures[-2:] == [f"{best[0].auc:.3f}", f"{best[1].acc:.3f}"], title
        section = next(part for part in OURS.split("\n\n**") if part.strip("*").startswith(title))
        ours_only = [row.split("|") for row in lines(section) if "| `scale`" in row]
        own = [[cell.strip(" *") for cell in row[4:6]] for row in ours_only]
        pairs = [figures[place : place + 2] for place in range(0, len(figures) - 2, 2)]
        assert pairs, title
        assert all(pair in own for pair in pairs), (title, pairs, own)


@pytest.mark.parametrize("flag", ["breastmnist", "vesselmnist3d", "pneumoniamnist"])
def test_the_guides_corruptions_are_those_of_the_rows(flag):
    rows = pd.read_csv(ROOT / "scale" / "published" / "robustness.csv").query("flag == @flag")
    columns = rows.drop(columns=["flag", "size", "model", "seed"]).itertuples(index=False)
    found = [robustness.Result(**row._asdict()) for row in columns]
    section = GUIDE.split("\n## Robustness\n")[1].split(f"\n### {catalog.title(flag)}\n")[1].split("\n##")[0]
    assert lines(section) == lines(robustness.table(found))


def test_the_guides_heads_are_the_means_of_the_rows():
    """Also that no head of a table lacks its rows, and that the answer's rows are those of the trainings."""
    rows = pd.read_csv(ROOT / "scale" / "published" / "heads.csv")
    printed = re.findall(r"^(.{22}) +(0\.\d{3} ± 0\.\d{3}) +(0\.\d{3} ± 0\.\d{3})", HEADS, flags=re.MULTILINE)
    kept = [
        (TITLES.get(str(head), f"{head} head"), *(_mean(found[column]) for column in ("auc", "acc")))
        for (_, _, head), found in rows.groupby(["flag", "variant", "head"])
    ]
    assert sorted((name.strip(), *figures) for name, *figures in printed) == sorted(kept)
    trained = pd.read_csv(ours.RESULTS)
    both = rows[rows["head"] == "answer"].merge(trained, on=["flag", "size", "model", "variant", "seed"])
    assert len(both) == (rows["head"] == "answer").sum()
    assert both["auc_x"].to_numpy() == pytest.approx(both["auc_y"].to_numpy(), abs=1e-5)
    assert both["acc_x"].to_numpy() == pytest.approx(both["acc_y"].to_numpy(), abs=1e-5)


def test_the_guides_trainings_of_twice_the_time_are_the_means_of_the_rows():
    names = {"the default": "AMD EPYC"}
    keys = ["flag", "size", "model", "variant", "seed"]
    rows = pd.read_csv(ours.RESULTS).merge(pd.read_csv(ROOT / "scale" / "published" / "val_loss.csv"), on=keys)
    table = lines(GUIDE.split("\n## Twice the time\n")[1].split("\n## ")[0])[2:]
    assert len(table) == rows.groupby(["flag", "variant"]).ngroups
    for line in table:
        title, name, seeds, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        here = rows[rows["flag"] == title.lower()].set_index("seed")
        own, default = (here[here["variant"] == variant] for variant in (names.get(name, name), "AMD EPYC"))
        assert seeds == f"0–{len(own) - 1}"
        assert cells[::2] == [f"{own['val_loss'].mean():.3f}", _mean(own["auc"]), _mean(own["acc"])], line
        changes = [own[column] - default[column] for column in ("val_loss", "auc", "acc")]
        said = [f"{change.mean():+.3f} ± {change.std():.3f}" for change in changes]
        assert cells[1::2] == (["", "", ""] if name == "the default" else said), line


def _mean(values):
    found = summarise(list(values))
    return f"{found.mean:.3f} ± {found.sd:.3f}"
