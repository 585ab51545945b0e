"""From folders, tables and npz files to one file that can be trained on."""

import csv
import json
import os
import subprocess
import sys
import time

import nibabel
import numpy as np
import pytest
import yaml
from filelock import FileLock
from PIL import Image

from scale.data import archive, companion
from scale.data.own import NpzDataModule
from scale.preparing import job, pool, splits
from scale.preparing.datamodule import FolderDataModule
from scale.preparing.job import prepare
from scale.preparing.pool import DONE, Pool
from scale.preparing.samples import from_folder, from_npz
from scale.preparing.settings import Settings
from scale.readers import UnreadableError, read
from tests.conftest import REPOSITORY


def images_in(folder, classes=("cat", "dog"), count=12, shape=(20, 16), seed=0):
    """Folders of random PNGs; returns the arrays by name."""
    rng, made = np.random.default_rng(seed), {}
    for name in classes:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            made[f"{name}/{number}.png"] = rng.integers(0, 256, shape, np.uint8)
            Image.fromarray(made[f"{name}/{number}.png"]).save(folder / name / f"{number}.png")
    return made


def run(output, source=None, table=None, workers=1, **settings):
    return prepare(output, source=source, table=table, settings=Settings(**settings), workers=workers)


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def reasons(found):
    return dict(found.skipped)


def test_a_folder_of_classes(tmp_path):
    made = images_in(tmp_path / "in")
    found = run(tmp_path / "out.npz", tmp_path / "in", size=20)
    table = rows_of(found.folder / "samples.csv")
    assert [row["path"] for row in table] == sorted(made)
    assert not found.skipped
    seen = 0
    for split in ("train", "val", "test"):
        images, labels, index = (archive.read_array(found.path, f"{split}_{k}") for k in ("images", "labels", "index"))
        for image, label, place in zip(images, labels[:, 0], index, strict=True):
            assert np.array_equal(image[:, 2:18], made[table[place]["path"]])  # padded to a square
            assert ("cat", "dog")[label] == table[place]["label"]
            assert table[place]["split"] == split
            seen += 1
    assert seen == 24
    record = yaml.safe_load(found.companion.read_text())
    assert record["classes"] == ["cat", "dog"]
    assert record["counts"] == {s: sum(r["split"] == s for r in table) for s in ("train", "val", "test")}
    assert record["problem"] == "binary"
    assert record["preprocessing"]["size"] == [20, 20]
    assert (found.folder / "sheets" / "00-cat.png").is_file()
    assert not found.path.with_suffix(".work").exists()
    with pytest.raises(FileExistsError, match="exists"):
        run(found.path, tmp_path / "in")


def test_given_splits_in_folders(tmp_path):
    for seed, split in enumerate(("train", "valid", "test")):
        images_in(tmp_path / "in" / split, count=4, seed=seed)
    found = run(tmp_path / "out.npz", tmp_path / "in")
    table = rows_of(found.folder / "samples.csv")
    assert {row["path"].split("/")[0]: row["split"] for row in table} == {
        "train": "train",
        "valid": "val",
        "test": "test",
    }
    images_in(tmp_path / "odd" / "train", count=1)
    images_in(tmp_path / "odd", classes=("cat",), count=1)
    with pytest.raises(ValueError, match="either splits or classes"):
        run(tmp_path / "odd.npz", tmp_path / "odd")


