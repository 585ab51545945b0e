import os
import subprocess
import sys
from functools import partial

import pytest
from omegaconf import DictConfig, ListConfig

from scale import config
from scale.config.compose import compose_unchecked
from scale.config.overrides import jobs_to_check
from scale.data import catalog


def problems(*overrides, **options):
    with pytest.raises(config.ConfigError) as error:
        config.compose(list(overrides), **options)
    return error.value.problems


@pytest.mark.parametrize(
    "group", ["model", "trainer", "hardware", "optimizer", "scheduler", "augment", "logger", "debug", "sweep"]
)
def test_every_option_of_every_group_composes(group):
    names = config.options(group)
    assert names
    needs = {"hardware=graphs": ["trainer=gpu"], "model=timm": ["model.name=resnet18", "data=breastmnist"]}
    for name in names:
        config.compose([f"{group}={name}", *needs.get(f"{group}={name}", [])])


def test_every_data_set_composes():
    assert set(catalog.FLAGS) | {"phantom2d", "phantom3d", "controlled", "npz", "folder", "joint"} == set(
        config.options("data")
    )
    for flag in catalog.FLAGS:
        assert config.compose([f"data={flag}"]).data.flag == flag


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("hardware=amp", ("trainer", "precision", "bf16-mixed")),
        ("hardware=amp_fp16", ("trainer", "precision", "16-mixed")),
        ("hardware=default", ("optimizer", "fused", True)),
        ("hardware=amp", ("optimizer", "fused", False)),
        ("hardware=amp_fp16", ("optimizer", "fused", False)),
        ("trainer.precision=bf16-mixed", ("optimizer", "fused", False)),
        ("trainer.precision=16", ("optimizer", "fused", False)),
        ("trainer.precision=bf16-true", ("optimizer", "fused", True)),
        ("hardware=deterministic", ("trainer", "deterministic", True)),
        ("trainer=gpu", ("trainer", "accelerator", "gpu")),
        ("trainer=ddp", ("trainer", "strategy", "ddp")),
        ("trainer=ddp_cpu", ("trainer", "devices", 2)),
        ("hardware=compile", ("task", "compile", True)),
        ("data.size=64", ("data", "size", 64)),
    ],
)
def test_an_option_means_what_it_says(override, expected):
    group, key, value = expected
    assert config.compose([override, "data=vesselmnist3d"])[group][key] == value


def test_one_report_names_everything_that_is_wrong():
    found = problems(
        "data=bloodmist", "seed=abc", "modle=scale", "trainer.max_epochs=3.5", "optimizer.lrr=1", "model=scale"
    )
    text = "\n".join(found)
    assert len(found) == 5
    for part in [
        "did you mean 'bloodmnist'",
        "'abc'",
        "did you mean 'model'",
        "Optional[int]",
        "did you mean 'optimizer.lr'",
    ]:
        assert part in text


def test_size_that_does_not_exist():
    assert "vesselmnist3d has no size 224" in problems("data=vesselmnist3d", "data.size=224")[0]


@pytest.mark.parametrize("given", ["data.root=/d/a=b", "data.root=/d/Scan (1)", "data.root=/d/a[1]"])
def test_a_value_with_signs_of_hydras_own_is_to_be_quoted(given):
    (line,) = problems(given)
    key, _, value = given.partition("=")
    assert line.startswith(f"{given}: ")
    assert line.endswith(f"""put the value in quotes: '{key}="{value}"'""")
    assert config.compose([f'{key}="{value}"']).data.root == value


def test_missing_values_of_an_own_file():
    found = problems("data=npz")
    assert any("data.path must be given" in p for p in found)
    assert any("data.problem must be given" in p for p in found)


