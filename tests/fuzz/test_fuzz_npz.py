"""Data files: damaged anywhere, or with arrays that contradict each other."""

import io
import zipfile
from functools import partial

import numpy as np
import pytest
from hypothesis import strategies as st
from promise import FEW, MANY, kept, run

from scale.data import store
from scale.data.quality import examine

COUNT = {"train": 12, "val": 6, "test": 6}


def arrays():
    draw = np.random.default_rng(0)
    found = {}
    for split, count in COUNT.items():
        found[f"{split}_images"] = draw.integers(0, 256, (count, 9, 9), dtype=np.uint8)
        found[f"{split}_labels"] = (np.arange(count)[:, None] % 3).astype(np.int64)
    return found


KEYS = sorted(arrays())
CHANGES = {
    "float32": lambda x: x.astype(np.float32),
    "float16": lambda x: x.astype(np.float16) / 3,
    "int64": lambda x: x.astype(np.int64),
    "int8": lambda x: x.astype(np.int8),
    "bool": lambda x: x.astype(bool),
    "complex": lambda x: x.astype(np.complex64),
    "text": lambda x: x.astype(str),
    "objects": lambda x: x.astype(object),
    "void": lambda x: x.view("V1") if x.dtype.itemsize == 1 else x.view("V8"),
    "big-endian": lambda x: x.astype(x.dtype.newbyteorder(">")),
    "flat": lambda x: x.reshape(-1),
    "one more axis": lambda x: x[..., None],
    "two more axes": lambda x: x[:, None, ..., None],
    "a number": lambda x: x.sum(),
    "half": lambda x: x[: len(x) // 2],
    "none": lambda x: x[:0],
    "twice": lambda x: np.concatenate([x, x]),
    "transposed": lambda x: x.T,
    "Fortran": np.asfortranarray,
    "zeros": np.zeros_like,
    "negative": lambda x: -x.astype(np.int64) - 1,
    "large": lambda x: x + 10**6 if x.dtype.kind == "i" else x,
    "largest": lambda x: np.full_like(x, np.iinfo(x.dtype).max),
    "nan": lambda x: x * np.nan,
    "constant": lambda x: np.full_like(x, 2),
    "reversed": lambda x: x[::-1],
}


def written(content, compressed):
    file = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(file, **content)
    return file.getvalue()


def read(folder, data, problem, content):
    """Reads the file; what is read must be what NumPy finds in it."""
    path = folder / "own.npz"
    path.write_bytes(data)
    with kept("npz", "own.npz"):
        splits = store.read(path, problem=problem)
        examine(splits, problem=problem, num_classes=3)
        for split, found in splits.items():
            images = found.images.gather(np.arange(len(found)))
            expected = content[f"{split}_images"].reshape(images.shape)
            assert images.dtype == np.uint8
            assert np.array_equal(images, expected)
            assert np.array_equal(found.labels, content[f"{split}_labels"].reshape(found.labels.shape))


def one_damaged(folder, where, how, compressed, amount):
    content = arrays()
    data = bytearray(written(content, compressed))
    place = int(where * len(data)) % len(data)
    if how == "truncated":
        del data[place:]
    elif how == "flipped":
        data[place] ^= 1 << amount % 8
    elif how == "cut out":
        del data[place : place + amount]
    elif how == "inserted":
        data[place:place] = bytes(amount)
    else:
        data += bytes(range(amount % 256))
    read(folder, bytes(data), "multiclass", content)


def one_changed(folder, key, change, problem, member):
    content = arrays()
    if member == "changed":
        content[key] = CHANGES[change](content[key])
    elif member == "left out":
        del content[key]
    elif member == "renamed":
        content[key.upper()] = content.pop(key)
    else:
        content["another"] = content[key]
    read(folder, written(content, True), problem, content)


DAMAGE = st.tuples(
    st.floats(0, 1), st.sampled_from(["truncated", "flipped", "cut out", "inserted", "added"]), st.booleans(),
    st.integers(0, 2000),
)  # fmt: skip
CONTENT = st.tuples(
    st.sampled_from(KEYS), st.sampled_from(sorted(CHANGES)),
    st.sampled_from(["multiclass", "binary", "multilabel", "ordinal", "multi"]),
    st.sampled_from(["changed", "changed", "changed", "left out", "renamed", "added"]),
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("npz")


@pytest.mark.filterwarnings("ignore")
def test_damaged_anywhere(folder):
    run(FEW, DAMAGE, partial(one_damaged, folder))


@pytest.mark.filterwarnings("ignore")
def test_arrays_that_contradict(folder):
    run(FEW, CONTENT, partial(one_changed, folder))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_damaged_anywhere_many(folder):
    run(MANY, DAMAGE, partial(one_damaged, folder))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_arrays_that_contradict_many(folder):
    run(MANY, CONTENT, partial(one_changed, folder))


def test_a_member_twice(folder):
    path = folder / "own.npz"
    path.write_bytes(written(arrays(), False))
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as archived:
        archived.writestr("train_labels.npy", b"x")
    with pytest.raises(ValueError, match=r"own\.npz"):
        store.read(path, problem="multiclass")
