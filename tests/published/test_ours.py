import contextlib
import functools
import json
import statistics

import pytest
import torch
from omegaconf import OmegaConf

import scale
import scale.report
from scale.config import options
from scale.models.baselines import ResNet
from scale.models.layers import macs, parameters
from scale.published import medmnist as published
from scale.published import ours as report

OLD = "flag,size,model,seed,auc,acc,val_auc,val_acc,tta,epochs,best_epoch,seconds,parameters,macs,hardware,commit"


@functools.cache
def recorded(*overrides):
    return OmegaConf.to_yaml(scale.compose(overrides), resolve=True)


def run_folder(tmp_path, seed, auc, *, model="scale", commit="0123456789abcdef", overrides=(), **changes):
    folder = tmp_path / f"run-{model}-{changes.get('variant', '')}-{seed}".replace("/", "")
    folder.mkdir(exist_ok=True, parents=True)
    metrics = {
        "flag": "breastmnist", "size": 28, "seed": seed, "epochs": 3, "best_epoch": 1, "hardware": "2 CPU threads",
        "model": {"name": model, "parameters": 1_500_000, "macs": 40_000_000}, "fast_dev_run": False,
        "test": {"auc": auc, "acc": 0.8}, "val": {"auc": 0.9, "acc": 0.9}, "seconds": {"fit": 12.3},
    }  # fmt: skip
    (folder / "metrics.json").write_text(json.dumps(metrics | changes))
    (folder / "environment.json").write_text(json.dumps({"commit": commit, "modified": False}))
    chosen = [f"model={model}"] if model in options("model") else []
    chosen += [f"ablation={changes['variant']}"] if changes.get("variant") in options("ablation") else []
    (folder / "config.yaml").write_text(recorded("data=breastmnist", *chosen, *overrides))
    return folder


def test_table_is_mean_and_sd_over_all_seeds_beside_every_published_method(tmp_path):
    path = tmp_path / "scale.csv"
    report.add([run_folder(tmp_path, seed, auc) for seed, auc in enumerate([0.90, 0.92, 0.97])], path)
    lines = report.table(report.read(path)).splitlines()
    assert lines[0] == "**BreastMNIST**"
    assert lines[2] == "| method | input | seeds | AUC | ACC | M params | G MACs |"
    assert lines[4] == "| `scale` | 28 | 0–2 | **0.930 ± 0.036** | 0.800 ± 0.000 | 1.50 | 0.040 |"
    assert lines[5] == "| ResNet-18 | 28 | published | 0.901 | **0.863** | 11.17 | 0.457 |"
    assert lines[11] == "| Google AutoML Vision | 28 | published | 0.919 | 0.861 |  |  |"
    assert len(lines) == 5 + len(published.rows("breastmnist"))


def test_models_variants_and_sizes_have_rows_of_their_own(tmp_path):
    path = tmp_path / "scale.csv"
    folders = [
        run_folder(tmp_path, 0, 0.5),
        run_folder(tmp_path, 0, 0.6, model="resnet18", variant="official"),
        run_folder(tmp_path, 0, 0.7, model="resnet18"),
        run_folder(tmp_path, 0, 0.8, variant="gate"),
    ]
    report.add(folders, path)
    rows = [line for line in report.table(report.read(path)).splitlines() if line.startswith("| `")]
    assert [row.split(" | ")[0] for row in rows] == ["| `resnet18`", "| `resnet18`, official", "| `scale`"]
    assert len(report.read(path)) == 4


def test_figures_of_flip_tta_stand_apart(tmp_path):
    path = tmp_path / "scale.csv"
    report.add([run_folder(tmp_path, seed, 0.9, test_tta={"auc": 0.95, "acc": 0.85}) for seed in range(2)], path)
    head, row = (report.table(report.read(path)).splitlines()[n] for n in (2, 4))
    assert "| AUC | ACC | AUC, flip TTA | ACC, flip TTA | M params" in head
    assert "0.900 ± 0.000 | 0.800 ± 0.000 | 0.950 ± 0.000 | 0.850 ± 0.000 |" in row
    report.add([run_folder(tmp_path, 2, 0.9)], path)  # a seed without them: no mean over other runs than the plain one
    row = report.table(report.read(path)).splitlines()[4]
    assert "| 0–2 | 0.900 ± 0.000 | 0.800 ± 0.000 |  |  |" in row