IMPOSSIBLE = {
    "threads=-1": "give a whole number from 1 to",
    "budget.samples=0": "at least 1",
    "data.eval_batch_size=0": "at least 1",
    "data.num_workers=-1": "give a whole number from 0 to",
    "trainer.max_epochs=0": "give a whole number from 1 to",
    "trainer.accumulate_grad_batches=0": "at least 1",
    "trainer.check_val_every_n_epoch=0": "at least 1",
    "trainer.devices=0": "number of processes, at least 1",
    "+trainer.limit_val_batches=0": "needs at least one batch",
    "matmul_precision=hihgest": "did you mean 'highest'?; allowed: highest, high, medium",
    "evaluation.calibrate=temprature": "did you mean 'temperature'?; allowed: none, temperature",
    "evaluation.threshold=best": "allowed: youden, f1",
    "evaluation.coverage=90": "give a share between 0 and 1",
    "trainer.limit_train_batches=2": "write +trainer.limit_train_batches=2",
    "seed=-1": "give a number of at least 0",
}


def test_values_that_are_not_possible():
    found = problems(*IMPOSSIBLE)
    assert len(found) == len(IMPOSSIBLE)
    for override, message in IMPOSSIBLE.items():
        (line,) = (line for line in found if line.startswith(override.lstrip("+")))
        assert message in line
    found = problems("seed=4294967296", "trainer.devices=[0,1]", "trainer.max_epochs=-1")
    assert [line.partition("=")[0] for line in found] == ["trainer.max_epochs", "seed", "trainer.devices"]


def test_several_processes_are_refused_a_head_that_nothing_trains():
    weight = "task.auxiliary_weight=0"
    (line,) = problems(weight, "trainer=ddp_cpu")
    assert "ablation=no_auxiliary" in line
    config.compose([weight])
    config.compose(["trainer=ddp_cpu"])
    for network in ("ablation=no_auxiliary", "ablation=planar"):
        config.compose([weight, "trainer=ddp_cpu", network])
    config.compose([weight, "trainer=ddp_cpu", "model=resnet18"])


def test_a_fused_optimizer_whose_gradients_cannot_be_clipped_is_refused():
    fused = "optimizer.fused=true"
    (line,) = problems(fused, "hardware=amp")
    assert "bf16-mixed: Lightning does not clip a fused optimizer's gradients in mixed precision" in line
    for fits in (["hardware=amp", "trainer.gradient_clip_val=0"], ["trainer.precision=bf16-true"], []):
        assert config.compose([fused, *fits]).optimizer.fused
    assert config.compose(["optimizer=adam", "hardware=amp"]).optimizer.get("fused") is None


def test_options_of_the_command_stand_anywhere():
    given = ["data=breastmnist", "--config-dir", "mine", "seed=1", "-m"]
    assert config.options_first(given) == ["--config-dir", "mine", "-m", "data=breastmnist", "seed=1"]
    assert config.options_first(["a=1", "-cd=mine", "-cd"]) == ["-cd=mine", "-cd", "a=1"]


@pytest.mark.parametrize("place", ["{0}/file/run", "{0}/file", "/proc/run", "{0}/" + 300 * "x", "{0}" + 3000 * "/xx"])
def test_a_run_folder_that_cannot_be_made(place, tmp_path, capsys):
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit) as stop:
        config.check_run_folder([f"hydra.run.dir={place.format(tmp_path)}"])
    assert stop.value.code == 1
    assert "cannot write the run folder" in capsys.readouterr().err


def test_a_run_folder_that_can_be_made_is_not_made_yet(tmp_path):
    config.check_run_folder([f"paths.runs={tmp_path}/a/b"])
    config.check_run_folder([f"hydra.run.dir={tmp_path}"])
    assert not list(tmp_path.iterdir())


def test_a_config_dir_that_is_not_there(capsys):
    with pytest.raises(SystemExit):
        config.check_command_line(["--config-dir", "/nowhere", "experiment=mine"])
    assert "--config-dir /nowhere: there is no such folder" in capsys.readouterr().err


