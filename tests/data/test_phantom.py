import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from scale.data import phantom, scenes, store

FEW = {"train": 15, "val": 15, "test": 15}
CASES = [("binary", 2), ("multiclass", 5), ("multiclass", 15), ("multilabel", 14), ("multilabel", 2), ("ordinal", 5)]


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize(("problem", "num_classes"), CASES)
def test_layout_and_every_class_in_every_split(problem, num_classes, spatial_dims):
    arrays = phantom.generate(spatial_dims=spatial_dims, problem=problem, num_classes=num_classes, samples=FEW)
    for split, count in FEW.items():
        images, labels, masks = (arrays[f"{split}_{kind}"] for kind in ("images", "labels", "masks"))
        assert images.shape == masks.shape == (count,) + (28,) * spatial_dims
        assert images.dtype == labels.dtype == masks.dtype == np.uint8
        if problem == "multilabel":
            assert labels.shape == (count, num_classes)
            assert (labels.min(axis=0) == 0).all()
            assert (labels.max(axis=0) == 1).all()
        else:
            assert labels.shape == (count, 1)
            assert set(labels.ravel()) == set(range(num_classes))


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize(("problem", "num_classes"), CASES)
def test_masks_say_what_the_labels_say(problem, num_classes, spatial_dims):
    samples = {"train": 40}
    arrays = phantom.generate(spatial_dims=spatial_dims, problem=problem, num_classes=num_classes, samples=samples)
    for label, mask in zip(arrays["train_labels"], arrays["train_masks"], strict=True):
        kinds = set(np.unique(mask)) - {0}
        if problem == "multiclass":
            assert kinds == {label[0]} - {0}
        elif problem == "multilabel":
            wanted = set(np.flatnonzero(label) + 1)
            assert kinds <= wanted
            assert len(kinds) >= len(wanted) - (num_classes == 14)  # of many, one may be covered by others
        else:
            assert bool(kinds) == bool(label[0])


@pytest.mark.parametrize(
    ("problem", "num_classes", "channels", "size"),
    [("binary", 2, 1, 28), ("multilabel", 14, 3, 28), ("ordinal", 5, 1, 64), ("multiclass", 9, 1, 33)],
)
def test_2d_sets_are_slices_of_the_3d_ones(problem, num_classes, channels, size):
    common = {"problem": problem, "num_classes": num_classes, "channels": channels, "size": size, "seed": 7}
    flat = phantom.generate(spatial_dims=2, samples={"test": 16}, **common)
    volumes = phantom.generate(spatial_dims=3, samples={"test": 16}, **common)
    np.testing.assert_array_equal(flat["test_labels"], volumes["test_labels"])
    for i in range(16):
        planes = [k for k in range(size) if np.array_equal(volumes["test_images"][i, k], flat["test_images"][i])]
        assert len(planes) == 1
        assert 0.25 < planes[0] / size < 0.75
        np.testing.assert_array_equal(volumes["test_masks"][i, planes[0]], flat["test_masks"][i])


def test_samples_depend_on_seed_split_and_index_only():
    def make(seed=0, **samples):
        return phantom.generate(spatial_dims=2, samples=samples, seed=seed)

    few, many = make(train=5, val=4), make(val=4, train=9)
    for kind in ("images", "labels", "masks"):
        np.testing.assert_array_equal(few[f"train_{kind}"], many[f"train_{kind}"][:5])
        np.testing.assert_array_equal(few[f"val_{kind}"], many[f"val_{kind}"])
    assert not np.array_equal(few["train_images"][:4], few["val_images"])
    assert not np.array_equal(few["train_images"], make(seed=1, train=5)["train_images"])
    assert len({image.tobytes() for image in many["train_images"]}) == 9


