"""A stranger's run folder decides neither code, nor what Hydra does, nor where something is written."""

import json
import math
import shlex
import shutil

import pytest
import torch
import yaml
from omegaconf import OmegaConf

import scale
from scale.config import targets
from scale.explain import explain
from scale.runs import process, resume
from scale.runs.folder import claim, command, refuse_links, reopen
from scale.runs.interruption import Interrupted, stopped
from scale.runs.recompute import evaluate_run
from scale.train import train
from scale.tuning.study import Study

NESTED = {"model": "dropout", "data": "batch_size", "augment": "rotation", "optimizer": "lr", "scheduler": "warmup"}


@pytest.fixture
def copy(a_run, tmp_path):
    return shutil.copytree(a_run, tmp_path / "copy")


@pytest.fixture
def begun(copy):
    """A run that has not finished."""
    (copy / "metrics.json").unlink()
    return copy


def _change(folder, key, value):
    path = folder / "config.yaml"
    config = OmegaConf.load(path)
    OmegaConf.update(config, key, value, force_add=True)
    OmegaConf.save(config, path)


def _record(folder, *more):
    path = folder / "overrides.yaml"
    path.write_text(yaml.safe_dump([*yaml.safe_load(path.read_text()), *more]))


def _shell(marker):
    return {"_target_": "torch.utils.collect_env.run", "command": f"touch {marker}"}


def test_a_recorded_override_that_cannot_be_is_said_to_be_the_records(begun):
    """A bit of `test` in `data.samples` was flipped."""
    path = begun / "overrides.yaml"
    path.write_text(path.read_text().replace("test:", "tdst:"))
    with pytest.raises(ValueError, match="no such key") as error:
        resume.expand([f"resume={begun}"])
    assert str(error.value).startswith(f"{path}: data.samples=")
    assert "data.samples.tdst: there is no such key; did you mean 'data.samples.test'" in str(error.value)
    assert "command line" not in str(error.value)


@pytest.mark.parametrize("place", [*NESTED, *(f"{node}.{leaf}" for node, leaf in NESTED.items()), "task", "data.root"])
def test_code_that_a_folder_names_does_not_run(place, copy, tmp_path):
    marker = tmp_path / "marker"
    _change(copy, place, _shell(marker))
    said = r"config\.yaml: .*_target_=torch\.utils\.collect_env\.run.*allow=\[torch\]"
    with pytest.raises(targets.TargetError, match=said):
        scale.load_run(copy)
    with pytest.raises(targets.TargetError, match=said):
        evaluate_run(copy)
    with pytest.raises(targets.TargetError, match=said):
        explain(scale.compose([f"run={copy}"], name="explain"))
    assert not marker.exists()


@pytest.mark.parametrize("key", ["resume", "rerun"])
@pytest.mark.parametrize("place", ["model.dropout", "callbacks.x", "logger.x", "trainer.plugins", "augment.x"])
def test_code_that_overrides_name_does_not_run(key, place, copy, tmp_path):
    if key == "resume":
        (copy / "metrics.json").unlink()
    marker = tmp_path / "marker"
    shell = ", ".join(f"{name}: '{value}'" for name, value in _shell(marker).items())
    _record(copy, f"++{place}={{{shell}}}")
    with pytest.raises(targets.TargetError, match=r"_target_=torch\.utils\.collect_env\.run.*allow=\[torch\]"):
        resume.expand([f"{key}={copy}"])
    assert not marker.exists()


def test_a_users_own_network_is_allowed_by_the_user_alone(begun):
    _record(begun, "model._target_=my_package.Net")
    with pytest.raises(targets.TargetError, match=r"my_package\.Net.*allow=\[my_package\]"):
        resume.expand([f"resume={begun}"])
    assert "model._target_=my_package.Net" in resume.expand([f"resume={begun}", "allow=[my_package]"])
    assert resume.expand([f"resume={begun}", "model._target_=my_package.Net"])
    with pytest.raises(targets.TargetError):
        resume.expand([f"resume={begun}", "variant=my_package.NetOfAnother"])
    _record(begun, "allow=[torch]", "+callbacks.x._target_=torch.load")
    with pytest.raises(targets.TargetError, match=r"torch\.load"):
        resume.expand([f"resume={begun}", "allow=[my_package]"])


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("hydra.run.dir=/tmp/elsewhere", "nothing to Hydra"),
        ("+hydra.callbacks.x._target_=os.system", "nothing to Hydra"),
        ("hydra/launcher=joblib", "nothing to Hydra"),
        ("hydra.searchpath=[file:///tmp]", "nothing to Hydra"),
        ("+callbacks@hydra.callbacks=default", "nothing to Hydra"),
        ("experiment=../../../../tmp/evil", "a name, not a path"),
        ("+callbacks.x={_target_: lightning.pytorch.callbacks.ModelCheckpoint, dirpath: /tmp/x}", "where something is"),
        ("logger.tensorboard.name=../../elsewhere", "where something is written"),
        ("seed=1,2", "several runs"),
        ("seed", "no override"),
    ],
)
def test_a_record_says_what_is_trained_and_nothing_else(line, said, begun):
    if line.startswith("logger"):
        _record(begun, "logger=tensorboard")
    _record(begun, line)
    with pytest.raises(ValueError, match=said):
        resume.expand([f"resume={begun}"])


