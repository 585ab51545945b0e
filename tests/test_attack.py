"""A stranger's run folder, opened by every command that opens one: its code never runs.

Covers evaluate (run=, runs=, report=true, corruptions=), explain (run=, compare=), predict (run=, runs=), export,
serve, report (runs=, a run folder, a sweep's folder), train (resume=, rerun=, a job of a sweep) and `load_run`.
A stranger's study is in `tuning/test_study.py`, an exported model in `exporting/test_export.py`. prepare, describe
and benchmark open no run.
"""

import importlib.util
import json
import shutil
from functools import cache

import pytest
from omegaconf import OmegaConf

import scale
from scale import evaluate, explain, export, predict, report, serve
from scale.config import targets
from scale.runs import process as jobs
from scale.runs import resume
from scale.train import train
from scale.utils.cli import USER_ERRORS

SHELL = "torch.utils.collect_env.run"
BUILT = ("data", "augment", "model", "task", "optimizer", "scheduler")
NESTED = ("data.batch_size", "augment.rotation", "model.dropout", "task.label_smoothing", "optimizer.lr", "data.root")
LISTED = ("model.planar_widths", "optimizer.betas")  # in a list in a list
NOT_BUILT = ("callbacks.x", "callbacks.checkpoint.monitor", "logger.x", "trainer.plugins", "trainer", "hydra.x", "x")
SAID = rf"_target_={SHELL}.*allow=\[torch\]"


def _evil(marker):
    return {"_target_": SHELL, "command": f"touch {marker}"}


class Stranger:
    """A run folder, and another one of the same run that is clean."""

    def __init__(self, a_run, place):
        self.folder = shutil.copytree(a_run, place / "run")
        self.clean = shutil.copytree(a_run, place / "clean")
        self.marker, self.out = place / "marker", place / "out"
        self.image = place / "image.npy"
        self._config = (self.folder / "config.yaml").read_text()

    def poison(self, *places):
        """With the shell in these places of its configuration, and in no other."""
        config = OmegaConf.create(self._config)
        for place in places:
            evil = _evil(self.marker)
            OmegaConf.update(config, place, [1, [evil]] if place in LISTED else evil, force_add=True)
        OmegaConf.save(config, self.folder / "config.yaml")

    def overrides(self, place):
        shell = f"{{_target_: {SHELL}, command: 'touch {self.marker}'}}"
        value = f"[1, [{shell}]]" if place in LISTED else shell
        (self.folder / "overrides.yaml").write_text(json.dumps([*json.loads(self._recorded()), f"++{place}={value}"]))

    @cache  # noqa: B019 - as long as the folder
    def _recorded(self):
        return json.dumps(OmegaConf.to_container(OmegaConf.load(self.folder / "overrides.yaml")))


@pytest.fixture(scope="module")
def stranger(a_run, tmp_path_factory):
    import numpy as np

    found = Stranger(a_run, tmp_path_factory.mktemp("stranger"))
    np.save(found.image, np.zeros((28, 28), np.uint8))
    return found


@cache
def composed(name, *overrides):
    return scale.compose(list(overrides), name=name)


def _serve(it):
    pytest.importorskip("fastapi", reason="the extra serve is not installed")
    serve._run(composed("serve", f"run={it.folder}"))


def _sweep(it):
    folder = it.out.parent / "sweep"
    if not folder.exists():
        folder.mkdir()
        (folder / "sweep.json").write_text(json.dumps({"choices": {}, "jobs": [["data=phantom2d"]]}))
        (folder / "0").symlink_to(it.folder)
        record = {"number": 0, "overrides": ["data=phantom2d"], "attempts": [{}], "status": "done", "reason": ""}
        (it.folder / "job.json").write_text(json.dumps(record))
    report._report([str(folder)])


FAST = ("attribution=fast", "attribution.methods=[saliency]", "samples.wrong=0", "samples.uncertain=0", "groups=false")
BUILDS = {
    "load_run": lambda it: scale.load_run(it.folder),
    "evaluate": lambda it: evaluate._run(composed("evaluate", f"run={it.folder}")),
    "evaluate corruptions": lambda it: evaluate._run(
        composed("evaluate", f"run={it.folder}", "corruptions=breastmnist", f"output={it.out}")
    ),
    "explain": lambda it: explain.explain(composed("explain", f"run={it.folder}", *FAST)),
    "explain compare": lambda it: explain.explain(
        composed("explain", f"run={it.clean}", f"compare=[{it.folder}]", *FAST)
    ),
    "predict": lambda it: predict.predict(
        composed("predict", f"run={it.folder}", f"input={it.image}", f"output={it.out}", "workers=1")
    ),
    "predict runs": lambda it: predict.predict(
        composed("predict", f"runs=[{it.clean},{it.folder}]", f"input={it.image}", f"output={it.out}", "workers=1")
    ),
    "export": lambda it: export.export(composed("export", f"run={it.folder}", f"output={it.out}")),
    "serve": _serve,
}
READS = {
    "evaluate runs": lambda it: evaluate._run(composed("evaluate", f"runs=[{it.clean},{it.folder}]")),
    "evaluate report": lambda it: evaluate._run(composed("evaluate", f"run={it.folder}", "report=true")),
    "report runs": lambda it: report._report([f"runs={it.folder}", f"output={it.out}"]),
    "report folder": lambda it: report._report([f"results={it.out}.csv", "variant=x", str(it.folder)]),
    "report sweep": _sweep,
}
SLOW = ("evaluate corruptions", "predict runs", "export", "explain compare")  # where nothing is refused