@pytest.mark.parametrize("size", [56, 224])
def test_coarse_features_are_the_same_at_every_size(size):
    small = phantom.generate(spatial_dims=2, samples={"test": 12})
    large = phantom.generate(spatial_dims=2, samples={"test": 12}, size=size)
    factor = size // 28

    def pooled(array):
        return array.reshape(12, 28, factor, 28, factor).mean(axis=(2, 4))

    # planes of the two grids differ by less than half a voxel of the coarse one
    pairs = zip(small["test_images"], pooled(large["test_images"]), strict=True)
    similar = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in pairs]
    assert min(similar) > 0.75
    area = (small["test_masks"] > 0).mean(), (large["test_masks"] > 0).mean()
    assert area[1] == pytest.approx(area[0], rel=0.1)


def _grey_values(images):
    flat = images.reshape(len(images), -1)
    histograms = np.stack([np.histogram(row, bins=16, range=(0, 256))[0] for row in flat]) / flat.shape[1]
    return np.column_stack((flat.mean(axis=1), flat.std(axis=1), histograms))


def _auc(features, labels, half):
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(features[:half], labels[:half])
    return roc_auc_score(labels[half:], model.predict_proba(features[half:])[:, 1])


def test_grey_values_alone_do_not_tell_but_the_lesion_does():
    arrays = phantom.generate(spatial_dims=2, samples={"train": 600})
    labels = arrays["train_labels"][:, 0]
    assert _auc(_grey_values(arrays["train_images"]), labels, 400) < 0.76
    lesion = (arrays["train_masks"] > 0).mean(axis=(1, 2))
    assert ((lesion > 0) == labels).all()
    assert 0.03 < lesion[labels == 1].mean() < 0.12


def test_colour_does_not_tell():
    arrays = phantom.generate(spatial_dims=2, channels=3, samples={"train": 400})
    images = arrays["train_images"].astype(float)
    assert images.shape == (400, 28, 28, 3)
    means = images.mean(axis=(1, 2))
    spread = images.std(axis=(1, 2))
    colour = np.column_stack((means[:, 0] - means[:, 1], means[:, 1] - means[:, 2], spread[:, 0] - spread[:, 1]))
    assert _auc(np.column_stack((colour, colour**2)), arrays["train_labels"][:, 0], 250) < 0.65


def test_lesions_differ_from_their_surroundings():
    arrays = phantom.generate(spatial_dims=3, problem="multiclass", num_classes=8, samples={"train": 80})
    for kind, shape in enumerate(scenes.SHAPES, start=1):
        contrasts = []
        for image, mask in zip(arrays["train_images"].astype(float), arrays["train_masks"] == kind, strict=True):
            if mask.any():
                contrasts.append((image[mask].mean() - image[~mask].mean()) / image.std())
        assert len(contrasts) == 10
        mean = np.mean(contrasts)
        assert (mean < -0.5) if shape == "dark" else (abs(mean) < 0.5) if shape == "striped" else (mean > 0.5)


def test_ordinal_grades_count_lesions():
    ndimage = pytest.importorskip("scipy.ndimage")
    arrays = phantom.generate(spatial_dims=3, problem="ordinal", num_classes=5, samples={"train": 40})
    counts = [ndimage.label(mask)[1] for mask in arrays["train_masks"]]
    assert counts == arrays["train_labels"][:, 0].tolist()


def test_distances_of_a_ball_are_exact():
    points = np.array([[0.0, 0.3, 0.0], [0.0, 0.0, 0.4], [0.0, 0.0, 0.0]])  # columns are points
    np.testing.assert_allclose(scenes._DISTANCES["ball"](points, 0.2), [-0.2, 0.1, 0.2])
    ball = scenes.Thing(1, "ball", np.full(3, 0.5), np.eye(3), 0.2, np.ones(1))
    centres = (np.arange(100) + 0.5) / 100
    grid = np.meshgrid(centres, centres, centres, indexing="ij", sparse=True)
    _, _, inside = scenes._draw(ball, tuple(grid))
    assert inside.sum() / 1e6 == pytest.approx(4 / 3 * np.pi * 0.2**3, rel=0.01)


