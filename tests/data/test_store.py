import errno
import hashlib
import http.server
import json
import multiprocessing
import pickle
import re
import subprocess
import sys
import threading
import time
import zipfile

import numpy as np
import pytest

from scale.data import archive, catalog, download, images, store
from scale.utils import files

FLAG = "vesselmnist3d"


def content(samples=6, shape=(28, 28, 28), classes=2, seed=0):
    generator = np.random.default_rng(seed)
    arrays = {}
    for split in store.SPLITS:
        arrays[f"{split}_images"] = generator.integers(0, 256, (samples, *shape), dtype=np.uint8)
        arrays[f"{split}_labels"] = (np.arange(samples) % classes).astype(np.uint8)[:, None]
    return arrays


@pytest.fixture
def official(tmp_path):
    """A small file under an official name."""
    path = tmp_path / "vesselmnist3d.npz"
    arrays = content()
    np.savez_compressed(path, **arrays)
    return path, arrays


def load(path, **options):
    return store.load(FLAG, size=28, root=path.parent, **({"verify": False} | options))


# Reading


@pytest.mark.parametrize("large", [store.LARGE, 0])
def test_reads_what_was_written(official, large):
    path, arrays = official
    splits = load(path, large=large)
    assert list(splits) == ["train", "val", "test"]
    for name, split in splits.items():
        assert split.images.is_mapped == (large == 0)
        assert split.images.shape == (6, 28, 28, 28)
        assert len(split) == len(split.images) == 6
        rows = np.array([4, 0, 4, 5])
        np.testing.assert_array_equal(split.images.gather(rows), arrays[f"{name}_images"][rows])
        assert split.images.gather(rows).dtype == np.uint8
        np.testing.assert_array_equal(split.labels, arrays[f"{name}_labels"])
        assert split.labels.dtype == np.int64
        assert split.masks is None
        copy = pickle.loads(pickle.dumps(split.images))
        np.testing.assert_array_equal(copy.gather(rows), split.images.gather(rows))


def test_only_the_asked_splits_are_needed_and_unpacked(tmp_path):
    path = tmp_path / "vesselmnist3d.npz"
    np.savez(path, **{key: value for key, value in content().items() if key.startswith("test")})
    assert list(load(path, splits=["test"], large=0)) == ["test"]
    assert [file.name for file in (tmp_path / "vesselmnist3d.unpacked").glob("*.npy")] == ["test_images.npy"]
    with pytest.raises(ValueError, match="has no train_images, train_labels"):
        load(path, splits=["train", "test"])
    with pytest.raises(ValueError, match="unknown split 'tets'; did you mean 'test'"):
        load(path, splits=["tets"])


@pytest.mark.parametrize(("flag", "size"), [("breastmnist", 28), ("pneumoniamnist", 28), (FLAG, 28), (FLAG, 64)])
def test_real_files(real_data, flag, size):
    if not store.locate(flag, size=size, root=real_data).exists():
        pytest.skip(f"no real data: {flag} {size}")
    splits = store.load(flag, size=size, root=real_data, download=False, splits=["val", "test"])
    for name, split in splits.items():
        assert len(split) == catalog.get(flag).samples[name]


def test_looks_in_the_argument_then_the_environment_then_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SCALE_DATA_ROOT", str(tmp_path / "environment"))
    assert store.locate(FLAG, size=64, root=tmp_path) == tmp_path / "vesselmnist3d_64.npz"
    assert store.locate(FLAG, size=28) == tmp_path / "environment" / "vesselmnist3d.npz"
    monkeypatch.delenv("SCALE_DATA_ROOT")
    assert store.locate(FLAG, size=28) == tmp_path / "home" / ".medmnist" / "vesselmnist3d.npz"


# A user's own file


def own(tmp_path, shape, classes=3, **changes):
    path = tmp_path / "own.npz"
    np.savez(path, **(content(6, shape, classes) | changes))
    return path


