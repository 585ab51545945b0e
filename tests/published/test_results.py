"""What the README promises of whole trainings, minutes to an hour each: `pytest -m slow` on this file."""

import pytest
import torch

import scale
from scale.runs.recompute import evaluate_run
from scale.train import train


@pytest.mark.slow
def test_default_phantom(tmp_path):
    metrics = train(scale.compose([f"data.root={tmp_path}"]), tmp_path / "run")
    assert metrics["test"]["auc"] >= 0.95


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flag", "size", "least"),
    [("vesselmnist3d", 28, 0.93), ("vesselmnist3d", 64, 0.93), ("breastmnist", 28, 0.86), ("pneumoniamnist", 28, 0.95)],
)
def test_real_data(flag, size, least, real_data, tmp_path):
    overrides = [f"data={flag}", f"data.size={size}", f"data.root={real_data}"]
    metrics = train(scale.compose(overrides), tmp_path / "run")
    assert metrics["test"]["auc"] >= least
    assert evaluate_run(tmp_path / "run")["difference"] <= 1e-6


@pytest.mark.slow
def test_compiled_network_trains(small, tmp_path):
    metrics = train(scale.compose([*small, "hardware=compile"]), tmp_path / "run")
    plain = train(scale.compose(small), tmp_path / "plain")
    assert metrics["val"]["log_loss"] == pytest.approx(plain["val"]["log_loss"], abs=0.02)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("hardware", ["default", "amp", "amp_fp16", "deterministic", "graphs"])
def test_one_gpu(small, hardware, tmp_path):
    metrics = train(scale.compose([*small, "trainer=gpu", f"hardware={hardware}"]), tmp_path / "run")
    cpu = train(scale.compose(small), tmp_path / "cpu")
    assert metrics["val"]["log_loss"] == pytest.approx(cpu["val"]["log_loss"], abs=0.05)  # the same training
    assert "CPU" not in metrics["hardware"]
    assert evaluate_run(tmp_path / "run", device="cuda")["difference"] < 0.05
