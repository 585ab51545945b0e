"""The pooled predictions of a cross-validation: every sample once, by the fold that tests it."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from scale.config import compose
from scale.data.own import NpzDataModule
from scale.preparing.job import prepare
from scale.preparing.settings import Settings
from scale.sweeps import out_of_fold
from scale.utils.files import write_json

COUNT = 30


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Thirty images of fifteen patients in three folds; a sample's first pixels say its number."""
    folder = tmp_path_factory.mktemp("folds")
    images = np.random.default_rng(0).integers(0, 256, (COUNT, 12, 12), np.uint8)
    images[:, 0, 0] = np.arange(COUNT)
    np.savez(folder / "in.npz", images=images, labels=np.arange(COUNT) // 2 % 2, groups=np.arange(COUNT) // 2)
    settings = Settings(folds=3, size=12)
    return prepare(folder / "out.npz", source=folder / "in.npz", table=None, settings=settings, workers=1).path


def finished(folder, prepared, fold):
    """A run folder with predictions that tell which sample they are of, without a training."""
    config = compose(["data=npz", f"data.path={prepared}", f"data.fold={fold}", "model=scale_tiny"])
    module = NpzDataModule(str(prepared), fold=fold)
    module.setup()
    test = module.splits["test"]
    numbers = test.images.gather(np.arange(len(test)))[:, 0, 0].astype(float)
    (folder / "predictions").mkdir(parents=True)
    OmegaConf.save(config, folder / "config.yaml", resolve=True)
    chance = np.stack([1 - numbers / 100, numbers / 100], axis=1)
    arrays = {"index": np.arange(len(test)), "logits": chance, "probabilities": chance, "labels": test.labels}
    np.savez(folder / "predictions" / "test.npz", **arrays)
    shape = [1, 12, 12]
    write_json(folder / "metrics.json", {"flag": "out", "problem": "binary", "num_classes": 2, "image_shape": shape})
    return {"status": "done", "folder": str(folder), "settings": {"data": "npz", "data.fold": str(fold)}}


def test_every_sample_once_with_its_own_prediction(tmp_path, prepared):
    rows = [finished(tmp_path / str(fold), prepared, fold) for fold in range(3)]
    lines = out_of_fold.write(tmp_path, rows)
    assert f"(n = {COUNT}, 3 folds)" in lines[0]
    with (tmp_path / out_of_fold.NAME).open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [int(row["index"]) for row in table] == list(range(COUNT))
    for row in table:
        number = int(row["path"].rpartition("/")[2])
        assert float(row["p_class 1"]) == pytest.approx(number / 100)
        assert int(row["label"]) == number // 2 % 2
    sides = {}
    for row in table:
        sides.setdefault(int(row["path"].rpartition("/")[2]) // 2, set()).add(row["fold"])
    assert all(len(side) == 1 for side in sides.values())  # a patient is tested by one model


def test_what_is_missing_is_said(tmp_path, prepared):
    rows = [finished(tmp_path / str(fold), prepared, fold) for fold in range(2)]
    missing = {"status": "failed", "folder": "", "settings": {"data": "npz", "data.fold": "2"}}
    assert "fold 2 is not done" in out_of_fold.write(tmp_path, [*rows, missing])[0]
    assert not (tmp_path / out_of_fold.NAME).exists()
    with pytest.raises(ValueError, match="samples are in none of the folds"):
        out_of_fold.pool([tmp_path / "0", tmp_path / "1"])


def test_a_file_that_was_prepared_again_is_not_taken_for_the_one_that_was_trained_on(tmp_path, prepared):
    """Each prediction would stand beside another image."""
    rows = [finished(tmp_path / str(fold), prepared, fold) for fold in range(3)]
    modules = [NpzDataModule(str(prepared), fold=fold) for fold in range(3)]
    for row, module in zip(rows, modules, strict=True):
        module.setup()
        path = Path(row["folder"]) / "metrics.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "data_sha256": module.content}))
    folders = [Path(row["folder"]) for row in rows]
    assert len(out_of_fold.pool(folders)[0]["index"]) == COUNT
    path.write_text(json.dumps({**json.loads(path.read_text()), "data_sha256": modules[0].content}))
    with pytest.raises(ValueError, match=r"2 was trained on other images or folds than .*out.npz has now"):
        out_of_fold.pool(folders)