@pytest.mark.parametrize(
    ("shape", "given", "dims", "channels", "spatial"),
    [
        ((28, 20), None, 2, 1, (28, 20)),
        ((28, 20, 3), None, 2, 3, (28, 20)),
        ((28, 20, 1), None, 2, 1, (28, 20)),
        ((28, 20, 4), None, 2, 4, (28, 20)),
        ((28, 20, 16), None, 3, 1, (28, 20, 16)),
        ((9, 8, 7, 3), None, 3, 3, (9, 8, 7)),
        ((9, 8, 7, 1), None, 3, 1, (9, 8, 7)),
        ((28, 20, 2), 2, 2, 2, (28, 20)),
        ((28, 20, 3), 3, 3, 1, (28, 20, 3)),
        ((3, 28, 28), 3, 3, 1, (3, 28, 28)),
        ((28, 20, 16), 2, 2, 16, (28, 20)),
    ],
)
@pytest.mark.parametrize("large", [store.LARGE, 0])
def test_layout_is_read_from_the_file(tmp_path, shape, given, dims, channels, spatial, large):
    path = own(tmp_path, shape)
    layout = store.layout(path, problem="multiclass", spatial_dims=given)
    assert layout == store.Layout("multiclass", dims, channels, spatial, 3)
    train = store.read(path, problem="multiclass", spatial_dims=given, large=large)["train"]
    assert train.images.shape == (6, *layout.item)
    expected = np.load(path)["train_images"].reshape(6, *layout.item)
    np.testing.assert_array_equal(train.images.gather(np.arange(6)), expected)


@pytest.mark.parametrize(
    "shape", [(28, 20, 2), (3, 28, 28), (4, 28, 3), (2, 28, 1), (28, 28, 5), (5, 28, 28), (64, 64, 12), (12, 64, 64)]
)
def test_ambiguous_shapes_are_refused(tmp_path, shape):
    with pytest.raises(ValueError, match=r"own\.npz: .*say which: data\.spatial_dims=2 or 3"):
        store.layout(own(tmp_path, shape), problem="multiclass")


@pytest.mark.parametrize("shape", [(1, 9, 9, 9), (3, 9, 8, 7)])
def test_volumes_with_channels_first_are_refused(tmp_path, shape):
    with pytest.raises(ValueError, match="Channels must come last"):
        store.layout(own(tmp_path, shape), problem="multiclass")
    assert store.layout(own(tmp_path, shape), problem="multiclass", spatial_dims=3).channels == shape[-1]


@pytest.mark.parametrize("shape", [(3, 28, 28), (1, 28, 28), (3, 64, 48)])
def test_images_with_channels_first_are_refused(tmp_path, shape):
    with pytest.raises(ValueError, match=rf"would have {shape[-1]} channels.*np\.moveaxis\(images, 1, -1\)"):
        store.layout(own(tmp_path, shape), problem="multiclass", spatial_dims=2)


@pytest.mark.parametrize(("shape", "given"), [((28,), None), ((28, 28), 3), ((5, 5, 5, 3), 2), ((28, 28), 1)])
def test_impossible_shapes_are_refused(tmp_path, shape, given):
    with pytest.raises(ValueError, match=r"images of shape .* are not"):
        store.layout(own(tmp_path, shape), problem="multiclass", spatial_dims=given)


def test_labels_may_be_flat_and_classes_follow_from_them(tmp_path):
    flat = {f"{split}_labels": np.array([0, 1, 2, 0, 1, 2], np.int32) for split in store.SPLITS}
    splits = store.read(own(tmp_path, (9, 9), **flat), problem="ordinal")
    assert splits["val"].labels.tolist() == [[0], [1], [2], [0], [1], [2]]
    many = {f"{split}_labels": np.eye(6, 4, dtype=bool) for split in store.SPLITS}
    path = own(tmp_path, (9, 9), **many)
    assert store.layout(path, problem="multilabel").num_classes == 4
    assert store.read(path, problem="multilabel")["test"].labels.dtype == np.int64


