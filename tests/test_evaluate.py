"""The command on finished runs and prediction files."""

import pytest
from omegaconf import OmegaConf

from scale import evaluate


def config(**given):
    """As the command line would make it."""
    schema = {"run": None, "runs": None, "predictions": None, "output": None, "report": False}
    schema |= {"corruptions": None, "accelerator": "auto", "set": None, "heads": False}
    schema["evaluation"] = {"tta": False, "calibrate": None, "threshold": None, "coverage": None}
    return OmegaConf.merge(OmegaConf.create({**schema, "data": {}}), OmegaConf.create(given))


def test_report_is_made_anew_with_what_was_chosen(monkeypatch, capsys):
    asked = {}
    monkeypatch.setattr(
        "scale.reporting.refresh.refresh", lambda folder, **chosen: asked.update(chosen, folder=folder) or "a page"
    )
    monkeypatch.setattr("scale.runs.read_metrics", lambda folder: {})
    assert evaluate._run(config(run="somewhere", report=True, evaluation={"calibrate": "temperature"})) == 0
    assert asked == {"folder": "somewhere", "calibrate": "temperature", "threshold": None, "coverage": None}
    assert "written: a page" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"run": "x", "evaluation": {"coverage": 0.8}}, "evaluation.coverage=0.8 is for report=true"),
        ({"predictions": "x", "report": True}, "report=true is for run=<folder> alone"),
        ({"run": "x", "report": True, "evaluation": {"tta": True}}, "leave evaluation.tta out"),
        ({"run": "x", "report": True, "evaluation": {"threshold": "best"}}, "allowed: youden, f1"),
    ],
)
def test_choices_that_would_change_nothing_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        evaluate._run(config(**given))
