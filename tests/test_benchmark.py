from pathlib import Path

import pytest
import torch

from scale import benchmark, config
from scale.preparing import speed
from scale.training.trainer import build_trainer


def test_speeds_of_two_networks_side_by_side(capsys, monkeypatch):
    monkeypatch.setattr(benchmark.measure, "__kwdefaults__", {"steps": 1, "rounds": 2})
    benchmark.main(["data=phantom2d", "models=[scale_tiny,resnet18]", "data.batch_size=4", "data.eval_batch_size=8"])
    lines = capsys.readouterr().out.splitlines()
    assert "batch 4, 32-true" in lines[0]
    assert [line.split("|")[1].strip() for line in lines[4:]] == ["`scale_tiny`", "`resnet18`"]
    assert "11.17 | 0.457" in lines[5]


def test_every_round_but_the_first_counts():
    configs = {
        "scale_tiny": config.compose(
            ["model=scale_tiny", "data=phantom2d", "data.batch_size=8", "augment=none", *benchmark.ALWAYS]
        )
    }
    (speed,) = benchmark.measure(configs, steps=1, rounds=3).values()
    assert len(speed.train) == len(speed.evaluate) == 3
    assert speed.memory == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["models=scale", "data=npz", "data.path=x.npz", "data.problem=binary"], "give data=<one of them>"),
        (["models=scala"], "did you mean 'scale'"),
        (["models=scale", "model=resnet18"], "give models=[...]"),
    ],
)
def test_what_cannot_be_timed(arguments, said, capsys):
    with pytest.raises(SystemExit):
        benchmark.main(arguments)
    assert said in capsys.readouterr().err


def test_preparation_beside_bare_decoding(capsys, monkeypatch):
    monkeypatch.setattr(speed.measure, "__kwdefaults__", {"rounds": 2})
    monkeypatch.setattr(speed, "_decode_all", lambda paths, workers: speed._decode(paths))  # without new processes
    monkeypatch.setattr(speed, "DIFFERENT", 8)
    benchmark.main(["prepare=40", "size=24", "workers=1"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "40 PNG files of 24 x 24 x 3, 1 processes, 2 rounds in turns"
    rates = [float(line.split("|")[2].split("(")[0]) for line in lines[4:6]]
    assert 0 < rates[1] < rates[0]  # it decodes, and does more
    assert "% of Pillow's rate" in lines[-1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["prepare=0"], "at least 1"),
        (["prepare=9"], "at least 40"),
        (["prepare=100", "data=breastmnist"], "only size=PIXELS and workers=PROCESSES"),
    ],
)
def test_preparations_that_cannot_be_timed(arguments, said, capsys):
    with pytest.raises(SystemExit):
        benchmark.main(arguments)
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("setting", ["hardware=tf32", "hardware=deterministic", "trainer.accumulate_grad_batches=2"])
def test_settings_of_hardware_and_trainer_are_in_force(setting, monkeypatch):
    """They did nothing while the benchmark had its own copy of the training step."""
    seen = []

    def noted(network, steps):
        trainer = build_trainer(network.config, Path(), samples=16, logger=False)
        seen.append((torch.get_float32_matmul_precision(), torch.are_deterministic_algorithms_enabled()))
        seen.append(trainer.accumulate_grad_batches)
        return 1.0, 1.0

    monkeypatch.setattr(benchmark, "_round", noted)
    before = torch.get_float32_matmul_precision()
    try:
        benchmark.measure(
            {"x": config.compose(["model=scale_tiny", "data=phantom2d", setting, *benchmark.ALWAYS])}, rounds=0
        )
    finally:
        torch.set_float32_matmul_precision(before)
        torch.use_deterministic_algorithms(mode=False)
    expected = {
        "hardware=tf32": [("high", False), 1],
        "hardware=deterministic": [("highest", True), 1],
        "trainer.accumulate_grad_batches=2": [("highest", False), 2],
    }
    assert seen == expected[setting]


def test_a_gpu_that_is_not_there_is_an_error(capsys):
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(SystemExit):
        benchmark.main(["models=scale_tiny", "data=phantom2d", "trainer=gpu"])
    assert "no CUDA device is visible" in capsys.readouterr().err


@pytest.mark.parametrize("sizes", [(16, 128), (64, 16)])
def test_evaluation_times_as_many_batches_as_training(sizes):
    """There were batches for one round only, of which one was timed."""
    batch, evaluated = sizes
    given = ["model=scale_tiny", "data=phantom2d", f"data.batch_size={batch}", f"data.eval_batch_size={evaluated}"]
    network = benchmark._prepare(config.compose([*given, *benchmark.ALWAYS]), batches=24)
    assert len(network.datamodule.val_dataloader()) >= 24
    assert len(network.datamodule.train_dataloader()) >= 24