def test_a_run_that_was_repeated_takes_its_own_place_and_is_named(tmp_path):
    path = tmp_path / "scale.csv"
    assert report.add([run_folder(tmp_path, 0, 0.5), run_folder(tmp_path, 1, 0.6)], path) == []
    assert report.add([run_folder(tmp_path, 1, 0.6)], path) == []
    assert report.add([run_folder(tmp_path, 0, 0.7)], path) == ["breastmnist 28 scale 0: AUC 0.5 is now 0.7"]
    assert [(r["seed"], r["auc"]) for r in report.read(path)] == [("0", "0.7"), ("1", "0.6")]


def test_rows_of_one_run_are_counted_once(tmp_path):
    path = tmp_path / "scale.csv"
    report.add([run_folder(tmp_path, 0, 0.5), run_folder(tmp_path, 1, 0.7)], path)
    path.write_text(path.read_text() + path.read_text().splitlines()[1].replace(",0.5,", ",0.9,") + "\n")
    assert [row["auc"] for row in report.read(path)] == ["0.9", "0.7"]
    assert "| 0, 1 | 0.800 ± 0.141 |" in report.table(report.read(path)).replace("**", "")
    twice = [*report.read(path), report.read(path)[1]]
    assert report.table(twice) == report.table(report.read(path))


def test_a_file_with_fewer_columns_is_read_and_kept(tmp_path):
    path = tmp_path / "scale.csv"
    path.write_text(f"{OLD}\nbreastmnist,28,scale,0,0.9,0.8,0.95,0.9,False,73,42,540,1500000,40000000,cpu,abc\n")
    (row,) = report.read(path)
    assert (row["variant"], row["tta_auc"], row["auc"], row["commit"]) == ("", "", "0.9", "abc")
    report.add([run_folder(tmp_path, 1, 0.7)], path)
    assert path.read_text().splitlines()[0] == ",".join(report.COLUMNS)
    assert [row["auc"] for row in report.read(path)] == ["0.9", "0.7"]


@pytest.mark.parametrize("name", ["None", "NA", "null", "nan"])
def test_a_variant_may_have_any_name(name, tmp_path):
    """Such a name was read back as no name, and the row took the place of the default recipe's."""
    path = tmp_path / "scale.csv"
    report.add([run_folder(tmp_path, 0, 0.9), run_folder(tmp_path, 0, 0.5, variant=name)], path)
    assert {row["variant"]: row["auc"] for row in report.read(path)} == {"": "0.9", name: "0.5"}


def test_one_mean_is_not_over_other_data(tmp_path):
    path = tmp_path / "scale.csv"
    one = run_folder(tmp_path / "a", 0, 0.9, data_sha256="a")
    with pytest.raises(ValueError, match="one mean cannot be over both"):
        report.add([one, run_folder(tmp_path / "b", 1, 0.7, data_sha256="b")], path)
    assert not path.exists()
    apart = run_folder(tmp_path / "b", 1, 0.7, variant="b", data_sha256="b")
    report.add([one, run_folder(tmp_path / "c", 1, 0.7), apart], path)  # that of an earlier version says nothing
    assert len(report.read(path)) == 3


def test_a_fold_needs_a_name(tmp_path):
    folder = run_folder(tmp_path, 0, 0.9)
    config = OmegaConf.load(folder / "config.yaml")
    config.data.fold = 2
    OmegaConf.save(config, folder / "config.yaml")
    with pytest.raises(ValueError, match="is a run on fold 2"):
        report.add([folder], tmp_path / "scale.csv")
    report.add([folder], tmp_path / "scale.csv", variant="fold 2")


def test_ablations_are_compared_with_the_whole_network_seed_by_seed(tmp_path):
    path = tmp_path / "scale.csv"
    whole, gate = [0.90, 0.92, 0.99], [0.88, 0.91]
    folders = [run_folder(tmp_path, seed, auc) for seed, auc in enumerate(whole)]
    folders += [run_folder(tmp_path, seed, auc, variant="gate") for seed, auc in enumerate(gate)]
    folders += [run_folder(tmp_path, 0, 0.5, variant="official"), run_folder(tmp_path, 0, 0.5, model="other")]
    report.add(folders, path)
    lines = report.ablation_table(report.read(path)).splitlines()
    changes = [-0.02, -0.01]
    assert len(lines) == 4
    assert lines[2].startswith(
        "| BreastMNIST | 28 | `scale` | whole | 2 CPU threads | 0–2 | 0.937 ± 0.047 |  | 0.800 ± 0.000 |"
    )
    change = f"{statistics.fmean(changes):+.3f} ± 0.007"
    assert lines[3].startswith(
        f"| BreastMNIST | 28 | `scale` | gate | 2 CPU threads | 0, 1 | 0.895 ± 0.021 | {change} |"
    )
    assert "gate" not in report.table(report.read(path))