def test_values_that_are_possible():
    config.compose(["seed=4294967295", "threads=1", "trainer.max_epochs=1", "+trainer.limit_val_batches=1"])
    config.compose(["trainer=gpu", "trainer.devices=auto", "trainer.detect_anomaly=true"])
    config.compose(["trainer=gpu", "trainer.devices=[0,1]", "matmul_precision=high", "threads=null"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("data:\n  sizee: 28\n", "data.sizee"),
        ("seeed: 3\n", "seeed"),
        ("budget:\n  sampels: 3\n", "sampels"),
        ("defaults:\n  - override /data: bloodmist\n", "bloodmist"),
        ("trainer:\n  max_epochs: many\n", "trainer.max_epochs='many'"),
        ("data: [\n", "experiment/mine.yaml, line 3, column 1: this is no YAML"),
        ("data:\n\tsize: 28\n", "experiment/mine.yaml, line 3, column 1: this is no YAML"),
    ],
)
def test_mistakes_inside_an_experiment_file(tmp_path, content, message):
    folder = tmp_path / "experiment"
    folder.mkdir()
    (folder / "mine.yaml").write_text("# @package _global_\n" + content)
    assert message in "\n".join(problems("experiment=mine", config_dir=str(tmp_path)))


def test_an_experiment_file_of_ones_own(tmp_path):
    folder = tmp_path / "experiment"
    folder.mkdir()
    (folder / "mine.yaml").write_text("# @package _global_\nseed: 7\n")
    assert config.compose(["experiment=mine"], config_dir=str(tmp_path)).seed == 7


def test_a_sweep_is_checked_with_every_value():
    jobs = list(
        jobs_to_check(
            ["data=glob(organ*mnist)", "seed=range(0,2)", "model=scale,scale_tiny", "task.compile=true"],
            multirun=True,
            compose=partial(compose_unchecked, name="train", config_dir=None, hydra=True),
        )
    )
    assert len(jobs) == 3 + 3  # every value once, then the other pairs
    jobs = jobs[:3]
    assert [job[0] for job in jobs] == ["data=organamnist", "data=organcmnist", "data=organsmnist"]
    assert {job[1] for job in jobs} == {"seed=0", "seed=1"}
    assert {job[2] for job in jobs} == {"model=scale", "model=scale_tiny"}
    assert {job[3] for job in jobs} == {"task.compile=true"}


def test_each_ablation_changes_one_thing_of_the_whole_network():
    changed, whole = {}, config.compose([])
    for name in config.options("ablation"):
        found = config.compose(["experiment=ablation", f"ablation={name}"])
        changed[name] = [key for key in whole.model if whole.model[key] != found.model[key]]
        assert found.variant == ("" if name == "full" else name)
        assert {key for key in whole if whole[key] != found[key]} <= {"model", "variant"}
    assert changed == {
        "full": [],
        "planar": ["streams"],
        "volumetric": ["streams"],
        "naive_lifting": ["lifting"],
        "no_scale_attention": ["scale_attention"],
        "concat": ["fusion"],
        "gate": ["fusion"],
        "no_auxiliary": ["auxiliary"],
    }


def test_an_ablation_of_another_network_is_refused():
    assert "ResNet takes no 'fusion'" in problems("model=resnet18", "ablation=gate")[0]


def test_a_file_that_sweeps_is_checked_with_all_its_jobs():
    whole = partial(compose_unchecked, name="train", config_dir=None, hydra=True)
    jobs = list(jobs_to_check(["experiment=ablation", "seed=0,1"], multirun=True, compose=whole))
    assert {job[0] for job in jobs} == {f"ablation={name}" for name in config.options("ablation")}
    assert {job[2] for job in jobs} == {"seed=0", "seed=1"}
    single = ["experiment=ablation", "ablation=gate"]  # what a job of the sweep is given
    assert list(jobs_to_check(single, multirun=False, compose=whole)) == [single]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data=vesselmnist3d", "model=timm", "model.name=resnet18"], "for images only"),
        (["data=phantom3d", "model=timm", "model.name=resnet18"], "for images only"),
        (["data_dims=4"], "data_dims=4: give 2, 3 or null"),
        (["model=timm", "data=breastmnist"], "model.name must be given"),
    ],
)
def test_what_does_not_go_together(overrides, message):
    assert message in problems(*overrides)[0]