def test_what_cannot_be_used_is_a_line_and_the_rest_is_done(tmp_path):
    folder = tmp_path / "in"
    made = images_in(folder)
    (folder / "cat" / "cut.png").write_bytes((folder / "cat" / "1.png").read_bytes()[:90])
    (folder / "cat" / "empty.png").touch()
    (folder / "cat" / "notes.txt").write_text("x")
    (folder / "lost.png").write_bytes((folder / "cat" / "1.png").read_bytes())
    (folder / "dog" / "copy.png").write_bytes((folder / "dog" / "1.png").read_bytes())
    (folder / "dog" / "other.png").write_bytes((folder / "cat" / "2.png").read_bytes())
    np.save(folder / "dog" / "volume.npy", np.zeros((5, 5, 5), np.uint8))
    Image.fromarray(np.random.default_rng(3).integers(0, 256, (9, 9, 3), np.uint8)).save(folder / "dog" / "rgb.png")
    found = run(tmp_path / "out.npz", folder, size=20, channels=1)
    said = reasons(found)
    assert "truncated" in said["cat/cut.png"]
    assert "0 bytes" in said["cat/empty.png"]
    assert "unknown kind" in said["cat/notes.txt"]
    assert "no class folder" in said["lost.png"]
    assert "duplicate of dog/1.png" in said["dog/copy.png"]
    assert "another label" in said["dog/other.png"]
    assert "another label" in said["cat/2.png"]
    assert "a volume" in said["dog/volume.npy"]
    assert "colour" in said["dog/rgb.png"]
    assert len(said) == 9
    assert len(rows_of(found.folder / "samples.csv")) == len(made) - 1
    assert {row["name"]: row["reason"] for row in rows_of(found.folder / "skipped.csv")} == said
    kept = run(tmp_path / "kept.npz", folder, size=20, channels=1, duplicates="keep")
    assert "dog/copy.png" not in reasons(kept)


def test_a_table_with_groups_and_splits(tmp_path):
    made = images_in(tmp_path / "in", count=20)
    lines = ["path,label,group,split"]
    lines += [
        f"{name},{name.split('/')[0]},p{n % 10},{'test' if n % 10 < 3 else 'train'}" for n, name in enumerate(made)
    ]
    lines[3] = lines[3].replace("test", "train")  # of the group p2, which is in the test split
    lines += ["none.png,cat,,train", "cat/1.png,cat,,train"]
    (tmp_path / "t.csv").write_text("\n".join(lines[:-3] + lines[-2:]))
    found = run(tmp_path / "out.npz", tmp_path / "in", table=tmp_path / "t.csv")
    said = reasons(found)
    assert "no such file" in said["none.png"]
    assert "second time" in said["cat/1.png"]
    assert "no row" in said["dog/19.png"]
    assert "its group p2 is also in test" in said["cat/2.png"]
    table = rows_of(found.folder / "samples.csv")
    sides = {}
    for row in table:
        sides.setdefault(row["group"], set()).add("test" if row["split"] == "test" else "train or val")
    assert all(len(side) == 1 for side in sides.values())
    (tmp_path / "bad.csv").write_text("file,label\na,b\n")
    with pytest.raises(ValueError, match="no column `path`"):
        run(tmp_path / "bad.npz", table=tmp_path / "bad.csv")


def test_multilabel_and_ordinal_tables(tmp_path):
    images_in(tmp_path, classes=("a",), count=30)
    rows = [f"a/{n}.png,{n % 2},{(n // 2) % 2}" for n in range(30)]
    (tmp_path / "m.csv").write_text("\n".join(["path,mass,cyst", *rows]))
    found = run(tmp_path / "m.npz", table=tmp_path / "m.csv")
    assert yaml.safe_load(found.companion.read_text())["classes"] == ["mass", "cyst"]
    assert archive.read_array(found.path, "train_labels").shape[1] == 2
    rows = [f"a/{n}.png,{('mild', 'severe', 'moderate')[n % 3]}" for n in range(30)]
    (tmp_path / "o.csv").write_text("\n".join(["path,grade", *rows]))
    order = ("mild", "moderate", "severe")
    found = run(tmp_path / "o.npz", table=tmp_path / "o.csv", problem="ordinal", order=order)
    assert yaml.safe_load(found.companion.read_text())["problem"] == "ordinal"
    table = rows_of(found.folder / "samples.csv")
    index, labels = (archive.read_array(found.path, f"train_{k}") for k in ("index", "labels"))
    assert [order[k] for k in labels[:, 0]] == [table[place]["grade"] for place in index]