def test_a_pool_is_told_how_to_split(tmp_path):
    path = tmp_path / "pool.npz"
    np.savez(path, test_images=np.zeros((4, 9, 9), np.uint8), test_labels=np.zeros(4, int))
    with pytest.raises(ValueError, match=r"split_pool\(source, target, split='test'\)"):
        store.read(path, problem="multiclass")


def test_split_pool_keeps_every_sample_once_and_every_class_everywhere(tmp_path):
    labels = np.repeat([0, 1, 2], [60, 30, 3])
    pool = np.arange(93 * 81, dtype=np.uint32).reshape(93, 9, 9).astype(np.uint8)
    source, target = tmp_path / "pool.npz", tmp_path / "new" / "split.npz"
    np.savez(source, val_images=pool, val_labels=labels, val_masks=pool // 2, other=np.zeros(93))
    assert store.split_pool(source, target, seed=3, split="val") == target
    with np.load(target) as arrays:
        rows = np.concatenate([arrays[f"{split}_index"] for split in store.SPLITS])
        assert sorted(rows) == list(range(93))
        counts = {split: np.bincount(arrays[f"{split}_labels"]).tolist() for split in store.SPLITS}
        for split in store.SPLITS:
            np.testing.assert_array_equal(arrays[f"{split}_images"], pool[arrays[f"{split}_index"]])
            np.testing.assert_array_equal(arrays[f"{split}_masks"], pool[arrays[f"{split}_index"]] // 2)
    assert counts == {"train": [42, 21, 1], "val": [6, 3, 1], "test": [12, 6, 1]}
    assert store.read(target, problem="multiclass")["train"].masks is not None
    same = store.split_pool(source, tmp_path / "same.npz", seed=3, split="val")
    other = store.split_pool(source, tmp_path / "other.npz", seed=4, split="val")
    assert same.read_bytes() == target.read_bytes() != other.read_bytes()


def test_split_pool_loses_nothing_and_refuses_nonsense(tmp_path):
    source = tmp_path / "pool.npz"
    np.savez(source, test_images=np.zeros((7, 9, 9), np.uint8), test_labels=np.array([0, 0, 0, 0, 0, 1, 1]))
    with pytest.raises(FileExistsError, match="delete it or give another target"):
        store.split_pool(source, source)
    with pytest.raises(ValueError, match="class 1 has 2 samples"):
        store.split_pool(source, tmp_path / "new.npz")
    with pytest.raises(ValueError, match="add up to 1"):
        store.split_pool(source, tmp_path / "new.npz", fractions=(0.7, 0.1, 0.1))
    with pytest.raises(ValueError, match="has no train_images"):
        store.split_pool(source, tmp_path / "new.npz", split="train")
    assert list(tmp_path.iterdir()) == [source]


def test_split_pool_of_several_labels_spreads_the_rare_ones(tmp_path):
    labels = np.zeros((40, 3), np.uint8)
    labels[:20, 0] = labels[10:16, 1] = labels[12:15, 2] = 1
    source, target = tmp_path / "pool.npz", tmp_path / "split.npz"
    np.savez(source, test_images=np.zeros((40, 9, 9), np.uint8), test_labels=labels)
    store.split_pool(source, target)
    with np.load(target) as arrays:
        for split in store.SPLITS:
            assert arrays[f"{split}_labels"].any(axis=0).all()


# Bad files


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"train_images": np.zeros((6, 28, 28, 28), np.float32)},
            "float32; images must be uint8",
        ),
        ({"val_images": np.zeros((6, 28, 28), np.uint8)}, r"val_images has shape .* expected \(N, 28, 28, 28\)"),
        ({"test_images": np.zeros((6, 64, 64, 64), np.uint8)}, "expected"),
        ({"test_images": np.zeros((6, 28, 28, 28, 3), np.uint8)}, "expected"),
        ({"val_images": np.zeros((0, 28, 28, 28), np.uint8)}, "val_images is empty"),
        ({"val_images": np.zeros((5, 28, 28, 28), np.uint8)}, "val_labels has 6 rows for 5 images"),
        ({"test_labels": np.full((6, 1), 2, np.uint8)}, r"test_labels holds 2; labels must lie in 0\.\.1"),
        ({"test_labels": np.full((6, 1), -1)}, "test_labels holds -1"),
        ({"test_labels": np.zeros((6, 1))}, "test_labels has type float64; labels must be integers"),
        ({"test_labels": np.zeros((6, 2), np.uint8)}, "has 2 columns; binary needs 1"),
        ({"train_labels": np.ones((6, 1), np.uint8)}, "no training sample of class 0"),
        ({"val_masks": np.ones((6, 28, 28), np.uint8)}, "val_masks is uint8 of shape"),
    ],
)
@pytest.mark.parametrize("large", [store.LARGE, 0])
def test_arrays_that_contradict_the_data_set(official, changes, message, large):
    path, arrays = official
    np.savez(path, **(arrays | changes))
    with pytest.raises(ValueError, match=message) as caught:
        load(path, large=large)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("problem", "labels", "message"),
    [
        ("multiclass", [0, 1, 3, 0, 1, 3], "no training sample of class 2"),
        ("multiclass", [0] * 6, "no training sample of class 1"),
        ("binary", [0, 1, 2, 0, 1, 2], r"must lie in 0\.\.1"),
        ("multiclass", np.eye(6, dtype=int), "argmax"),
        ("multilabel", [0, 1, 0, 1, 0, 1], "data.problem=binary"),
        ("multilabel", [[1, 0, 0], [1, 1, 0]] * 3, "label 0, 2 is the same in all"),
        ("multilabel", [[1, 0], [0, 2]] * 3, r"holds 2; labels must lie in 0\.\.1"),
        ("multi-class", [0, 1] * 3, "unknown problem 'multi-class'.*did you mean 'multiclass'"),
    ],
)
def test_labels_that_contradict_the_problem(tmp_path, problem, labels, message):
    changes = {f"{split}_labels": np.array(labels) for split in store.SPLITS}
    with pytest.raises(ValueError, match=message):
        store.read(own(tmp_path, (9, 9), **changes), problem=problem)


