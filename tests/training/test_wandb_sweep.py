"""`conf/wandb_sweep.yaml` is a sweep of W&B's own: what its agents call is a command of ours, with keys of ours."""

import yaml

from scale import config
from scale.config.keys import UNTUNABLE

SWEEP = yaml.safe_load((config.directory() / "wandb_sweep.yaml").read_text())


def values(parameter):
    return parameter["values"] if "values" in parameter else [parameter["min"], parameter["max"]]


def test_every_value_composes_in_the_command_that_an_agent_makes(monkeypatch, tmp_path):
    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

    monkeypatch.chdir(tmp_path)
    for place in (0, -1):
        chosen = {name: values(parameter)[place] for name, parameter in SWEEP["parameters"].items()}
        made = create_sweep_command_args({"args": {name: {"value": value} for name, value in chosen.items()}})
        called = []
        for word in create_sweep_command([*SWEEP["command"]]):  # as wandb_agent.Agent._command_run fills it in
            called += {"${interpreter}": ["python"], "${args_no_hyphens}": made["args_no_hyphens"]}.get(word, [word])
        assert called[:3] == ["python", "-m", "scale.train"]
        config.check_command_line(called[3:])
        composed = config.flat(config.plain(config.compose(called[3:])))
        assert {key: value for key, value in composed if key in chosen} == chosen
        assert "logger=wandb" in called


def test_the_test_split_decides_nothing():
    assert SWEEP["metric"] == {"name": "val/auc", "goal": "maximize"}
    assert "test=false" in SWEEP["command"]
    assert not set(SWEEP["parameters"]) & set(UNTUNABLE)


def test_parameters_are_single_keys():
    """W&B locks the value of a parameter, and would keep out the whole group of that name from the run's config."""
    assert all("." in name for name in SWEEP["parameters"])