def test_places_of_a_record_are_not_taken_over(begun, tmp_path):
    _record(begun, f"paths.runs={tmp_path / 'elsewhere'}", "allow=[torch]")
    expanded = resume.expand([f"resume={begun}"])
    assert not [text for text in expanded if "elsewhere" in text or text.startswith("allow")]
    environment = json.loads((begun / "environment.json").read_text())
    (begun / "environment.json").write_text(json.dumps({**environment, "config_dir": str(tmp_path)}))
    with pytest.raises(ValueError, match="--config-dir .* give it again"):
        resume.expand([f"resume={begun}"])
    assert resume.expand([f"--config-dir={tmp_path}", f"resume={begun}"])[0] == f"--config-dir={tmp_path}"


def test_no_folder_is_made_on_a_records_word(copy, tmp_path):
    nowhere = tmp_path / "nowhere"
    _change(copy, "data.root", str(nowhere))
    run = scale.load_run(copy)
    with pytest.raises(ValueError, match=r"data\.root=.*no such folder here.*give your own"):
        run.datamodule.setup()
    (copy / "metrics.json").unlink()
    with pytest.raises(ValueError, match=r"data\.root=.*no such folder"):
        resume.expand([f"resume={copy}"])
    assert not nowhere.exists()


@pytest.mark.parametrize("name", ["train.log", ".lock", "checkpoints", "predictions", "figures/x.png"])
def test_nothing_is_written_through_a_link(name, begun, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    path = begun / name
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.symlink_to(outside / "x" if "." in name else outside)
    for take in (reopen, claim):
        with pytest.raises(ValueError, match=r"is a symbolic link .*delete the link"):
            take(begun)
    assert not list(outside.iterdir())


def test_a_network_that_would_never_be_built_is_refused(copy):
    _change(copy, "model.fusion_layers", 10**9)
    with pytest.raises(ValueError, match=r"config\.yaml is damaged: model\.fusion_layers=1000000000: give"):
        scale.load_run(copy)


def test_links_that_wandb_makes_are_its_own(begun):
    (begun / "wandb" / "offline-run-1").mkdir(parents=True)
    (begun / "wandb" / "latest-run").symlink_to("offline-run-1")
    reopen(begun).release()


def test_best_weights_that_are_lost_are_not_replaced_by_the_last(begun):
    assert resume.last_checkpoint(begun) == begun / "checkpoints" / "last.ckpt"
    best = begun / "checkpoints" / "best.ckpt"
    content = best.read_bytes()
    best.write_bytes(content[:-100])
    with pytest.raises(ValueError, match=r"best\.ckpt is damaged"):
        resume.last_checkpoint(begun)
    best.unlink()
    with pytest.raises(ValueError, match=r"best\.ckpt is lost"):
        resume.last_checkpoint(begun)


def test_a_checkpoint_that_names_code_is_not_loaded(copy):
    class Evil:
        def __reduce__(self):
            return (print, ("code of a stranger",))

    path = copy / "checkpoints" / "best.ckpt"
    state = torch.load(path, weights_only=True)
    torch.save({**state, "evil": Evil()}, path)
    with pytest.raises(ValueError, match=r"best\.ckpt is damaged or no checkpoint"):
        scale.load_run(copy)


def _checkpoint(folder, change):
    path = folder / "checkpoints" / "last.ckpt"
    state = torch.load(path, weights_only=True)
    change(state)
    torch.save(state, path)


def _other_rows(state):
    rows = next(found["rows"] for found in state["callbacks"].values() if "rows" in found)
    rows[0]["val/loss"] += 1e-3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_other_rows, r"last\.ckpt is not of the run that wrote history\.csv: val/loss of epoch 0"),
        (lambda state: state.pop("loops"), r"last\.ckpt has no loops"),
        (lambda state: state.pop("optimizer_states"), r"last\.ckpt has no optimizer_states"),
    ],
)
def test_a_checkpoint_of_another_run_is_not_resumed_from(change, said, begun):
    _checkpoint(begun, change)
    with pytest.raises(ValueError, match=said):
        resume.last_checkpoint(begun)


def test_a_val_loss_that_was_nan_is_no_other_run(begun):
    """Such a run could never be resumed: nan is unlike nan."""

    def change(state):
        next(found["rows"] for found in state["callbacks"].values() if "rows" in found)[0]["val/loss"] = math.nan

    _checkpoint(begun, change)
    lines = (begun / "history.csv").read_text().splitlines()
    cells = lines[1].split(",")
    cells[lines[0].split(",").index("val/loss")] = "nan"
    (begun / "history.csv").write_text("\n".join([lines[0], ",".join(cells), *lines[2:]]) + "\n")
    assert resume.last_checkpoint(begun) == begun / "checkpoints" / "last.ckpt"