def test_arrays_of_other_types_and_folds(tmp_path):
    rng = np.random.default_rng(0)
    volumes = rng.normal(0, 500, (40, 12, 12, 12)).astype(np.float32)
    labels, groups = np.arange(40) % 2, np.arange(40) // 2
    np.savez(tmp_path / "in.npz", images=volumes, labels=labels, groups=groups)
    found = run(tmp_path / "out.npz", tmp_path / "in.npz", folds=4, size=12)
    assert yaml.safe_load(found.companion.read_text())["preprocessing"]["intensity"] == "percentiles"
    tested, sides = [], {}
    for fold in range(4):
        module = NpzDataModule(str(found.path), fold=fold)
        module.setup()
        for split, part in module.splits.items():
            means = part.images.gather(np.arange(len(part))).reshape(len(part), -1).mean(axis=1)
            rows = [int(np.abs(volume_means - mean).argmin()) for mean in means for volume_means in [_means(volumes)]]
            assert (labels[rows] == part.labels[:, 0]).all()
            sides.update({(fold, int(groups[row])): {*sides.get((fold, int(groups[row])), ()), split} for row in rows})
            tested += rows if split == "test" else []
    assert sorted(tested) == list(range(40))  # each once
    assert all(len(side) == 1 for side in sides.values())  # and never on two sides
    with pytest.raises(ValueError, match="4 folds"):
        NpzDataModule(str(found.path), fold=4).setup()


def _means(volumes):
    low, high = np.percentile(volumes.reshape(len(volumes), -1), [0.5, 99.5], axis=1)
    scaled = [
        np.rint(np.clip((v - a) * (255 / (b - a)), 0, 255)).mean() for v, a, b in zip(volumes, low, high, strict=True)
    ]
    return np.array(scaled)


def test_it_goes_on_where_it_was_stopped(tmp_path):
    images_in(tmp_path / "in", count=30)
    listing = from_folder(tmp_path / "in")
    how = Settings(size=20).preprocessing(2, 20, 1, "as_is")
    pool = Pool(tmp_path / "w", listing.samples, how)

    class StopError(Exception):
        pass

    def stop(count):
        raise StopError

    with pytest.raises(StopError):
        pool.fill(workers=1, step=stop)
    with (tmp_path / "w" / DONE).open("a") as log:
        log.write('[17, "ab')  # the line of a process that was killed
    again = Pool(tmp_path / "w", listing.samples, how)
    assert again.done == 16
    counts = []
    again.fill(workers=1, step=counts.append)
    assert sum(counts) == 60 - 16
    fresh = Pool(tmp_path / "v", listing.samples, how)
    fresh.fill(workers=2, step=lambda count: None)  # in other processes the same
    assert np.array_equal(again.gather(range(60)), fresh.gather(range(60)))
    os.truncate(again.folder / "pixels.raw", 59 * again.width + 1)
    assert len(again.gather(range(59))) == 59
    with pytest.raises(OSError, match=r"pixels\.raw is cut off"):
        again.gather([59])
    assert again.hashes == fresh.hashes
    other = Pool(tmp_path / "w", listing.samples[1:], how)
    assert other.done == 0  # other samples begin anew
    json.loads((tmp_path / "v" / DONE).read_text().splitlines()[0])


def test_volumes_of_nifti_with_spacing(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / "in" / name).mkdir(parents=True)
        for number in range(4):
            image = nibabel.Nifti1Image(rng.normal(0, 300, (24, 24, 6)).astype(np.float32), np.diag([1, 1, 4, 1]))
            nibabel.save(image, tmp_path / "in" / name / f"{number}.nii.gz")
    found = run(tmp_path / "out.npz", tmp_path / "in", spacing="isotropic", window="soft")
    assert archive.headers(found.path)["train_images"].shape[1:] == (28, 28, 28)
    record = yaml.safe_load(found.companion.read_text())["preprocessing"]
    assert (record["intensity"], record["window"]) == ("window", [-160.0, 240.0])


@pytest.mark.parametrize(("code", "axis"), [("SPL", 2), ("RAS", 0), ("ALI", 1)])
def test_left_right_flips_are_those_of_the_prepared_orientation(tmp_path, code, axis):
    """A voxel to the patient's left of the middle lies out of the middle on the mirrored axis."""
    volume = np.zeros((9, 9, 9), np.uint8)
    volume[1, 4, 4] = 255  # to the left of the middle, in RAS
    for name in ("a", "b"):
        (tmp_path / "in" / name).mkdir(parents=True)
        for number in range(4):
            volume[8, 8, 8] = 40 * number + (name == "a")
            nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), tmp_path / "in" / name / f"{number}.nii")
    found = run(tmp_path / "out.npz", tmp_path / "in", orientation=code, size=9, symmetry="mirrored")
    module = NpzDataModule(str(found.path))
    module.setup()
    place = np.argwhere(module.splits["train"].images.gather([0])[0] == 255)[0]
    assert np.flatnonzero(place != 4).tolist() == [axis]
    assert module.info.symmetry.flips == (axis,)
    assert module.orientation == code


