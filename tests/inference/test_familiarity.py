"""How far an image lies from the training data: the distance, its threshold, where it is kept."""

import json
import shutil

import numpy as np
import pytest
import torch
from sklearn.covariance import LedoitWolf

import scale
from scale.data import store
from scale.inference import familiarity
from scale.inference.predictor import Predictor


def test_the_distance_is_mahalanobis_with_shrinkage():
    """Against scikit-learn's own, of standardised features; also with more features than samples."""
    rng = np.random.default_rng(0)
    for count, width in ((400, 6), (40, 90)):
        train = rng.normal(size=(count, width)) @ rng.normal(size=(width, width)) * np.linspace(1, 50, width) + 7
        other = rng.normal(size=(20, width)) * 30
        found = familiarity.fit(train, other)
        scale_ = train.std(axis=0)
        oracle = LedoitWolf(assume_centered=True).fit((train - train.mean(axis=0)) / scale_)
        expected = np.sqrt(oracle.mahalanobis((other - train.mean(axis=0)) / scale_))
        assert np.allclose(found.distance(other), expected, rtol=1e-3)
        assert np.allclose(found.val, expected, rtol=1e-3)
    constant = np.concatenate([train, np.ones((len(train), 1))], axis=1)  # a feature that is always the same
    assert np.isfinite(familiarity.fit(constant, constant).val).all()


def test_a_share_of_files_like_val_lies_beyond_the_threshold():
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(400):
        scores = rng.normal(size=60)
        shares.append((rng.normal(size=200) > familiarity.threshold(scores)).mean())
    assert 0.04 < np.mean(shares) <= 0.053  # the conformal quantile: not more than 5 % are promised
    assert familiarity.threshold(np.array([3.0, 1.0])) == 3  # too few for any promise: the largest


def test_a_run_keeps_what_its_training_data_look_like(run2d, tmp_path):
    """Training measures it once; without the file it is measured again where the data are, else energy is said."""
    run = scale.load_run(run2d)
    kept = familiarity.of_run(run)
    assert not run.datamodule.splits  # the run folder was enough
    shutil.copytree(run2d, tmp_path / "run")
    (tmp_path / "run" / familiarity.NAME).unlink()
    copied = scale.load_run(tmp_path / "run")
    again = familiarity.of_run(copied)
    assert (tmp_path / "run" / familiarity.NAME).is_file()
    for name in ("center", "whitening", "val"):
        assert np.allclose(getattr(kept, name), getattr(again, name), rtol=1e-4, atol=1e-5), name
    images = np.random.default_rng(0).integers(0, 256, (4, 28, 28, 3), np.uint8)
    rows = [Predictor.of_runs([one]).predict(images) for one in (run, copied)]
    assert np.allclose(rows[0]["unlike_score"], rows[1]["unlike_score"], rtol=1e-4)


def test_other_weights_or_a_damaged_file_are_not_believed(run2d, tmp_path):
    shutil.copytree(run2d, tmp_path / "run")
    run = scale.load_run(tmp_path / "run")
    path = tmp_path / "run" / familiarity.NAME
    own = familiarity.of_run(run)
    content = path.read_bytes()
    for damaged in (b"", content[:100], b"no zip"):
        path.write_bytes(damaged)
        assert np.allclose(familiarity.of_run(run).val, own.val, rtol=1e-4)
    with torch.no_grad():
        next(run.model.net.parameters()).mul_(2)
    path.write_bytes(content)
    assert not np.allclose(familiarity.of_run(run).val, own.val, rtol=1e-2)


def test_without_the_data_the_energy_is_used_and_said(run2d, tmp_path, caplog, monkeypatch):
    shutil.copytree(run2d, tmp_path / "run")
    (tmp_path / "run" / familiarity.NAME).unlink()
    run = scale.load_run(tmp_path / "run")

    def gone(*_):
        raise FileNotFoundError("phantoms.npz is missing")

    monkeypatch.setattr(type(run.datamodule), "open", gone)
    predictor = Predictor.of_runs([run])
    assert predictor.uncertainty.unlike.score == "energy"
    assert "phantoms.npz is missing" in caplog.text
    assert "energy" in caplog.text
    image = np.random.default_rng(0).integers(0, 256, (28, 28, 3), np.uint8)
    assert np.isfinite(predictor.predict(image)["unlike_score"]).all()