def test_a_class_that_only_val_has_is_missing_in_train(tmp_path):
    with pytest.raises(ValueError, match="no training sample of class 3"):
        store.read(own(tmp_path, (9, 9), val_labels=np.array([0, 1, 2, 3, 3, 3])), problem="multiclass")


@pytest.mark.parametrize("large", [store.LARGE, 0])
@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "text"])
def test_damaged_files(official, damage, large):
    path, _ = official
    whole = bytearray(path.read_bytes())
    if damage == "truncated":
        path.write_bytes(whole[: len(whole) // 2])
    elif damage == "flipped":
        whole[len(whole) // 3] ^= 0xFF
        path.write_bytes(whole)
    else:
        path.write_bytes(b"" if damage == "empty" else b"<html>Sorry</html>")
    with pytest.raises(ValueError, match=r"truncated, damaged or no npz file.*delete it"):
        load(path, large=large)
    assert not list(path.parent.glob("*.unpacked/*_images.npy*")) or damage == "flipped"


def test_labels_that_are_python_objects(tmp_path):
    path = own(tmp_path, (9, 9), train_labels=np.array([0, 1, 2, 0, 1, "x"], dtype=object))
    with pytest.raises(ValueError, match="holds Python objects; save plain arrays of integers"):
        store.read(path, problem="multiclass")


@pytest.mark.parametrize("split", ["val", "test"])
def test_an_empty_split(tmp_path, split):
    empty = {f"{split}_images": np.zeros((0, 9, 9), np.uint8), f"{split}_labels": np.zeros((0, 1), np.int64)}
    with pytest.raises(ValueError, match=f"{split}_images is empty"):
        store.read(own(tmp_path, (9, 9), **empty), problem="multiclass")


def test_values_beyond_the_header_are_damage(official):
    path, arrays = official
    np.savez(path, **{key: array for key, array in arrays.items() if key != "val_images"})
    with zipfile.ZipFile(path, "a") as archived, archived.open("val_images.npy", "w") as member:
        np.lib.format.write_array(member, arrays["val_images"])
        member.write(b"x")
    with pytest.raises(ValueError, match=r"val_images.npy has \d+ bytes, which is not what its header says"):
        load(path)


def test_a_header_that_says_more_than_there_is_takes_no_memory(tmp_path):
    path = own(tmp_path, (9, 9))
    with zipfile.ZipFile(path) as archived:
        members = {name: archived.read(name) for name in archived.namelist()}
    lie = np.lib.format.header_data_from_array_1_0(np.zeros((6, 1), np.int64)) | {"shape": (10**12, 1)}
    with zipfile.ZipFile(path, "w") as archived:
        for name, data in members.items():
            with archived.open(name, "w") as member:
                if name == "train_labels.npy":
                    np.lib.format.write_array_header_1_0(member, lie)
                    data = data[128:]  # noqa: PLW2901
                member.write(data)
    with pytest.raises(ValueError, match=r"own.npz is truncated, damaged .*not what its header says"):
        store.read(path, problem="multiclass")


def test_a_small_file_that_would_fill_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "_BOMB_BYTES", 1 << 20)
    path = tmp_path / "bomb.npz"
    arrays = content(6, (9, 9)) | {"train_images": np.zeros((6, 600, 600), np.uint8)}
    np.savez_compressed(path, **arrays)
    with pytest.raises(ValueError, match=r"bomb.npz .*would grow from \d+ to 2160128 bytes"):
        store.read(path, problem="multiclass")


def test_pickled_arrays_are_not_executed(tmp_path):
    path = own(tmp_path, (9, 9), train_labels=np.array([{}] * 6, dtype=object))
    with pytest.raises(ValueError, match=r"own.npz"):
        store.read(path, problem="multiclass")


def test_missing_file_of_ones_own(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no such file: .*nothing.npz"):
        store.read(tmp_path / "nothing.npz", problem="binary")


def test_tampering_is_found(official):
    path, _ = official
    sums = hashlib.md5(path.read_bytes()).hexdigest(), catalog.get(FLAG).md5(28)
    with pytest.raises(ValueError, match=f"md5 {sums[0]}.*{sums[1]}.*Delete it.*data.verify=false"):
        load(path, verify=True)


def test_a_large_file_is_hashed_once_until_it_changes(official, monkeypatch):
    path, arrays = official
    real = path.read_bytes()
    hashed = []
    monkeypatch.setattr(catalog.DataSet, "md5", lambda self, size: hashlib.md5(real).hexdigest())
    monkeypatch.setattr(store, "md5_of", lambda file: hashed.append(file) or files.md5_of(file))
    for _ in range(3):
        load(path, verify=True, large=0)
    assert len(hashed) == 1
    np.savez(path, **(arrays | {"test_images": 255 - arrays["test_images"]}))
    with pytest.raises(ValueError, match="has md5"):
        load(path, verify=True, large=0)
    assert len(hashed) == 2


# Large files


def test_unpacked_arrays_are_made_anew_when_the_file_changes(official):
    path, arrays = official
    first = load(path, large=0)["test"].images
    folder = path.parent / "vesselmnist3d.unpacked"
    made = (folder / "test_images.npy").stat().st_ino
    load(path, large=0)
    assert (folder / "test_images.npy").stat().st_ino == made
    changed = 255 - arrays["test_images"]
    np.savez(path, **(arrays | {"test_images": changed}))
    second = load(path, large=0)["test"].images
    np.testing.assert_array_equal(second.gather(np.arange(6)), changed)
    np.testing.assert_array_equal(first.gather(np.arange(6)), arrays["test_images"])  # a run that goes on is not hurt
    assert json.loads((folder / "meta.json").read_text())["source"]["size"] == path.stat().st_size


def test_cache_is_used_instead_of_the_folder_beside_the_file(official, tmp_path):
    path, arrays = official
    split = load(path, large=0, cache=tmp_path / "cache" / "deep")["val"]
    np.testing.assert_array_equal(split.images.gather(np.array([2])), arrays["val_images"][[2]])
    assert len(list((tmp_path / "cache" / "deep").glob("vesselmnist3d-*.unpacked/val_images.npy"))) == 1
    assert not (tmp_path / "vesselmnist3d.unpacked").exists()


def test_folder_that_cannot_be_written_names_the_way_out(official):
    path, _ = official
    with pytest.raises(PermissionError, match=r"cannot write to .*data.cache=<folder>"):
        load(path, large=0, cache=path)  # below a file no folder can be made, even by root


def test_full_disk_says_how_much_is_needed_and_leaves_nothing(official, monkeypatch):
    path, _ = official

    def full(source, target, length=0):
        target.write(source.read(100))
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(archive.shutil, "copyfileobj", full)
    needed = zipfile.ZipFile(path).getinfo("train_images.npy").file_size
    with pytest.raises(OSError, match=f"disk full: .* needs {needed} bytes .*data.cache=<folder>") as caught:
        load(path, large=0)
    assert caught.value.errno == errno.ENOSPC
    assert sorted(file.name for file in (path.parent / "vesselmnist3d.unpacked").iterdir()) == [".lock", "meta.json"]


def test_fortran_order_is_refused_where_it_would_be_slow(official):
    path, arrays = official
    np.savez(path, **(arrays | {"train_images": np.asfortranarray(arrays["train_images"])}))
    np.testing.assert_array_equal(load(path)["train"].images.gather(np.arange(6)), arrays["train_images"])
    with pytest.raises(ValueError, match="train_images is stored in Fortran order"):
        load(path, large=0)


_MEASURE = """
import resource, sys
import numpy as np
from scale.data import images
images.RESIDENT = 16 << 20
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() / 2**20
mapped = images.Images.open(__import__("pathlib").Path(sys.argv[1]), (224, 224, 3))
rows = np.random.default_rng(0).permutation(len(mapped))
mapped.gather(rows[:16])
before, most = resident(), 0
for start in range(0, len(rows), 16):
    mapped.gather(rows[start:start + 16])
    most = max(most, resident())
print(most - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_resident_memory_is_bounded(tmp_path):
    path = tmp_path / "images.npy"
    array = np.lib.format.open_memmap(path, "w+", np.uint8, (800, 224, 224, 3))  # 115 MiB
    array[:] = 1
    array.flush()
    done = subprocess.run([sys.executable, "-c", _MEASURE, str(path)], check=True, capture_output=True, text=True)
    assert float(done.stdout) < 40  # MiB


def test_one_large_gather_gives_pages_back_on_the_way(tmp_path, monkeypatch):
    array = np.random.default_rng(0).integers(0, 256, (50, 40, 40), dtype=np.uint8)
    np.save(tmp_path / "a.npy", array)
    monkeypatch.setattr(images, "RESIDENT", 3 * (1600 + images._FAULT))
    mapped = images.Images.open(tmp_path / "a.npy", (40, 40))
    given_back = []
    account = mapped._account
    monkeypatch.setattr(mapped, "_account", lambda touched: given_back.append(touched) or account(touched))
    rows = np.random.default_rng(1).integers(0, 50, 20)
    np.testing.assert_array_equal(mapped.gather(rows), array[rows])
    assert len(given_back) == 7


# Downloading


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `server.body` with the faults in `server.faults`."""

    def do_GET(self):
        server, body, begin = self.server, self.server.body, 0
        requested = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        server.ranges.append(requested and int(requested[1]))
        if requested and "ignores range" not in server.faults:
            begin = int(requested[1])
        if begin >= len(body):
            self.send_error(416)
            return
        if "missing" in server.faults:
            self.send_error(404)
            return
        if "never answers" in server.faults:
            time.sleep(3)
            return
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(body) - begin))
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(body) - 1}/{len(body)}")
        self.end_headers()
        end = len(body)
        if "breaks once" in server.faults:
            server.faults.remove("breaks once")
            end = begin + (end - begin) // 2
        if "stalls" in server.faults:
            self.wfile.write(body[begin : begin + 1000])
            self.wfile.flush()
            time.sleep(3)
            return
        for start in range(begin, end, 4096):
            self.wfile.write(body[start : min(start + 4096, end)])
            time.sleep(0.002 if "slow" in server.faults else 0)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(official, monkeypatch):
    path, _ = official
    body = path.read_bytes()
    path.unlink()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.body, server.faults, server.ranges, server.path = body, set(), [], path
    server.md5 = hashlib.md5(body).hexdigest()
    server.url = f"http://127.0.0.1:{server.server_port}/vesselmnist3d.npz?download=1"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setattr(catalog.DataSet, "url", lambda self, size: server.url)
    monkeypatch.setattr(catalog.DataSet, "md5", lambda self, size: server.md5)
    yield server
    server.shutdown()
    server.server_close()