@pytest.mark.parametrize(
    "damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"epoch,val/loss\n0,\xff")]
)
def test_a_history_that_is_lost_is_in_the_checkpoint(damage, begun):
    damage(begun / "history.csv")
    assert resume.last_checkpoint(begun) == begun / "checkpoints" / "last.ckpt"


@pytest.mark.parametrize(
    "change",
    [
        lambda weights: weights.popitem(),
        lambda weights: weights.update({"net.more": torch.zeros(1)}),
        lambda weights: weights.update({next(iter(weights)): torch.zeros(1, 2, 3, 4, 5)}),
    ],
)
def test_weights_that_do_not_fit_are_said_in_one_line(change, begun):
    _checkpoint(begun, lambda state: change(state["state_dict"]))
    expanded = resume.expand([f"resume={begun}"])
    config = scale.compose([text for text in expanded if not text.startswith("hydra.")])
    with pytest.raises(ValueError, match=r"last\.ckpt: its weights do not fit the network \(first at net\."):
        train(config, begun)


@pytest.mark.parametrize("slashes", [0, 1, 3, 7])
@pytest.mark.parametrize("key", ["resume", "rerun"])
def test_an_interpolation_of_a_record_is_not_resolved(key, slashes, copy, begun, tmp_path):
    """Each reading took one backslash away, until Hydra called what the text named."""
    if key == "rerun":
        (begun / "metrics.json").write_text("{}")
    _record(begun, "data.cache='" + "\\" * slashes + "${oc.create:{_target_:pandas.read_pickle,filepath_or_buffer:x}}'")
    with pytest.raises(ValueError, match="an interpolation is not resolved on the word of a record; give data.cache="):
        resume.expand([f"{key}={begun}"])
    assert f"data.cache={tmp_path}" in resume.expand([f"{key}={begun}", f"data.cache={tmp_path}"])


def test_a_record_does_not_write_into_the_working_folder(begun):
    callback = "{_target_: lightning.pytorch.callbacks.ModelCheckpoint, dirpath: src, filename: train}"
    _record(begun, f"+callbacks.mine={callback}")
    with pytest.raises(ValueError, match="callbacks.mine.dirpath=src: a record does not say where"):
        resume.expand([f"resume={begun}"])
    given = ["callbacks.mine.dirpath=src", "callbacks.mine.filename=train"]
    assert resume.expand([f"resume={begun}", *given])


def test_aliases_are_in_no_record(copy):
    """A hundred and eighty bytes of them took seconds, two hundred hours."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    (copy / "config.yaml").write_text("\n".join(lines))
    with pytest.raises(ValueError, match=r"config\.yaml is damaged: it holds no YAML \(it has aliases"):
        scale.load_run(copy)


def test_a_job_is_started_through_no_link(tmp_path):
    """Its output was added to whatever the link named, its configuration deleted there."""
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "config.yaml").write_text("mine")
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "0").symlink_to(tmp_path / "victim")
    with pytest.raises(ValueError, match="is a symbolic link"):
        process.start([], tmp_path / "sweep" / "0")
    (tmp_path / "sweep" / "1").mkdir()
    (tmp_path / "sweep" / "1" / "console.log").symlink_to(tmp_path / "victim" / "config.yaml")
    with pytest.raises(ValueError, match=r"console\.log' is a symbolic link"):
        process.start([], tmp_path / "sweep" / "1")
    with pytest.raises(ValueError, match="is a symbolic link"):
        Study(tmp_path / "sweep", space={}, config={})
    assert [path.name for path in (tmp_path / "victim").iterdir()] == ["config.yaml"]
    assert (tmp_path / "victim" / "config.yaml").read_text() == "mine"


def test_links_of_libraries_stay(tmp_path):
    (tmp_path / ".submitit" / "1").mkdir(parents=True)
    (tmp_path / ".submitit" / "1" / "1_submission.sh").touch()
    (tmp_path / ".submitit" / "submission.sh").symlink_to(tmp_path / ".submitit" / "1" / "1_submission.sh")
    refuse_links(tmp_path)
    (tmp_path / ".submitit" / "out").symlink_to("/tmp")
    with pytest.raises(ValueError, match="is a symbolic link"):
        refuse_links(tmp_path)


def test_what_goes_on_with_a_run_is_a_command_that_a_shell_takes(begun, tmp_path):
    place = begun.rename(tmp_path / "my runs")
    assert shlex.split(command("resume", place))[-1] == f"resume={place}"
    path = place / "environment.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "config_dir": "/of mine"}))
    assert shlex.split(command("rerun", place))[-3:] == ["--config-dir", "/of mine", f"rerun={place}"]


def test_a_request_to_stop_is_seen_behind_an_error_of_a_library():
    error = ConnectionError("server is away")
    error.__context__ = Interrupted(10)
    assert stopped(error).number == 10
    assert stopped(ValueError()) is None
