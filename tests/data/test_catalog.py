import pickle
import subprocess
import sys

import numpy as np
import pytest

from scale.data import catalog


def test_equals_the_packages_own_metadata():
    medmnist = pytest.importorskip("medmnist")
    info = medmnist.INFO
    assert set(catalog.FLAGS) == set(info)
    for flag in catalog.FLAGS:
        data, official = catalog.get(flag), info[flag]
        assert data.title == official["python_class"]
        assert dict(data.samples) == official["n_samples"]
        assert data.channels == official["n_channels"]
        assert {str(k): name for k, name in enumerate(data.labels)} == official["label"]
        published = {28 if key == "url" else int(key[4:]) for key in official if key.startswith("url")}
        assert set(data.sizes) == published
        for size in data.sizes:
            suffix = "" if size == 28 else f"_{size}"
            assert data.url(size) == official[f"url{suffix}"]
            assert data.md5(size) == official[f"MD5{suffix}"]
            assert f"/{data.file_name(size)}?" in data.url(size)


def test_problems():
    problems = {flag: catalog.get(flag).problem for flag in catalog.FLAGS}
    assert problems["chestmnist"] == "multilabel"
    assert problems["retinamnist"] == "ordinal"
    binary = {flag for flag, problem in problems.items() if problem == "binary"}
    assert binary == {
        "pneumoniamnist", "breastmnist", "nodulemnist3d", "adrenalmnist3d", "vesselmnist3d", "synapsemnist3d",
    }  # fmt: skip
    assert sum(problem == "multiclass" for problem in problems.values()) == 10


@pytest.mark.parametrize("flag", catalog.FLAGS)
def test_symmetries_name_axes_that_exist(flag):
    data = catalog.get(flag)
    symmetry = data.symmetry
    assert set(symmetry.flips) <= set(range(data.spatial_dims))
    assert 0 < symmetry.rotation <= 180
    assert symmetry.planes
    assert all(0 <= a < b < data.spatial_dims for a, b in symmetry.planes)
    assert len(symmetry.reason) > 20
    assert all(caveat.endswith(".") for caveat in data.caveats)


def test_laterality_and_gravity_are_respected():
    lateral = [flag for flag in catalog.FLAGS if flag.startswith(("organ", "chest", "pneumonia"))]
    assert len(lateral) == 6
    for flag in lateral:
        assert catalog.get(flag).symmetry.flips == ()
        assert catalog.get(flag).symmetry.rotation <= 15
    for flag in ("octmnist", "retinamnist", "breastmnist"):  # mirrored left-right (columns), never upside down
        assert catalog.get(flag).symmetry.flips == (1,)
        assert catalog.get(flag).symmetry.rotation <= 15
    for flag in ("pathmnist", "bloodmnist", "tissuemnist", "dermamnist"):
        assert catalog.get(flag).symmetry.flips == (0, 1)
        assert catalog.get(flag).symmetry.rotation == 180


def test_caveats_that_change_a_conclusion_are_told():
    def told(flag):
        return " ".join(catalog.get(flag).caveats)

    assert "0.947" in told("chestmnist")
    assert "8268" in told("organcmnist")
    assert "8216" in told("organcmnist")
    assert catalog.get("organcmnist").samples["test"] == 8216
    assert "order of its labels" in told("organmnist3d")
    assert catalog.get("organmnist3d").labels != catalog.get("organamnist").labels
    assert "balanced" in told("octmnist")
    assert "several splits" in told("dermamnist")
    assert "healthy" in told("breastmnist")


@pytest.mark.parametrize(
    ("flag", "points"),
    [
        ("fracturemnist3d", 3.2),
        ("breastmnist", 2.8),
        ("adrenalmnist3d", 2.5),
        ("retinamnist", 2.5),
        ("vesselmnist3d", 1.7),
    ],
)
def test_standard_errors_are_told_for_the_small_test_splits(flag, points):
    assert f"{points} points" in " ".join(catalog.get(flag).caveats)
    widest = 100 * np.sqrt(0.25 / catalog.get(flag).samples["test"])  # of any accuracy on that many samples
    assert points <= widest + 0.05


def test_unknown_names_get_the_nearest():
    with pytest.raises(ValueError, match="unknown data set 'bloodmist'; did you mean 'bloodmnist'"):
        catalog.get("bloodmist")
    with pytest.raises(ValueError, match="did you mean 'organmnist3d'"):
        catalog.get("OrganMNIST3D")
    with pytest.raises(ValueError, match="Allowed: pathmnist, "):
        catalog.get("xyz")


@pytest.mark.parametrize(("flag", "size"), [("pathmnist", 32), ("vesselmnist3d", 128), ("vesselmnist3d", 224)])
def test_sizes_that_do_not_exist(flag, size):
    data = catalog.get(flag)
    for ask in (data.file_name, data.url, data.md5, data.check_size):
        with pytest.raises(ValueError, match=rf"{flag} has no size {size}; published sizes are 28, 64"):
            ask(size)


def test_loads_neither_torch_nor_medmnist():
    code = (
        "import sys; from scale.data import catalog; [catalog.get(flag) for flag in catalog.FLAGS]; "
        "assert not {'torch', 'medmnist', 'numpy', 'pandas'} & set(sys.modules), sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("flag", catalog.FLAGS)
def test_travels_to_other_processes(flag):
    data = catalog.get(flag)
    assert pickle.loads(pickle.dumps(data)) == data
    assert hash(data) == hash(pickle.loads(pickle.dumps(data)))
