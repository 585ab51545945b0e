"""Who is ranked and who is not, what the figures are, and that the files say it."""

import csv
import dataclasses
import math

import numpy as np
import pytest
from omegaconf import OmegaConf
from run_folders import make_run
from sklearn.metrics import accuracy_score, roc_auc_score

from scale.published import ours as results
from scale.published.methods import published
from scale.reporting import entries, job, leaderboard, leaderboard_files
from scale.reporting.entries import Entry
from scale.reporting.verified import find, verify


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Three seeds of a good model, of one like it, and of a bad one."""
    root = tmp_path_factory.mktemp("runs")
    for seed in range(3):
        make_run(root / f"good{seed}", seed=seed, strength=3)
        make_run(root / f"like{seed}", seed=20 + seed, strength=3, variant="like")
        make_run(root / f"bad{seed}", seed=10 + seed, strength=0.5, variant="weak")
    return root


@pytest.fixture(scope="module")
def verified(runs):
    return [verify(folder) for folder in sorted(runs.iterdir())]


@pytest.fixture(scope="module")
def ours(verified):
    return {entry.method: entry for entry in entries.of_runs(verified, ())}


def method(name, **changes):
    row = {"flag": "breastmnist", "size": 28, "kind": "published", "auc": 0.9, "acc": 0.85, "selected_on": "val"}
    return Entry(method=name, **{"seeds": 3, **row, **changes})


def test_a_row_is_the_mean_of_its_runs(ours, verified):
    row = ours["scale_tiny"]
    good = [run for run in verified if run.folder.name.startswith("good")]
    areas = [roc_auc_score(run.labels[:, 0], run.probabilities[:, 1]) for run in good]
    shares = [accuracy_score(run.labels[:, 0], run.probabilities[:, 1] > 0.5) for run in good]
    assert row.seeds == 3
    assert math.isclose(row.auc, np.mean(areas), abs_tol=1e-12)
    assert math.isclose(row.auc_sd, np.std(areas, ddof=1), abs_tol=1e-12)
    assert math.isclose(row.acc, np.mean(shares), abs_tol=1e-12)
    assert row.auc_interval[0] < row.auc < row.auc_interval[1]
    for run, share in zip(good, shares, strict=True):
        assert np.isin(entries.right(run).round(12), (0, 1)).all()
        assert math.isclose(entries.right(run).mean(), share, abs_tol=1e-12)


def test_admission(ours):
    rules = {
        "on test": method("a", selected_on="test"),
        "not known what": method("b", selected_on="unknown"),
        "2 seeds, 3 needed": method("c", seeds=2),
        "1 seed, 3 needed": method("d", seeds=1),
        "number of seeds": method("e", seeds=None),
        "an ablation": method("f", reason=entries.ABLATION),
    }
    (section,) = leaderboard.sections([*rules.values(), method("ranked"), ours["scale_tiny"]])
    assert {row.method for row in section.ranked} == {"ranked", "scale_tiny"}
    for words, row in rules.items():
        assert words in row.reason
        assert row.rank_auc is None
    assert len(section.others) == len(rules)


def test_ranks_are_shared_to_three_decimals():
    rows = [method("a", auc=0.9004), method("b", auc=0.8996), method("c", auc=0.95), method("d", auc=None)]
    leaderboard.sections(rows)
    assert [row.rank_auc for row in rows] == [2, 2, 1, None]


def test_the_paired_test_tells_the_bad_from_the_good(ours):
    (section,) = leaderboard.sections(ours.values())
    best, second, bad = section.ranked
    assert bad.method == "scale_tiny, weak"
    assert (best.beside_auc, second.beside_auc, bad.beside_auc, bad.beside_acc) == ("best", "same", "apart", "apart")
    assert bad.p_auc < 0.01 < 0.05 < second.p_auc


def test_a_best_without_predictions_cannot_be_tested_against(ours):
    row = dataclasses.replace(ours["scale_tiny"])
    for value, word in ((row.auc + 1e-3, "inside"), (0.9999, "outside")):
        best = method("published", auc=value)
        leaderboard.sections([row, best, low := method("low", auc=0.5)])
        assert (best.beside_auc, row.beside_auc, low.beside_auc) == ("best", word, "untested")
        assert row.p_auc is None


def test_recipes_of_one_model_are_not_averaged(tmp_path, verified):
    longer = verify(make_run(tmp_path / "longer", seed=7, overrides=("budget.max_epochs=99",)))
    names = [row.method for row in entries.of_runs([*verified, longer], ())]
    assert "scale_tiny, budget.max_epochs=99" in names
    weak = verify(make_run(tmp_path / "weak", seed=7, overrides=("budget.max_epochs=99",), variant="weak"))
    rows = {row.method: row.seeds for row in entries.of_runs([*verified, weak], ())}
    assert rows["scale_tiny, weak, budget.max_epochs=99"] == 1
    assert rows["scale_tiny, weak, budget.max_epochs=100"] == 3


def test_recipes_that_differ_have_names_that_differ(tmp_path):
    """The third key was left out of both names, and lists were cut at their first blank."""
    common = ("optimizer.lr=0.01", "optimizer.weight_decay=0.1", "model.planar_widths=[16, 32, 48]")
    found = [verify(make_run(tmp_path / x, overrides=(*common, f"model.dropout={x}"))) for x in ("0.2", "0.3")]
    names = sorted(row.method for row in entries.of_runs(found, ()))
    assert [name.split(", ")[1] for name in names] == ["model.dropout=0.2", "model.dropout=0.3"]
    assert all(name.endswith("and 2 more changes") for name in names)
    (row,) = entries.of_runs([verify(make_run(tmp_path / "list", overrides=common[2:]))], ())
    assert row.method == "scale_tiny, model.planar_widths=[16, 32, 48]"


def test_the_size_that_a_backbone_is_given_is_that_of_the_row(tmp_path):
    given = {"model": {"name": "timm/vit", "parameters": 1, "macs": 1}}
    run = verify(make_run(tmp_path / "a", **given))
    (row,) = entries.of_runs([run], ())
    assert row.input_size is None
    (row,) = entries.of_runs([dataclasses.replace(run, values={**run.values, "model.image_size": 224})], ())
    assert row.input_size == 224


def test_other_questions_of_one_file_are_not_averaged(tmp_path, verified):
    """`data.problem` and `data.symmetry` are the user's own word for a file, and decide what is learned from it."""
    for key, value in (("symmetry", "upright"), ("problem", "ordinal"), ("fold", 1)):
        folder = make_run(tmp_path / key, seed=8)
        config = OmegaConf.load(folder / "config.yaml")
        OmegaConf.update(config, f"data.{key}", value, force_add=True)
        OmegaConf.save(config, folder / "config.yaml")
        rows = {row.method: row.seeds for row in entries.of_runs([*verified, verify(folder)], ())}
        assert rows[next(name for name in rows if f"data.{key}={value}" in name)] == 1
        assert rows[f"scale_tiny, data.{key}=None"] == 3