def test_a_companion_with_an_impossible_orientation_is_named(tmp_path):
    images_in(tmp_path / "in", count=20)
    found = run(tmp_path / "out.npz", tmp_path / "in")
    said = yaml.safe_load(found.companion.read_text())
    for wrong in ({**said["preprocessing"], "orientation": "RRS"}, "RAS"):
        found.companion.write_text(yaml.safe_dump({**said, "preprocessing": wrong}))
        with pytest.raises(ValueError, match=r"out\.yaml: the preprocessing cannot be read"):
            NpzDataModule(str(found.path)).setup()


def test_the_data_module_prepares_once(tmp_path, monkeypatch):
    images_in(tmp_path / "in", count=20)
    options = {"cache": str(tmp_path / "cache"), "workers": 1, "prepare": {"size": 20, "symmetry": "mirrored"}}
    module = FolderDataModule(str(tmp_path / "in"), **options)
    module.setup()
    assert module.info.labels == ("cat", "dog")
    assert module.info.symmetry.flips == (1,)
    assert module.preprocessing["size"] == [20, 20]
    (made,) = (tmp_path / "cache").glob("prepared/*/dataset.npz")
    stamp = made.stat().st_mtime_ns
    FolderDataModule(str(tmp_path / "in"), **options).setup()
    assert made.stat().st_mtime_ns == stamp
    (tmp_path / "in" / "cat" / "0.png").unlink()
    FolderDataModule(str(tmp_path / "in"), **options).setup()
    assert len(list((tmp_path / "cache").glob("prepared/*/dataset.npz"))) == 2
    with pytest.raises(ValueError, match=r"data.prepare.fit='crop'"):
        FolderDataModule(str(tmp_path / "in"), prepare={"fit": "crop"})


def test_impossible_settings():
    for wrong in (
        {"symmetry": "mirror"}, {"window": "lungs"}, {"window": "lung", "intensity": "as_is"}, {"duplicates": "drop"},
        {"fractions": (0.5, 0.5, 0.5)}, {"fractions": (0, 0.5, 0.5)}, {"folds": 1}, {"size": 0},
    ):  # fmt: skip
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Settings(**wrong)


def test_the_command(tmp_path):
    """Exit status 0 where all was used, 3 where files were skipped, 1 for one line on what is wrong."""
    images_in(tmp_path / "in")
    (tmp_path / "in" / "cat" / "empty.png").touch()
    command = [sys.executable, "-m", "scale.prepare"]
    arguments = [f"source={tmp_path}/in", f"output={tmp_path}/out.npz", "workers=1"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, cwd=REPOSITORY, check=False)
    assert done.returncode == 3, done.stderr
    assert "skipped: cat/empty.png is empty (0 bytes)" in done.stdout
    assert "problem=binary, 2 classes: cat, dog" in done.stdout
    again = subprocess.run([*command, *arguments], capture_output=True, text=True, cwd=REPOSITORY, check=False)
    assert again.returncode == 1
    assert again.stderr.startswith("scale: ")
    assert len(again.stderr.splitlines()) == 1


def test_a_prepared_file_keeps_its_classes_names(tmp_path):
    """Also where they are numbers in another order than their own."""
    images_in(tmp_path / "in", classes=("1", "0"))
    first = run(tmp_path / "a.npz", tmp_path / "in", order=("1", "0"))
    again = run(tmp_path / "b.npz", first.path, size=14, order=("1", "0"))
    assert yaml.safe_load(again.companion.read_text())["classes"] == ["1", "0"]
    for split in ("train", "val", "test"):
        before, after = (archive.read_array(found.path, f"{split}_labels") for found in (first, again))
        assert (before == after).all()