def left_behind(path):
    return sorted(file.name for file in path.parent.iterdir() if not file.name.startswith("."))


def test_downloads_into_a_new_folder_and_only_once(server, tmp_path):
    path = tmp_path / "new" / "folder" / "vesselmnist3d.npz"
    for _ in range(2):
        assert len(load(path, verify=True)["train"]) == 6
    assert path.read_bytes() == server.body
    assert server.ranges == [None]
    assert left_behind(path) == ["vesselmnist3d.npz"]


@pytest.mark.parametrize("fault", ["slow", "breaks once", "ignores range", "breaks once, ignores range"])
@pytest.mark.parametrize("had", [0, 5000])
def test_survives_bad_servers(server, fault, had):
    server.faults.update(fault.split(", "))
    part = server.path.with_name("vesselmnist3d.npz.part")
    if had:
        part.write_bytes(server.body[:had])
    load(server.path, verify=True)
    assert server.path.read_bytes() == server.body
    assert server.ranges[0] == (had or None)
    assert not part.exists()
    if fault == "breaks once":
        broke = had + (len(server.body) - had) // 2
        assert broke - download._CHUNK < server.ranges[1] <= broke


@pytest.mark.parametrize("part", ["whole", "of another file", "longer than the file"])
def test_odd_partial_files(server, part):
    contents = {"whole": server.body, "of another file": b"x" * 5000, "longer than the file": server.body + b"x"}
    server.path.with_name("vesselmnist3d.npz.part").write_bytes(contents[part])
    load(server.path, verify=True)
    assert server.path.read_bytes() == server.body