def test_an_ablation_is_compared_with_the_whole_network_on_the_same_hardware(tmp_path):
    path, other = tmp_path / "scale.csv", {"hardware": "1 CPU threads, Other CPU"}
    folders = [run_folder(tmp_path, seed, 0.90) for seed in (0, 1)]
    folders += [run_folder(tmp_path, seed, 0.80, variant="gate", **other) for seed in (0, 1)]
    report.add(folders, path)
    assert "| gate | Other CPU | 0, 1 | 0.800 ± 0.000 |  | 0.800 ± 0.000 |  |" in report.ablation_table(
        report.read(path)
    )
    report.add([run_folder(tmp_path, 0, 0.85, variant="Other CPU", **other)], path)
    text = report.ablation_table(report.read(path))
    assert "| whole | Other CPU | 0 | 0.850 |" in text
    assert "| gate | Other CPU | 0, 1 | 0.800 ± 0.000 | -0.050 (1 seed) |" in text
    report.add([run_folder(tmp_path, 1, 0.20, variant="CPU", **other)], path)  # a recipe that is called so
    assert report.ablation_table(report.read(path)) == text
    report.add([run_folder(tmp_path, 0, 0.85, **other)], path)  # the same run under both names
    assert "-0.050 (1 seed)" in report.ablation_table(report.read(path))


def test_without_ablations_it_says_how_to_get_them(tmp_path):
    assert "experiment=ablation" in report.ablation_table([])


def test_an_auc_that_is_undefined_is_left_empty(tmp_path):
    path = tmp_path / "scale.csv"
    report.add([run_folder(tmp_path, 0, 0.9, val={"auc": None, "acc": 0.9}), run_folder(tmp_path, 1, None)], path)
    assert [(found["auc"], found["val_auc"]) for found in report.read(path)] == [("0.9", ""), ("", "0.9")]
    assert "| `scale` | 28 | 0, 1 |  | 0.800" in report.table(report.read(path))
    report.add([run_folder(tmp_path, seed, None, variant="gate") for seed in (0, 1)], path)
    assert "| gate | 2 CPU threads | 0, 1 |  |  | 0.800" in report.ablation_table(report.read(path))


def test_a_single_run_is_rounded_once(tmp_path):
    run = run_folder(tmp_path, 0, 365 / 382)
    assert f"**{365 / 382:.3f}**" in report.table([report.row(run)])


def command(monkeypatch, capsys, *arguments):
    """What the command prints, and what it says where it fails."""
    monkeypatch.setattr("sys.argv", ["report", *map(str, arguments)])
    with contextlib.suppress(SystemExit):
        scale.report.main()
    said = capsys.readouterr()
    return said.out, said.err


@pytest.mark.parametrize("flags", [(), ("--ablation",), ("--explanations",)])
def test_the_command_never_writes_into_the_package(tmp_path, monkeypatch, capsys, flags):
    kept = {path: path.read_bytes() for path in report.RESULTS.parent.glob("*.csv")}
    out, err = command(monkeypatch, capsys, *flags, run_folder(tmp_path, 7, 0.5))
    assert out == ""
    assert "results=FILE" in err
    assert {path: path.read_bytes() for path in report.RESULTS.parent.glob("*.csv")} == kept


def test_the_command_adds_runs_to_the_file_it_is_given_and_prints_that_file(tmp_path, monkeypatch, capsys):
    mine = tmp_path / "mine.csv"
    command(monkeypatch, capsys, f"results={mine}", run_folder(tmp_path, 0, 0.5), run_folder(tmp_path, 1, 0.6))
    out, err = command(monkeypatch, capsys, f"results={mine}", "variant=again", run_folder(tmp_path, 1, 0.7))
    assert (err, out) == ("", report.table(report.read(mine)) + "\n")
    assert [(found["variant"], found["auc"]) for found in report.read(mine)] == [
        *(("", "0.5"), ("", "0.6"), ("again", "0.7"))
    ]
    assert command(monkeypatch, capsys, f"results={mine}")[0] == out
    _, err = command(monkeypatch, capsys, f"results={mine}", run_folder(tmp_path, 1, 0.8))
    assert "replaced breastmnist 28 scale 1: AUC 0.6 is now 0.8" in err
    assert "no such file" in command(monkeypatch, capsys, f"results={tmp_path / 'none.csv'}")[1]
    assert "did you mean 'results'?" in command(monkeypatch, capsys, f"result={mine}")[1]
    assert "did you mean '--ablation'?" in command(monkeypatch, capsys, "--ablations")[1]


