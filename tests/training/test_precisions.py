"""Every precision and every hardware option trains a step, and says so in the record."""

import functools

import pytest
import torch

import scale
from scale import config
from scale.train import train

PRECISIONS = {"amp": "bf16-mixed", "amp_fp16": "bf16-mixed"}  # float16 needs a GPU: Lightning takes bfloat16 on a CPU


def _train(folder, small, *more):
    return train(scale.compose([*small, "trainer=fast_dev_run", "logger=none", *more]), folder)


@pytest.fixture(autouse=True)
def _as_it_was():
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_float32_matmul_precision("highest")


OPTIONS = [
    pytest.param(name, marks=pytest.mark.slow if name == "compile" else ())  # it traces for a minute
    for name in config.options("hardware")
    if name != "graphs"  # which is for GPUs alone
]


@pytest.mark.parametrize("hardware", OPTIONS)
def test_every_hardware_option_trains_a_step(hardware, small, tmp_path, monkeypatch):
    compiled = []
    compile_with = functools.partial(torch.compile, backend="eager")  # traces, but needs no compiler
    monkeypatch.setattr(torch, "compile", lambda *a, **k: compiled.append(a) or compile_with(*a, **k))
    metrics = _train(tmp_path / "run", small, f"hardware={hardware}")
    assert metrics["steps"] == 1
    assert metrics["precision"] in (PRECISIONS.get(hardware, "32-true"), "16-mixed")
    assert bool(compiled) == (hardware == "compile")
    assert torch.are_deterministic_algorithms_enabled() == (hardware == "deterministic")
    assert torch.get_float32_matmul_precision() == ("high" if hardware == "tf32" else "highest")


@pytest.mark.parametrize("precision", ["64-true", "bf16-true", "16-true"])
def test_every_true_precision_trains_a_step(precision, small, tmp_path):
    metrics = _train(tmp_path / "run", small, f"trainer.precision={precision}", "+optimizer.eps=1e-4")
    assert metrics["precision"] == precision
    assert metrics["steps"] == 1
    kept = torch.load(tmp_path / "run" / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    wanted = torch.float64 if precision == "64-true" else torch.float32
    assert {value.dtype for value in kept.values() if value.is_floating_point()} == {wanted}