def test_field_equals_the_sum_of_its_waves():
    waves = scenes.random_waves(np.random.default_rng(0), 1.0)
    axis = (np.arange(5) + 0.5) / 5
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij", sparse=True)
    slow = sum(
        a * np.cos(2 * np.pi * (f[0] * z + f[1] * y + f[2] * x) + p)
        for f, p, a in zip(waves.frequencies, waves.phases, waves.amplitudes, strict=True)
    )
    np.testing.assert_allclose(scenes._field(waves, z, y, x), slow, atol=1e-5)


def test_written_files_are_read_back_with_their_masks(tmp_path):
    path = phantom.write(tmp_path / "new" / "phantom.npz", problem="multiclass", num_classes=4, samples=FEW)
    splits = store.read(path, problem="multiclass")
    assert [*tmp_path.joinpath("new").iterdir()] == [path]
    made = phantom.generate(problem="multiclass", num_classes=4, samples=FEW)
    for split in FEW:
        rows = np.arange(15)
        np.testing.assert_array_equal(splits[split].images.gather(rows), made[f"{split}_images"])
        np.testing.assert_array_equal(splits[split].masks.gather(rows), made[f"{split}_masks"])
        np.testing.assert_array_equal(splits[split].labels, made[f"{split}_labels"])
    again = phantom.write(tmp_path / "again.npz", problem="multiclass", num_classes=4, samples=FEW)
    assert again.read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"problem": "ordnal"}, "unknown problem 'ordnal'; did you mean 'ordinal'"),
        ({"spatial_dims": 4}, "allowed are 2 and 3"),
        ({"problem": "multiclass", "num_classes": 16}, "2 to 15"),
        ({"num_classes": 3}, "2 to 2"),
        ({"size": 8}, "at least 16"),
        ({"channels": 0}, "at least 1"),
        ({"problem": "multiclass", "num_classes": 9, "samples": {"train": 8}}, "8 samples in train"),
    ],
)
def test_impossible_recipes(wrong, message):
    with pytest.raises(ValueError, match=message):
        phantom.generate(**wrong)


OPTIONS = [{"deciding": ["rod"]}, {"lesions": 2}, {"decoys": ["striped"]}]


@pytest.mark.parametrize("option", OPTIONS, ids=str)
def test_a_binary_option_changes_what_it_names(option):
    common = {"spatial_dims": 2, "samples": {"test": 12}, "seed": 3}
    plain, other = phantom.generate(**common), phantom.generate(**common, **option)
    np.testing.assert_array_equal(plain["test_labels"], other["test_labels"])
    positive = plain["test_labels"][:, 0] == 1
    changed = (plain["test_images"] != other["test_images"]).any(axis=(1, 2))
    assert changed[positive].all()
    masks = other["test_masks"]
    assert not masks[~positive].any()  # a decoy decides nothing, so it is no lesion
    if "deciding" in option:
        assert set(np.unique(masks)) == {0, 1 + scenes.SHAPES.index("rod")}
    if "lesions" in option:
        sizes = [(m != 0).sum() for m in masks[positive]], [(m != 0).sum() for m in plain["test_masks"][positive]]
        assert np.mean(sizes[0]) > 1.5 * np.mean(sizes[1])


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"deciding": ["bal"]}, "unknown shape 'bal'; did you mean 'ball'"),
        ({"decoys": ["shell"]}, "shell decides the label"),
        ({"lesions": 4}, "lesions is 4; 1 to 3 find room"),
        ({"lesions": 2, "problem": "ordinal"}, "lesions: only a binary phantom takes it, and problem is ordinal"),
    ],
)
def test_a_binary_option_that_cannot_be(option, message):
    with pytest.raises(ValueError, match=message):
        phantom.generate(samples=FEW, **option)