def test_what_is_no_result(tmp_path):
    with pytest.raises(ValueError, match="fast_dev_run"):
        report.row(run_folder(tmp_path, 0, 0.5, fast_dev_run=True))
    with pytest.raises(ValueError, match="only a part"):
        report.row(run_folder(tmp_path, 0, 0.5, partial=True))
    with pytest.raises(FileNotFoundError, match="no metrics.json"):
        report.row(tmp_path)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("data.train_fraction=0.5", "data.train_fraction=0.5 (1.0)"),
        ("trainer.max_epochs=1", "trainer.max_epochs=1 (None)"),
        ("+trainer.limit_train_batches=2", "trainer.limit_train_batches=2 (not set)"),
        ("optimizer.lr=0.1", "optimizer.lr=0.1 (0.003)"),
        ("callbacks.averaging=null", "callbacks.averaging=None (not set)"),
        ("model.dim=32", "model.dim=32 (64)"),
        ("callbacks.checkpoint.monitor=auc", "callbacks.checkpoint.monitor=auc (loss)"),
    ],
)
def test_a_run_of_another_recipe_needs_a_name_of_its_own(tmp_path, override, said):
    path = tmp_path / "scale.csv"
    report.add([run_folder(tmp_path, 0, 0.9)], path)
    other = run_folder(tmp_path, 1, 0.5, overrides=(override,))
    with pytest.raises(ValueError, match="not trained with the default recipe") as error:
        report.add([other], path)
    assert said in str(error.value)
    assert [found["auc"] for found in report.read(path)] == ["0.9"]
    report.add([other], path, variant="mine")
    assert [(found["variant"], found["auc"]) for found in report.read(path)] == [("", "0.9"), ("mine", "0.5")]
    with pytest.raises(ValueError, match="default recipe"):  # nor is it the ablation that its name says
        report.row(run_folder(tmp_path, 2, 0.5, variant="gate", overrides=(override,)))


def test_where_a_run_was_computed_is_no_part_of_its_recipe(tmp_path):
    elsewhere = ("trainer=ddp_cpu", "hardware=amp", "data.size=64", "evaluation.tta=true", "logger=none", "threads=1")
    report.row(run_folder(tmp_path, 3, 0.9, overrides=(*elsewhere, "callbacks=explain", "compile=true")))
    report.row(run_folder(tmp_path, 0, 0.9, model="resnet18", overrides=("model=resnet18",)))
    volumes = {"model": "resnet18+acs", "flag": "vesselmnist3d"}
    given = ("data=vesselmnist3d", "model=resnet18", "model.conv=acs")
    report.row(run_folder(tmp_path, 1, 0.9, overrides=given, **volumes))
    report.row(run_folder(tmp_path, 2, 0.9, overrides=("data=npz", "data.path=a", "data.problem=binary",
                                                       "data.symmetry=free"), flag="a"))  # fmt: skip


def test_the_kept_rows_have_all_columns_and_official_names():
    for found in report.read():
        assert set(found) == set(report.COLUMNS)
        assert 0.5 <= float(found["auc"]) <= 1


@pytest.mark.parametrize(
    ("method", "dims", "depth", "conv"),
    [
        *(("ResNet-18", 2, 18, "3d"), ("ResNet-50", 2, 50, "3d")),
        *((f"ResNet-{n} + {c.upper()}", 3, n, c) for n in (18, 50) for c in ("3d", "2.5d", "acs")),
    ],
)
def test_the_published_networks_cost_what_ours_cost(method, dims, depth, conv):
    flag = "breastmnist" if dims == 2 else "vesselmnist3d"
    (row,) = [row for row in published.rows(flag) if (row.method, row.input_size) == (method, 28)]
    with torch.device("meta"):
        net = ResNet(spatial_dims=dims, in_channels=1, outputs=2, depth=depth, conv=conv)
    assert row.cost == (parameters(net), macs(net, (1, *(28,) * dims)))


@pytest.mark.parametrize("depth", [18, 50])
def test_the_published_networks_at_224_pixels(depth):
    timm = pytest.importorskip("timm", reason="the extra `timm` is not installed")
    (row,) = [row for row in published.rows("breastmnist") if (row.method, row.input_size) == (f"ResNet-{depth}", 224)]
    with torch.device("meta"):
        net = timm.create_model(f"resnet{depth}", num_classes=2)
    assert row.cost == (parameters(net), macs(net, (3, 224, 224)))


def test_a_row_says_whether_the_network_was_pretrained(tmp_path):
    (tmp_path / "own").mkdir()
    plain = run_folder(tmp_path / "own", 0, 0.9)
    transferred = run_folder(tmp_path, 1, 0.9, overrides=("init_from=elsewhere",), variant="from elsewhere")
    assert [report.row(folder)["pretrained"] for folder in (plain, transferred)] == ["no", "yes"]