def test_wrong_md5_is_told_and_removed(server):
    found, server.md5 = server.md5, "0" * 32
    with pytest.raises(ValueError, match=f"md5 {found} instead of {'0' * 32}"):
        load(server.path)
    assert left_behind(server.path) == []


def by_hand(error, server):
    return all(part in str(error) for part in (server.url, str(server.path), server.md5, "data.root=<folder>"))


def test_no_network_says_what_to_do(server):
    server.shutdown()
    server.server_close()
    begin = time.monotonic()
    with pytest.raises(ConnectionError, match=r"no network to download vesselmnist3d.npz") as caught:
        load(server.path)
    assert time.monotonic() - begin < 2
    assert by_hand(caught.value, server)


def test_patience_ends_within_15_seconds():
    assert max(download.ANSWER, download.STALL + download.AGAIN) < 15


@pytest.mark.parametrize("fault", ["never answers", "stalls"])
def test_silence_is_given_up(server, monkeypatch, fault):
    for name in ("ANSWER", "STALL", "AGAIN"):
        monkeypatch.setattr(download, name, 0.3)
    server.faults.add(fault)
    begin = time.monotonic()
    with pytest.raises(ConnectionError, match="no network") as caught:
        load(server.path)
    assert time.monotonic() - begin < 2.5
    assert by_hand(caught.value, server)
    assert left_behind(server.path) == (["vesselmnist3d.npz.part"] if fault == "stalls" else [])