def test_a_run_folder_that_cannot_be_written(run2d, tmp_path, caplog, monkeypatch):
    shutil.copytree(run2d, tmp_path / "run")
    (tmp_path / "run" / familiarity.NAME).unlink()
    run = scale.load_run(tmp_path / "run")

    def full(*_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(familiarity, "keep", full)
    assert familiarity.of_run(run).val.shape == (40,)
    assert "Read-only" in caplog.text


def test_arrays_of_another_shape_are_not_read(run2d, tmp_path, monkeypatch):
    """A file of a stranger's may be made to fill memory."""
    shutil.copytree(run2d, tmp_path / "run")
    run = scale.load_run(tmp_path / "run")
    familiarity.of_run(run)
    path = tmp_path / "run" / familiarity.NAME
    with np.load(path) as file:
        arrays = dict(file)
    assert familiarity._read(run) is not None
    np.savez_compressed(path, **{**arrays, "center": np.zeros(10**7)})
    monkeypatch.setattr(familiarity.archive, "read_array", lambda *_: pytest.fail("it was read"))
    assert familiarity._read(run) is None


@pytest.mark.parametrize("kind", ["forward alone", "features of any shape", "not a number"])
def test_networks_of_ones_own(run2d, kind, caplog):
    """A network with `forward` alone, or one whose features make no sense, costs nobody the run or the prediction."""

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.head = torch.nn.Linear(3, 4)

        def forward(self, x):
            return self.head(x.mean(dim=(2, 3)))

    class Featured(Net):
        def forward_features(self, x):
            return x[:, :, :2, :2] * (float("nan") if kind == "not a number" else 1)

        def forward_head(self, features):
            return self.head(features.mean(dim=(2, 3)))

    run = scale.load_run(run2d)
    run.datamodule.setup()
    found = familiarity.measure((Net if kind == "forward alone" else Featured)(), run.datamodule, device="cpu")
    assert (found is not None) == (kind == "features of any shape")
    assert found is None or found.center.shape == (12,)
    object.__setattr__(run.model, "net", Net())
    predictor = Predictor.of_runs([run])
    assert predictor.uncertainty.unlike.score == "energy"
    assert "shows no features" in caplog.text
    image = np.random.default_rng(0).integers(0, 256, (28, 28, 3), np.uint8)
    assert np.isfinite(predictor.predict(image)["unlike_score"]).all()


def test_nothing_is_downloaded_for_it(run2d, tmp_path, monkeypatch):
    from scale.data.datamodule import MedMNISTDataModule

    run = scale.load_run(run2d)
    monkeypatch.setattr(familiarity, "_read", lambda run: None)
    object.__setattr__(run, "datamodule", MedMNISTDataModule("bloodmnist", root=str(tmp_path)))
    monkeypatch.setattr(store, "fetch", lambda *_, **__: pytest.fail("downloads"))
    assert "data.download=false" in familiarity.of_run(run)
    assert run.datamodule.source["download"]


def test_noise_looks_unlike_phantoms_and_test_samples_do_not(run2d):
    run = scale.load_run(run2d)
    predictor = Predictor.of_runs([run])
    assert predictor.uncertainty.record()["unlike_score"] == "mahalanobis"
    noise = np.random.default_rng(0).integers(0, 256, (24, 28, 28, 3), np.uint8)
    run.datamodule.setup()
    own = run.datamodule.splits["test"].images.gather(np.arange(24))
    scores = [predictor.predict(images)["unlike_score"] for images in (own, noise)]
    assert scores[1].min() > scores[0].max()
    assert predictor.predict(noise)["unlike_training"].all()


def test_several_runs_share_one_mean_score(run2d):
    run = scale.load_run(run2d)
    image = np.random.default_rng(0).integers(0, 256, (28, 28, 3), np.uint8)
    one, two = (Predictor.of_runs([run] * count) for count in (1, 2))
    assert one.uncertainty.unlike == two.uncertainty.unlike
    assert one.predict(image)["unlike_score"][0] == pytest.approx(two.predict(image)["unlike_score"][0])
    assert json.dumps(one.uncertainty.record())