def test_a_call_that_is_stopped_leaves_no_file_with_anothers_companion(tmp_path, monkeypatch):
    """The npz file stood there first, and what an earlier file's companion said of it was believed."""
    images_in(tmp_path / "in")
    run(tmp_path / "out.npz", tmp_path / "in")
    (tmp_path / "out.npz").unlink()  # as the error says that is given when it exists
    with monkeypatch.context() as patched:
        patched.setattr(job.sheet, "write", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(tmp_path / "out.npz", tmp_path / "in", order=("dog", "cat"))
    assert not (tmp_path / "out.npz").exists()
    run(tmp_path / "out.npz", tmp_path / "in", order=("dog", "cat"))
    assert companion.read(tmp_path / "out.npz")["classes"] == ["dog", "cat"]


def test_samples_of_an_npz_file_without_a_label_or_a_group(tmp_path):
    images = np.arange(6 * 16, dtype=np.uint8).reshape(6, 4, 4)
    labels, groups = np.array([0, 1, np.nan, 1, 0, 1]), np.array(["", "", "a", "a", " ", "b"])
    np.savez(tmp_path / "in.npz", images=images, labels=labels, groups=groups)
    listing = from_npz(tmp_path / "in.npz")
    assert listing.skipped == [("images/2", "has no label")]
    assert [sample.group for sample in listing.samples] == [None, None, "a", None, "b"]


def test_an_npz_file_is_read_by_one_process(tmp_path, monkeypatch):
    """Each process would hold the whole array."""
    np.savez(tmp_path / "in.npz", images=np.zeros((80, 4, 4), np.uint8), labels=np.arange(80) % 2)
    monkeypatch.setattr(pool, "ProcessPoolExecutor", lambda *_, **__: 1 / 0)
    how = Settings(size=4).preprocessing(2, 4, 1, "as_is")
    samples = from_npz(tmp_path / "in.npz").samples
    assert sum(len(rows) for rows, _ in pool.read_all(samples, range(80), how, 4)) == 80


def test_a_volume_that_would_be_resampled_to_terabytes_is_a_line(tmp_path):
    """Voxels in micrometres, and `spacing=1`."""
    affine = np.diag([100.0, 100.0, 100.0, 1.0])
    nibabel.save(nibabel.Nifti1Image(np.random.default_rng(0).random((64, 64, 64)), affine), tmp_path / "a.nii.gz")
    how = Settings(size=28, spacing=1.0).preprocessing(3, 28, 1, "percentiles")
    with pytest.raises(UnreadableError, match="more than the limit"):
        how.apply(read(tmp_path / "a.nii.gz"))


def test_a_class_in_few_groups_that_decides_the_shares_is_said(caplog):
    labels = np.repeat([0] * 97 + [1] * 3, 3)[:, None]
    groups = [str(n // 3) for n in range(300)]
    given = [None] * 300
    splits.assign(labels, groups, given, names=("a", "b"), fractions=(0.7, 0.1, 0.2), seed=0)
    assert "a class is in 3 groups only" in caplog.text


def test_two_processes_do_not_make_one_file(tmp_path):
    """Each wrote its pictures into the other's pool."""
    images_in(tmp_path / "in")
    with FileLock(tmp_path / ".out.npz.lock"), pytest.raises(FileExistsError, match="another process is making"):
        run(tmp_path / "out.npz", tmp_path / "in")
    run(tmp_path / "out.npz", tmp_path / "in")
    assert not (tmp_path / ".out.npz.lock").exists()


def test_a_worker_ends_with_its_parent(tmp_path):
    """Those of a killed command waited for work for ever, and kept its output open."""
    begin = "import os, time; from scale.preparing.pool import end_with; end_with(os.getppid())"
    worker = f"{begin}; print('works', flush=True); time.sleep(99)"
    code = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {worker!r}]); time.sleep(99)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=REPOSITORY) as parent:
        assert parent.stdout.readline() == b"works\n"
        parent.kill()
        killed = time.monotonic()
        assert parent.stdout.read() == b""  # its end is seen once no process holds it
        assert time.monotonic() - killed < 60