def test_a_name_that_is_looked_up_for_ever_is_given_up(server, monkeypatch):
    monkeypatch.setattr(download, "ANSWER", 0.3)
    monkeypatch.setattr(download.requests, "get", lambda *_, **__: time.sleep(3))
    begin = time.monotonic()
    with pytest.raises(ConnectionError, match=r"no answer within 0\.3 s"):
        load(server.path)
    assert time.monotonic() - begin < 2


def test_a_refusing_server_is_not_called_no_network(server):
    server.faults.add("missing")
    with pytest.raises(ConnectionError, match=r"cannot download vesselmnist3d.npz: 404") as caught:
        load(server.path)
    assert by_hand(caught.value, server)


def test_download_can_be_forbidden(server):
    with pytest.raises(FileNotFoundError, match=r"is missing and data.download=false") as caught:
        load(server.path, download=False)
    assert by_hand(caught.value, server)
    assert server.ranges == []


def test_full_disk_while_downloading(server, monkeypatch):
    class Full:
        def __init__(self, *_, **__): ...
        def __enter__(self):
            return self

        def __exit__(self, *_): ...
        def update(self, count):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(download, "tqdm", Full)
    with pytest.raises(OSError, match=r"disk full: .*data.root=<folder>") as caught:
        load(server.path)
    assert caught.value.errno == errno.ENOSPC
    assert left_behind(server.path) == []