def test_the_attack_is_one(stranger):
    """What the list is for: Hydra itself builds it."""
    from hydra.utils import instantiate

    instantiate(_evil(stranger.marker))
    assert stranger.marker.exists()
    stranger.marker.unlink()


@pytest.mark.parametrize("command", BUILDS)
def test_a_place_that_is_built_is_refused(command, stranger):
    for place in (*BUILT, *NESTED, *LISTED):
        stranger.poison(place)
        with pytest.raises(targets.TargetError, match=SAID):
            BUILDS[command](stranger)
    assert not stranger.marker.exists()


@pytest.mark.parametrize("command", [name for name in (*BUILDS, *READS) if name not in SLOW])
def test_a_place_that_is_not_built_stays_text(command, stranger, monkeypatch):
    if importlib.util.find_spec("uvicorn"):  # an extra
        monkeypatch.setattr("uvicorn.run", lambda *_, **__: None)
    stranger.poison(*(NOT_BUILT if command in BUILDS else (*BUILT, *NOT_BUILT)))
    try:
        {**BUILDS, **READS}[command](stranger)
    except USER_ERRORS as error:
        assert len(str(error).splitlines()) == 1  # noqa: PT017
    assert not stranger.marker.exists()


@pytest.mark.parametrize("place", [*BUILT, *NESTED, *LISTED, *NOT_BUILT[:4]])
def test_a_record_that_is_resumed(place, stranger):
    stranger.poison()
    stranger.overrides(place)
    finished = stranger.folder / "metrics.json"
    finished.rename(finished.with_suffix(".kept"))
    try:
        with pytest.raises(ValueError, match=f"{SAID}|an option has a name, not a path"):
            resume.expand([f"resume={stranger.folder}"])
    finally:
        finished.with_suffix(".kept").rename(finished)
    if place in ("model.dropout", "logger.x"):  # through the same door
        with pytest.raises(targets.TargetError, match=SAID):
            resume.expand([f"rerun={stranger.folder}"])
    assert not stranger.marker.exists()


def test_a_configuration_that_its_overrides_do_not_make_is_not_resumed(a_run, tmp_path):
    it = Stranger(a_run, tmp_path)
    it.poison(*BUILT[1:], *NOT_BUILT)
    (it.folder / "metrics.json").unlink()
    expanded = resume.expand([f"resume={it.folder}"])
    config = scale.compose([text for text in expanded if not text.startswith("hydra.")])
    with pytest.raises(ValueError, match="begun with another configuration"):
        train(config, it.folder)
    assert not it.marker.exists()


def test_a_job_of_a_strangers_sweep(a_run, tmp_path, monkeypatch):
    """The sweep resumes the job's folder by the command line that is checked above."""
    it = Stranger(a_run, tmp_path)
    (it.folder / "metrics.json").unlink()
    it.overrides("model.dropout")
    monkeypatch.setattr(jobs, "COMMAND", ("echo",))
    process = jobs.start(["data=phantom2d", "hydra.mode=RUN"], it.folder, output=it.folder / "console.log")
    assert process.wait() == 0
    arguments = (it.folder / "console.log").read_text().split()
    assert arguments[-1] == f"resume={it.folder}"
    with pytest.raises(targets.TargetError, match=SAID):
        resume.expand(arguments)
    assert not it.marker.exists()


@pytest.mark.parametrize(
    "target",
    ["lightning.pytorch.loggers.CSVLogger", "lightning.pytorch.loggers.MLFlowLogger", "lightning.pytorch.Trainer"],
)
def test_what_writes_or_talks_has_no_place_in_a_network(target, stranger, tmp_path):
    """On the list for a training's own logger: as an argument of a network it would write where the record says."""
    stranger.poison()
    config = OmegaConf.load(stranger.folder / "config.yaml")
    OmegaConf.update(config, "model.dropout", {"_target_": target, "save_dir": str(tmp_path / "x")}, force_add=True)
    OmegaConf.save(config, stranger.folder / "config.yaml")
    with pytest.raises(targets.TargetError, match=rf"model\.dropout\._target_={target}.*has no place there"):
        scale.load_run(stranger.folder)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("command", [evaluate, explain, predict, export, serve])
def test_the_command_says_so_in_one_line(command, stranger, monkeypatch, capsys):
    stranger.poison("model.dropout")
    more = {predict: [f"input={stranger.image}", f"output={stranger.out}"]}.get(command, [])
    monkeypatch.setattr("sys.argv", [command.__name__, f"run={stranger.folder}", *more])
    with pytest.raises(SystemExit) as end:
        command.main()
    said = capsys.readouterr().err
    assert end.value.code == 1
    assert said.startswith(f"scale: {stranger.folder}/config.yaml: model.dropout._target_={SHELL}: ")
    assert len(said.splitlines()) == 1
    assert not stranger.marker.exists()


@pytest.mark.parametrize("name", ["evaluate", "explain", "predict", "export", "serve"])
def test_every_command_takes_the_users_own_word(name):
    assert composed(name, "allow=[my_package]").allow == ["my_package"]