def test_what_a_sweep_file_sweeps_is_checked(tmp_path, capsys):
    folder = tmp_path / "sweep"
    folder.mkdir()
    (folder / "mine.yaml").write_text("# @package _global_\nhydra:\n  sweeper:\n    params:\n      data.sizee: 28,64\n")
    with pytest.raises(SystemExit, match="2"):
        config.check_command_line(["-m", "--config-dir", str(tmp_path), "sweep=mine"])
    assert "data.sizee=28: there is no such key; did you mean 'data.size'?" in capsys.readouterr().err


def test_a_group_that_is_null():
    assert "augment=null" in problems("augment=null")[0]
    assert "takes the name of one of its options" in problems("augment=null")[0]


def test_seed_zero_is_a_seed():
    assert config.compose(["seed=0"]).seed == 0


def test_instantiate_gives_plain_values():
    built = config.instantiate(
        {"_target_": "builtins.dict", "a": [1, 2], "b": {"c": 3}}, allow=["builtins.dict"], d=DictConfig({"e": 1})
    )
    assert type(built["a"]) is list
    assert not isinstance(built["b"], DictConfig | ListConfig)


COMMANDS = {
    "help": (["--help"], 0, "Groups"),
    "misspelt data set": (["data=bloodmist"], 2, "did you mean 'bloodmnist'"),
    "misspelt key": (["data.sizee=28"], 2, "did you mean 'data.size'"),
    "misspelt in a sweep": (["-m", "data=breastmnist,bloodmist"], 2, "did you mean 'bloodmnist'"),
    "sweep file without -m": (["sweep=seeds"], 2, "python -m scale.train -m sweep=seeds"),
    "misspelt sweep": (["sweep=seedz", "-m"], 2, "did you mean 'seeds'"),
    "two values that exclude each other": (
        ["-m", "data=vesselmnist3d,breastmnist", "data.size=28,128"],
        2,
        "vesselmnist3d has no size 128",
    ),
    "evaluate": (["--help"], 0, "metrics.json"),
    "evaluate a run that is none": (["run=/nowhere"], 1, "/nowhere is not a run folder"),
    "evaluate runs that are none": (["runs=[/nowhere,/neither]"], 1, "/nowhere is not a run folder"),
    "a sweep without -m": (["experiment=ablation"], 2, "experiment=ablation is for several runs (ablation="),
    "misspelt in a sweep of a file": (["-m", "experiment=ablation", "seed=0,x"], 2, "seed=x"),
}


@pytest.mark.parametrize("case", COMMANDS)
def test_the_command_line_answers_without_torch(case, tmp_path):
    arguments, status, text = COMMANDS[case]
    module = "scale.evaluate" if case.startswith("evaluate") else "scale.train"
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['x', *{arguments!r}]\n"
        "try:\n"
        f"    runpy.run_module('{module}', run_name='__main__')\n"
        "finally:\n"
        "    print('TORCH' if 'torch' in sys.modules else 'LIGHT')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, cwd=tmp_path, env=os.environ
    )
    assert done.returncode == status, done.stderr
    assert text in done.stdout + done.stderr
    assert "LIGHT" in done.stdout
    assert not list(tmp_path.iterdir())  # nothing was started, nothing was written


def test_no_augmentation_has_no_keys():
    """It ended in a TypeError after the run's folder was made."""
    with pytest.raises(config.ConfigError, match=r"augment\.rotation: augment=none has no keys; give augment=light"):
        config.compose(["augment=none", "+augment.rotation=10"])


@pytest.mark.parametrize("option", ["hardware=graphs", "data=joint"])
def test_a_device_that_is_named_is_one_device(option):
    more = ["data.sets=[breastmnist,bloodmnist]"] if option == "data=joint" else []
    config.compose([option, *more, "trainer=gpu", "trainer.devices=[1]"])
    with pytest.raises(config.ConfigError, match="one device"):
        config.compose([option, *more, "trainer=gpu", "trainer.devices=[0,1]"])