def test_root_that_cannot_be_written(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(PermissionError, match=r"data.root=<folder>"):
        load(tmp_path / "file" / "vesselmnist3d.npz")


def _start(path, url, md5, results):
    download.fetch(url, path, md5=md5)
    split = load(path, large=0)["train"]
    results.put(hashlib.md5(split.images.gather(np.arange(6)).tobytes()).hexdigest())


def test_processes_that_start_together_share_one_download(server, official):
    server.faults.add("slow")
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    arguments = (server.path, server.url, server.md5, results)
    processes = [context.Process(target=_start, args=arguments) for _ in range(3)]
    for process in processes:
        process.start()
    sums = {results.get(timeout=30) for _ in processes}
    for process in processes:
        process.join()
    assert sums == {hashlib.md5(official[1]["train_images"].tobytes()).hexdigest()}
    assert server.ranges == [None]
    assert left_behind(server.path) == ["vesselmnist3d.npz", "vesselmnist3d.unpacked"]


def test_two_files_of_one_name_in_one_cache_are_two(official, tmp_path):
    """A worker that opened the first one's images again was given the second one's."""
    path, arrays = official
    (tmp_path / "other").mkdir()
    changed = 255 - arrays["val_images"]
    np.savez(tmp_path / "other" / path.name, **(arrays | {"val_images": changed}))
    places = (path, tmp_path / "other" / path.name)
    found = [load(place, large=0, cache=tmp_path / "cache")["val"].images for place in places]
    again = [pickle.loads(pickle.dumps(part)) for part in found]
    for part, expected in zip(again, (arrays["val_images"], changed), strict=True):
        np.testing.assert_array_equal(part.gather(np.arange(len(expected))), expected)


def test_an_unpacked_array_of_objects_is_not_read(official):
    """Its bytes would be taken for pointers."""
    path, _ = official
    load(path, large=0)
    target = path.parent / "vesselmnist3d.unpacked" / "train_images.npy"
    shape = np.load(target, mmap_mode="r").shape
    with target.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": shape})
        file.write(b"A" * (8 * int(np.prod(shape))))
    with pytest.raises(ValueError, match="holds object, not uint8: delete the folder"):
        load(path, large=0)


@pytest.mark.parametrize("inside", [False, True])
def test_nothing_is_unpacked_or_deleted_through_a_link(inside, official, tmp_path):
    path, _ = official
    victim, folder = tmp_path / "victim", path.parent / "vesselmnist3d.unpacked"
    victim.mkdir()
    np.save(victim / "mine.npy", np.zeros(3))
    if inside:
        folder.mkdir()
        (folder / "train_images.npy").symlink_to(victim / "mine.npy")
    else:
        folder.symlink_to(victim)
    with pytest.raises(ValueError, match="is a symbolic link"):
        load(path, large=0)
    assert [file.name for file in victim.iterdir()] == ["mine.npy"]
