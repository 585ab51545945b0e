import pytest

from scale import benchmark, config


def test_speeds_of_two_networks_side_by_side(capsys, monkeypatch):
    monkeypatch.setattr(benchmark.measure, "__kwdefaults__", {"steps": 1, "rounds": 2})
    benchmark.main(["data=phantom2d", "models=[scale_tiny,resnet18]", "data.batch_size=4", "accelerator=cpu"])
    lines = capsys.readouterr().out.splitlines()
    assert "batch 4, 32-true" in lines[0]
    assert [line.split("|")[1].strip() for line in lines[4:]] == ["`scale_tiny`", "`resnet18`"]
    assert "11.17 | 0.457" in lines[5]


def test_every_round_but_the_first_counts():
    configs = {
        "scale_tiny": config.compose(["model=scale_tiny", "data=phantom2d", "data.batch_size=8", "augment=none"])
    }
    (speed,) = benchmark.measure(configs, device="cpu", steps=1, rounds=3).values()
    assert len(speed.train) == len(speed.evaluate) == 3
    assert speed.memory == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["models=scale", "trainer.precision=64-true"], "give one of 32-true, bf16-mixed, 16-mixed"),
        (["models=scale", "data=npz", "data.path=x.npz", "data.problem=binary"], "give data=<one of them>"),
        (["models=scala"], "did you mean 'scale'"),
        (["models=scale", "model=resnet18"], "give models=[...]"),
    ],
)
def test_what_cannot_be_timed(arguments, said, capsys):
    with pytest.raises(SystemExit):
        benchmark.main(arguments)
    assert said in capsys.readouterr().err