def test_ablations_of_the_users_runs_are_not_ranked(verified):
    rows = {row.method: row.reason for row in entries.of_runs(verified, ["weak"])}
    assert rows == {"scale_tiny": "", "scale_tiny, like": "", "scale_tiny, weak": "an ablation"}


def test_the_files(runs, tmp_path):
    proposal = tmp_path / "mine.csv"
    head = "flag,size,method,auc,acc,parameters_M,seeds,selected_on,pretrained,source,checked"
    proposal.write_text(f"{head}\nbreastmnist,28,Mine_1 & more,0.99,0.9,1,3,val,no,doi:10.1/x,seen\n")
    unfinished = make_run(tmp_path / "unfinished", seed=5)
    (unfinished / "metrics.json").unlink()
    gaps = job.write(
        tmp_path / "out",
        runs=[str(runs / "good0"), str(unfinished)],
        published=[str(proposal)],
        data=["breastmnist"],
        command="python -m scale.report",
    )
    assert [gap.folder for gap in gaps] == [unfinished]
    with (tmp_path / "out" / "leaderboard.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(published("breastmnist")) + 2
    assert {row["flag"] for row in rows} == {"breastmnist"}
    mine = {row["method"]: row for row in rows if row["kind"] == "run"}
    assert float(mine["scale_tiny"]["auc_low"]) < float(mine["scale_tiny"]["auc"])
    texts = {suffix: (tmp_path / "out" / f"leaderboard.{suffix}").read_text() for suffix in ("md", "tex", "html")}
    assert f"`{unfinished}` is not finished" in texts["md"]
    assert r"Mine\_1 \& more" in texts["tex"]
    assert texts["tex"].count(r"\begin{table}") == texts["tex"].count(r"\end{table}") == 5  # 28, 64, 128, 224, unknown
    assert "Mine_1 &amp; more" in texts["html"]
    assert all("selected on" in text for text in texts.values())


def test_bad_input_of_the_report(tmp_path):
    with pytest.raises(ValueError, match="in the installed package"):
        job.write(job.PACKAGE / "published", command="")
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a file"):
        job.write(tmp_path / "file", command="")
    with pytest.raises(ValueError, match="data=brestmnist: there is no result on it"):
        job.write(tmp_path / "out", data=["brestmnist"], command="")
    assert not (tmp_path / "out").exists()


def test_what_was_explained_is_no_run_of_its_own(tmp_path):
    make_run(tmp_path / "a", seed=0, strength=3)
    for name in ("explanations", "explanations-1"):
        (tmp_path / "a" / name).mkdir()
        (tmp_path / "a" / name / "config.yaml").write_text("run: a")
    assert find([str(tmp_path)]) == find([str(tmp_path / "a")]) == [tmp_path / "a"]


def test_our_own_results_are_means_over_their_seeds():
    row = {"flag": "breastmnist", "size": "28", "model": "scale", "variant": "", "parameters": "10", "macs": "20"}
    row["pretrained"] = "no"
    rows = [row | {"auc": value, "acc": acc, "commit": "abc"} for value, acc in (("0.9", "0.8"), ("0.8", ""))]
    (found,) = entries.of_ours(rows, ())
    assert (found.auc, found.acc, found.seeds, found.pretrained) == (pytest.approx(0.85), None, 2, "no")
    (found,) = entries.of_ours([rows[0] | {"pretrained": "yes"}], ())
    assert found.pretrained == "yes"


def test_a_published_network_that_began_with_anothers_weights_is_pretrained():
    found = {entry.method: entry.pretrained for entry in entries.of_ours(results.read(), results.ablations())}
    transferred = [method for method in found if "from a joint network" in method]
    assert transferred
    assert {found[method] for method in transferred} == {"yes"}
    assert {said for method, said in found.items() if method not in transferred} == {"no"}


def test_a_text_of_latex_is_escaped():
    cells = leaderboard_files.as_tex([leaderboard.Section("breastmnist", 28, [method("a_b%c~d")], [])])
    assert r"a\_b\%c\textasciitilde{}d" in cells
