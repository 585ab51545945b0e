"""The tables of folds in the guide are the means of the rows that are kept."""

import re
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]
EPOCHS = {"breastmnist": 30, "vesselmnist3d": 15}


def tables():
    """(flag, network, AUC, log loss) of each line that has rows of its own."""
    text = (ROOT / "docs" / "results.md").read_text().split("## Folds")[1].split("\n## ")[0]
    parts = re.split(r"^(BreastMNIST|VesselMNIST3D), [\d,]+ \w+:$", text, flags=re.MULTILINE)[1:]
    for title, table in zip(parts[::2], parts[1::2], strict=True):
        for line in re.findall(r"^\| (?:the default \||`\w+[.=]).*\|$", table, flags=re.MULTILINE):
            name, auc, _, loss, _ = (cell.strip() for cell in line.strip("|").split("|"))
            network = "default" if name == "the default" else re.sub(r"^(ablation=|\w+\.)", "", name.split("`")[1])
            yield title.lower(), network, auc, loss


def test_the_guides_tables_are_the_means_of_the_rows():
    rows = pd.read_csv(ROOT / "scale" / "published" / "folds.csv")
    found = list(tables())
    assert len(found) == 12
    for flag, network, auc, loss in found:
        mine = rows[(rows.flag == flag) & (rows.network == network) & (rows.epochs == EPOCHS[flag])]
        assert len(mine) % 3 == 0, (flag, network)
        assert float(auc) == pytest.approx(mine.auc.mean(), abs=0.00051), (flag, network)
        by_fold = mine.groupby("fold")[["log_loss", "samples"]].mean()
        weighted = (by_fold.log_loss * by_fold.samples).sum() / by_fold.samples.sum()
        assert float(loss) == pytest.approx(weighted, abs=0.00051), (flag, network)
