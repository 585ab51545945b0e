"""New files in, the run's own predictions out; sets, warnings, shards, maps on the file's own grid."""

import csv
import json
from dataclasses import replace

import nibabel
import numpy as np
import pytest
import torch
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, ornt_transform
from omegaconf import OmegaConf
from PIL import Image

import scale
from scale.attribution.metrics import explainer as making
from scale.attribution.report import page
from scale.config import compose
from scale.config.schemas import Attribution
from scale.data import companion
from scale.data.augment import mirrors
from scale.evaluation.bootstrap import bootstrap
from scale.export import export
from scale.inference import gallery, job, maps, uncertainty
from scale.inference.listing import labels_of, listing_of
from scale.inference.maps import Explainer
from scale.inference.predictor import Predictor
from scale.predict import predict
from scale.readers.arrays import picture_of
from scale.runs import inputs as record
from tests.readers.dicom_files import write_series

CODES = ["SPL", "RAS", "LPS", "ARI", "PIR", "ILA"]
_AXES = {"R": (1, 0, 0), "L": (-1, 0, 0), "A": (0, 1, 0), "P": (0, -1, 0), "S": (0, 0, 1), "I": (0, 0, -1)}


def nifti(volume, code, path, zoom=(1.0, 1.0, 1.0)):
    """A volume (depth, row, column) as a file whose axes point to `code`; returns the file's values."""
    own = np.eye(4)
    own[:3, :3] = np.transpose([_AXES[letter] for letter in "SPL"])
    change = ornt_transform(axcodes2ornt(tuple("SPL")), axcodes2ornt(tuple(code)))
    values = nibabel.orientations.apply_orientation(volume, change)
    affine = own @ inv_ornt_aff(change, volume.shape) @ np.diag([*zoom, 1])
    affine[:3, 3] += (17, -3, 40)
    nibabel.save(nibabel.Nifti1Image(values, affine), path)
    return values


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def run_on(run, given, output, **options):
    overrides = [f"run={run}", f"input={given}", f"output={output}", "workers=1", "accelerator=cpu"]
    return predict(compose([*overrides, *(f"{k}={v}" for k, v in options.items())], name="predict"))


def test_volumes_in_any_orientation_give_the_runs_own_predictions(run3d, tmp_path):
    run = scale.load_run(run3d)
    run.datamodule.setup()
    volumes = run.datamodule.splits["test"].images.gather(np.arange(12))
    (tmp_path / "in").mkdir()
    for number, volume in enumerate(volumes):
        code = CODES[number % len(CODES)]
        nifti(volume, code, tmp_path / "in" / f"{number:02d}.nii.gz", zoom=(0.5 + number, 1.0, 2.0))
    assert run_on(run3d, tmp_path / "in", tmp_path / "out", calibrate="false") == 0
    found = rows_of(tmp_path / "out" / "predictions.csv")
    own = run.predictions["test"]["probabilities"]
    assert np.abs(np.array([float(row["p_class 1"]) for row in found]) - own[:, 1]).max() < 1e-4
    calibrated = run.predict([str(path) for path in sorted((tmp_path / "in").iterdir())])
    assert np.allclose(calibrated[["p_class 0", "p_class 1"]].sum(axis=1), 1)
    assert (calibrated["predicted"] == [row["predicted"] for row in found]).all()


def test_images_in_memory_and_as_files(run2d, tmp_path):
    run = scale.load_run(run2d)
    run.datamodule.setup()
    images = run.datamodule.splits["test"].images.gather(np.arange(24))
    for number, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{number:02d}.png")
    found = run.predict(images)
    files = run.predict(sorted(tmp_path.glob("*.png")))
    own = run.predictions["test"]["probabilities"]
    names = [f"p_class {k}" for k in range(4)]
    assert np.allclose(found[names], files[names], atol=1e-6)
    predictor = Predictor.of_runs([run], calibrate=False)
    assert np.allclose(predictor.predict(images)[names], own, atol=1e-4)
    assert np.allclose(predictor.predict(images[3])[names], own[3:4], atol=1e-4)  # a single image
    with pytest.raises(ValueError, match="image 1 is a volume"):
        run.predict([images[0], np.zeros((9, 9, 9), np.uint8)])


def test_labels_make_an_external_validation(run2d, tmp_path, capsys):
    run = scale.load_run(run2d)
    run.datamodule.setup()
    images, labels = run.datamodule.splits["test"].images.gather(np.arange(24)), run.predictions["test"]["labels"]
    for number, (image, label) in enumerate(zip(images, labels[:, 0], strict=True)):
        (tmp_path / "in" / f"class {label}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(tmp_path / "in" / f"class {label}" / f"{number:02d}.png")
    (tmp_path / "in" / "class 0" / "empty.png").touch()
    assert run_on(run2d, tmp_path / "in", tmp_path / "out", calibrate="false") == 3
    said = capsys.readouterr().out
    found = json.loads((tmp_path / "out" / "validation.json").read_text())
    assert found["external"]["n"] == 24
    intervals = bootstrap(labels, run.predictions["test"]["probabilities"], "multiclass").metrics
    for name in ("auc", "acc"):
        assert found["external"]["metrics"][name] == pytest.approx(run.metrics["test"][name], abs=1e-6)
        low, high = found["external"]["intervals"][name]
        own = intervals[name]  # nan, here None, where a network of two epochs predicts one class alone
        assert (low, high) == pytest.approx((own.low, own.high)) or (low is None and np.isnan(own.low))
    assert found["external"]["intervals"]["auc"][0] < found["external"]["intervals"]["auc"][1]
    assert "(n=24)" in said
    assert "coverage" in said
    assert "0 bytes" in rows_of(tmp_path / "out" / "skipped.csv")[0]["reason"]
    assert rows_of(tmp_path / "out" / "predictions.csv")[0]["label"] == "class 0"


@pytest.mark.parametrize(("split", "copies"), [("train", 64), ("val", 40), ("test", 0)])
def test_files_that_the_run_was_trained_on_validate_nothing(run2d, tmp_path, capsys, split, copies):
    """Also where a call was stopped between them."""
    run = scale.load_run(run2d)
    run.datamodule.setup()
    data = run.datamodule.splits[split]
    for number, label in enumerate(data.labels[:, 0]):
        place = tmp_path / "in" / f"class {label}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(data.images.gather([number])[0]).save(place / f"{number}.png")
    given = [f"run={run2d}", f"input={tmp_path}/in", f"output={tmp_path}/out", "workers=1", "accelerator=cpu"]
    for _ in range(2):
        assert predict(compose(given, name="predict")) == 0
        said = f"{copies} of {len(data)} files are copies of images that the model was trained or chosen on"
        assert (said in capsys.readouterr().out) == (copies > 0)
        found = json.loads((tmp_path / "out" / "validation.json").read_text())
        assert found["external"]["trained_on"] == copies
    assert "image" not in (tmp_path / "out" / "predictions.csv").read_text().splitlines()[0].split(",")


def test_labels_that_are_not_the_runs(tmp_path):
    (tmp_path / "t.csv").write_text("path,label\nt.csv,dog\n")
    listing = listing_of(tmp_path / "t.csv", ("cat", "cow"), source=None, split=None)
    with pytest.raises(ValueError, match="'dog', which the run does not know: cat, cow"):
        labels_of(listing, ("cat", "cow"), "binary")
    (tmp_path / "u.csv").write_text("path,b,a\nt.csv,1,0\n")
    listing = listing_of(tmp_path / "u.csv", ("a", "b"), source=None, split=None)
    assert labels_of(listing, ("a", "b"), "multilabel").tolist() == [[0, 1]]  # by name, not by place
    with pytest.raises(FileNotFoundError, match="no such file"):
        listing_of(tmp_path / "none", ("a", "b"), source=None, split=None)


CLASSES = ("1", "0", "2")  # names that are numbers, of other numbers


def npz_of(path, labels, said=None):
    labels = np.asarray(labels)
    np.savez(path, images=np.zeros((len(labels), 4, 4), np.uint8), labels=labels)
    if said is not None:
        companion.write(path, said)
    return path


@pytest.mark.parametrize("problem", ["multiclass", "ordinal"])
def test_an_npz_files_labels_are_class_numbers(tmp_path, problem):
    """Of its companion's classes, whatever the run's order is, else of the run's; never names."""
    path = npz_of(tmp_path / "a.npz", [[0], [1], [2]], {"problem": problem, "classes": list(CLASSES)})
    for classes, wanted in ((CLASSES, [0, 1, 2]), (("0", "1", "2"), [1, 0, 2])):
        listing = listing_of(path, classes, source=None, split=None)
        assert labels_of(listing, classes, problem)[:, 0].tolist() == wanted
    for kind in (np.uint8, np.float32):
        listing = listing_of(npz_of(tmp_path / "b.npz", np.arange(3, dtype=kind)), CLASSES, source=None, split=None)
        assert labels_of(listing, CLASSES, problem)[:, 0].tolist() == [0, 1, 2]


def test_an_npz_files_several_labels_are_matched_by_name(tmp_path):
    rows, said = [[1, 0], [0, 0]], {"problem": "multilabel", "classes": ["b", "a"]}
    for path, wanted in (
        (npz_of(tmp_path / "c.npz", rows, said), [[0, 1], [0, 0]]),
        (npz_of(tmp_path / "d.npz", rows), rows),
    ):
        listing = listing_of(path, ("a", "b"), source=None, split=None)
        assert labels_of(listing, ("a", "b"), "multilabel").tolist() == wanted
    listing = listing_of(tmp_path / "c.npz", ("a", "c"), source=None, split=None)
    with pytest.raises(ValueError, match="the labels are b, a; the run's are a, c"):
        labels_of(listing, ("a", "c"), "multilabel")
    listing = listing_of(tmp_path / "c.npz", ("class 0", "class 1"), source=None, split=None)
    assert labels_of(listing, ("class 0", "class 1"), "multilabel").tolist() == rows  # a run on a file without names


@pytest.mark.parametrize(
    ("labels", "said", "words"),
    [
        ([3], None, r"the label 3: give class numbers, 0 to 2 \(the run's 1, 0, 2\)"),
        ([-1], None, "the label -1: give class numbers"),
        ([2], {"problem": "binary", "classes": ["x", "y"]}, r"0 to 1 \(its companion's x, y\)"),
        ([[0, 1]], {"problem": "multilabel", "classes": ["x", "y", "z"]}, "has 2 labels, but its companion names 3"),
    ],
)
def test_an_npz_file_with_numbers_of_no_class(tmp_path, labels, said, words):
    with pytest.raises(ValueError, match=words):
        listing_of(npz_of(tmp_path / "e.npz", labels, said), CLASSES, source=None, split=None)


def test_shards_are_gone_on_with_and_merged(run2d, tmp_path, monkeypatch):
    run = scale.load_run(run2d)
    for number in range(10):
        image = np.random.default_rng(number).integers(0, 256, (28, 28, 3), np.uint8)
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    predictor = Predictor.of_runs([run])
    listing = listing_of(tmp_path, predictor.inputs.classes, source=None, split=None)

    def part(number, folder, count=3):
        return job.predict(predictor, listing, folder, shard=job.Shard(number, count), batch_size=2, workers=1)

    whole = part(0, tmp_path / "whole", count=1)
    assert whole.predicted == 10
    first = part(2, tmp_path / "out")
    assert first.missing == [0, 1]
    assert not (tmp_path / "out" / "predictions.csv").exists()
    part(0, tmp_path / "out")
    lines = (tmp_path / "out" / "parts" / "part-2-of-3.jsonl").read_text()
    (tmp_path / "out" / "parts" / "part-1-of-3.jsonl").write_text('{"row": 1, "pred')  # killed while writing
    last = part(1, tmp_path / "out")
    assert last.missing == []
    merged = [(tmp_path / place / "predictions.csv").read_text() for place in ("out", "whole")]
    assert [line.split(",")[:2] for line in merged[0].splitlines()] == [
        line.split(",")[:2] for line in merged[1].splitlines()
    ]
    assert lines.count("\n") == 3
    monkeypatch.setattr(predictor, "rows", lambda images: pytest.fail("predicted again"))
    part(1, tmp_path / "out")  # done: nothing is computed
    with pytest.raises(FileExistsError, match="other files or runs"):
        part(0, tmp_path / "out", count=2)
    with pytest.raises(ValueError, match="shards 0 to 2"):
        job.Shard(3, 3)


def test_no_prediction_is_kept_for_another_file(run2d, tmp_path):
    """Rows are told by number: a renamed or changed file must not get what stood in its place."""
    (tmp_path / "in").mkdir()
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 3), np.uint8)
    for name, image in zip("abz", images, strict=True):
        Image.fromarray(image).save(tmp_path / "in" / f"{name}.png")
    predictor = Predictor.of_runs([scale.load_run(run2d)])
    sizes = []
    rows = predictor.rows
    predictor.rows = lambda given: (sizes.append(len(given)), rows(given))[1]

    def call(explainer=None):
        listing = listing_of(tmp_path / "in", predictor.inputs.classes, source=None, split=None)
        return job.predict(
            predictor, listing, tmp_path / "out", shard=job.Shard(), batch_size=2, workers=1, explainer=explainer
        )

    call()
    assert sizes == [2, 1]  # no pass is larger than batch_size
    with pytest.raises(FileExistsError, match="other options"):
        call(Explainer(predictor, "saliency", tmp_path / "out"))
    (tmp_path / "in" / "b.png").rename(tmp_path / "in" / "c.png")
    with pytest.raises(FileExistsError, match="other files"):
        call()
    (tmp_path / "in" / "c.png").rename(tmp_path / "in" / "b.png")
    call()  # as it was
    Image.fromarray(images[0]).save(tmp_path / "in" / "b.png")
    with pytest.raises(FileExistsError, match="other files"):
        call()


@pytest.mark.parametrize("method", ["consensus", "integrated_gradients"])
@pytest.mark.parametrize("place", ["run", "exported", "run of before"])
def test_maps_of_new_files_are_those_of_scale_explain(place, method, run2d, tmp_path, caplog):
    """What was measured of a method is of this map: the same baseline, averaged over the same flips."""
    run = scale.load_run(run2d)
    run.datamodule.setup()
    if place == "exported":
        export(compose([f"run={run2d}", f"output={tmp_path / 'model'}"], name="export"))
        predictor = scale.load_pretrained(tmp_path / "model")
    else:
        predictor = Predictor.of_runs([run])
    if place == "run of before":
        predictor.inputs = replace(predictor.inputs, flips=None)
    explainer = Explainer(predictor, method, tmp_path)
    images = run.datamodule.splits["test"].images.gather(np.arange(3))
    found, targets = explainer.values(images)
    views = mirrors(run.datamodule.info.symmetry)
    assert len(views) == 4
    settings = OmegaConf.to_object(OmegaConf.merge(Attribution, compose([], name="explain").attribution))
    by_default = making.Explainer(run.model.net, run.model.problem, settings, views)
    given = run.datamodule.prepare({"image": torch.from_numpy(images).movedim(-1, 1)})["image"]
    wanted = by_default.maps(method, given, torch.from_numpy(targets)).sum(dim=1).numpy()
    assert np.allclose(found, wanted, atol=1e-5 * np.abs(wanted).max())
    assert explainer.record == {"method": method, "baseline": "blur", "views": [[], [0], [1], [0, 1]]}
    assert not caplog.records


def test_a_map_without_its_flips_says_so(exported_without_flips, tmp_path, caplog):
    explainer = Explainer(exported_without_flips, "consensus", tmp_path)
    assert explainer.record["views"] == [[]]
    assert "not averaged" in caplog.text
    caplog.clear()
    Explainer(exported_without_flips, "saliency", tmp_path)
    assert not caplog.records


@pytest.fixture
def exported_without_flips(run2d, tmp_path):
    export(compose([f"run={run2d}", f"output={tmp_path / 'model'}"], name="export"))
    path = tmp_path / "model" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "flips": None}))
    return scale.load_pretrained(tmp_path / "model")


def test_the_page_of_volumes_names_planes_by_the_runs_orientation(tmp_path):
    entry = page.entry(page.Sample("a", np.zeros((3, 3, 3), np.uint8), {"saliency": np.ones((3, 3, 3))}))
    gallery.keep(tmp_path / "a.shown", [0], [entry])
    gallery.write(tmp_path, [tmp_path / "a.shown"], [0], {}, orientation="RAS")
    assert '"planes":["sagittal","coronal","axial"]' in (tmp_path / gallery.PAGE).read_text()


def test_maps_of_two_files_have_two_names():
    names = ["a.png", "a_b.png", "a/b.png", "a b.png", "ä.png", "ö.png"]
    assert len({maps.file_name(name) for name in names}) == len(names)
    assert maps.file_name("a.png") == "a.png"


@pytest.mark.parametrize("code", CODES)
def test_maps_lie_on_the_files_own_grid(run3d, tmp_path, code, monkeypatch):
    """A map that marks the lesion on the network's grid marks it in the file, whatever its axes and size."""
    rng = np.random.default_rng(0)
    volume = rng.integers(0, 60, (40, 48, 44), np.uint8)
    mask = np.zeros(volume.shape, np.uint8)
    mask[28:36, 6:14, 30:40] = 1
    volume[mask == 1] = 255
    values = nifti(volume, code, tmp_path / "a.nii.gz")
    lesion = nifti(mask, code, tmp_path / "mask.nii.gz")
    explainer = Explainer(Predictor.of_runs([scale.load_run(run3d)]), "saliency", tmp_path / "out")
    bright = lambda images: ((images > 150).astype(np.float32), np.zeros(len(images), int))  # noqa: E731
    monkeypatch.setattr(explainer, "values", bright)
    (tmp_path / "out").mkdir()
    listing = listing_of(tmp_path / "a.nii.gz", (), source=None, split=None)
    seen, _ = explainer.predictor.see(job_picture(listing))
    explainer.explain(listing.samples, seen[None], explainer.predictor.rows(seen[None]))
    (path,) = (tmp_path / "out" / "maps").iterdir()
    found = nibabel.load(path)
    assert found.shape == values.shape
    assert np.allclose(found.affine, nibabel.load(tmp_path / "a.nii.gz").affine)
    marked = found.get_fdata() > 0.5
    overlap = 2 * (marked & (lesion == 1)).sum() / (marked.sum() + lesion.sum())
    assert overlap > 0.75


def job_picture(listing):
    from scale.preparing.pool import picture

    return picture(listing.samples[0])


def test_maps_of_a_dicom_series(run3d, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    volume = rng.integers(0, 60, (44, 48, 40)).astype(np.int16)  # (column, row, slice)
    mask = np.zeros(volume.shape, bool)
    mask[30:40, 6:14, 28:36] = True
    volume[mask] = 255
    write_series(tmp_path / "s", volume, names=rng.permutation(40), spacing=(1.0, 1.0, 1.0))
    explainer = Explainer(Predictor.of_runs([scale.load_run(run3d)]), "saliency", tmp_path / "out")
    monkeypatch.setattr(explainer, "values", lambda images: ((images > 150).astype(np.float32), np.zeros(1, int)))
    (tmp_path / "out").mkdir()
    listing = listing_of(tmp_path / "s", (), source=None, split=None)
    seen, _ = explainer.predictor.see(job_picture(listing))
    explainer.explain(listing.samples, seen[None], explainer.predictor.rows(seen[None]))
    (path,) = (tmp_path / "out" / "maps").iterdir()
    marked = nibabel.load(path).get_fdata() > 0.5
    assert marked.shape == volume.shape
    assert 2 * (marked & mask).sum() / (marked.sum() + mask.sum()) > 0.75


@pytest.mark.parametrize("code", ["SPL", "RAS"])
def test_a_map_of_a_volume_without_an_affine_lies_as_the_runs_volumes(code, tmp_path):
    values = np.zeros((4, 5, 6), np.float32)
    values[3, 0, 1] = 1
    maps.write_nifti(tmp_path / "a.nii.gz", values, picture_of(np.zeros((4, 5, 6), np.uint8)), code)
    found = nibabel.load(tmp_path / "a.nii.gz")
    turned = nibabel.as_closest_canonical(found).get_fdata()  # to right, front, top
    place = {"SPL": (4, 4, 3), "RAS": (3, 0, 1)}[code]
    assert turned[place] == 1


def test_a_real_map_is_the_same_in_every_orientation_and_as_a_series(run3d, tmp_path):
    """By the command, with a method that computes: turned to one orientation all seven maps are one."""
    rng = np.random.default_rng(0)
    volume = rng.integers(0, 256, (20, 26, 23), np.uint8)  # no cube, nor the network's size
    (tmp_path / "in").mkdir()
    for code in CODES:
        nifti(volume, code, tmp_path / "in" / f"{code}.nii.gz")
    series = np.ascontiguousarray(volume.transpose(2, 1, 0)).astype(np.int16)
    write_series(tmp_path / "in" / "series", series, names=rng.permutation(20), spacing=(1.0, 1.0, 1.0))
    assert run_on(run3d, tmp_path / "in", tmp_path / "out", explain="saliency") == 0
    files = sorted((tmp_path / "out" / "maps").iterdir())
    turned = [nibabel.as_closest_canonical(nibabel.load(path)).get_fdata() for path in files]
    assert len(turned) == len(CODES) + 1
    assert turned[0].std() > 0
    for values in turned[1:]:
        assert values.shape == turned[0].shape
        assert np.abs(values - turned[0]).max() < 1e-4 * np.abs(turned[0]).max()


def test_explain_writes_overlays_and_the_page(run2d, tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)).save(tmp_path / "a.png")
    assert run_on(run2d, tmp_path / "a.png", tmp_path / "out", explain="saliency") == 0
    (path,) = (tmp_path / "out" / "maps").iterdir()
    assert Image.open(path).size == (60, 40)
    assert "a.png" in (tmp_path / "out" / "explanations.html").read_text()
    with pytest.raises(ValueError, match="no such method"):
        run_on(run2d, tmp_path / "a.png", tmp_path / "other", explain="salience")
    (tmp_path / "b.png").write_bytes(b"broken")
    assert run_on(run2d, tmp_path / "b.png", tmp_path / "none", explain="saliency") == 3  # nothing to explain
    assert not (tmp_path / "none" / "explanations.html").exists()


def entries_of(page):
    text = page.read_text().partition('<script type="application/json" id="data">')[2].partition("</script>")[0]
    return json.loads(text)["samples"]


def test_the_page_shows_every_file_of_all_batches_shards_and_calls(run2d, tmp_path, monkeypatch):
    """Not only what the last call made: a shard that resumes and the other shard's files are on it, in order, once."""
    (tmp_path / "in").mkdir()
    images = np.random.default_rng(0).integers(0, 256, (9, 28, 28, 3), np.uint8)
    for number, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / "in" / f"{number}.png")
    (tmp_path / "in" / "5.png").write_bytes(b"broken")
    predictor = Predictor.of_runs([scale.load_run(run2d)])
    listing = listing_of(tmp_path / "in", predictor.inputs.classes, source=None, split=None)

    def call(folder, number=0, count=1):
        explainer = Explainer(predictor, "saliency", folder)
        shard = job.Shard(number, count)
        job.predict(predictor, listing, folder, shard=shard, batch_size=2, workers=1, explainer=explainer)

    call(tmp_path / "whole")
    whole = entries_of(tmp_path / "whole" / "explanations.html")
    assert [entry["title"][:5] for entry in whole] == [f"{n}.png" for n in range(9) if n != 5]
    folder, keep, calls = tmp_path / "out", gallery.keep, []

    def stopped(path, rows, entries):
        keep(path, rows, entries)
        calls.append(rows)
        if len(calls) == 2:
            with path.open("ab") as file:
                file.write(b'7\t{"title": "cut o')  # killed while writing
            raise KeyboardInterrupt

    monkeypatch.setattr(gallery, "keep", stopped)
    with pytest.raises(KeyboardInterrupt):
        call(folder, 0, 2)
    monkeypatch.undo()
    call(folder, 1, 2)
    assert not (folder / "explanations.html").exists()  # shard 0 is not done
    call(folder, 0, 2)
    merged = entries_of(folder / "explanations.html")
    assert [entry["title"] for entry in merged] == [entry["title"] for entry in whole]
    assert [entry["image"] for entry in merged] == [entry["image"] for entry in whole]
    monkeypatch.setattr(gallery, "MOST", 3)
    call(folder, 1, 2)  # nothing to compute; the pages are made again
    pages = [folder / name for name in ("explanations.html", "explanations-2.html", "explanations-3.html")]
    assert [entry["title"] for page in pages for entry in entries_of(page)] == [entry["title"] for entry in whole]
    assert '<a href="explanations-3.html">next</a>' in pages[1].read_text()
    assert '<a href="explanations.html">before</a>' in pages[1].read_text()


def test_a_line_that_was_cut_off_is_taken_away(tmp_path, monkeypatch):
    monkeypatch.setattr(gallery, "BLOCK", 4)
    for content, whole in (
        (b"1\tfirst\n2\tsecond and", b"1\tfirst\n"),
        (b"1\tfirst\n", b"1\tfirst\n"),
        (b"1\tfir", b""),
        (b"", b""),
    ):
        (tmp_path / "shown").write_bytes(content)
        gallery.mend(tmp_path / "shown")
        assert (tmp_path / "shown").read_bytes() == whole
    gallery.mend(tmp_path / "none")


def test_uncertainty():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (4000, 3))
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (chances.cumsum(axis=1) < rng.random((4000, 1))).sum(axis=1, keepdims=True)  # calibrated by construction
    sharp = np.exp(3 * logits) / np.exp(3 * logits).sum(axis=1, keepdims=True)
    found = uncertainty.fit(3 * logits[:2000], sharp[:2000], labels[:2000], "multiclass", alpha=0.1, calibrated=True)
    assert found.temperature == pytest.approx(3, rel=0.1)
    calibrated = found.probabilities(sharp[2000:])
    assert np.abs(calibrated - chances[2000:]).mean() < 0.02
    covered = np.take_along_axis(found.sets(calibrated), labels[2000:], axis=1).mean()
    assert 0.87 < covered < 0.93
    assert found.unlike.score == "energy"
    energies = uncertainty.energy(3 * logits[2000:], "multiclass")
    assert (energies > found.unlike.threshold).mean() == pytest.approx(0.05, abs=0.02)
    plain = uncertainty.fit(logits[:2000], chances[:2000], labels[:2000], "multiclass", alpha=0.3, calibrated=False)
    assert plain.temperature == 1
    assert uncertainty.entropy(np.full((1, 4), 0.25), "multiclass") == pytest.approx(2)
    assert uncertainty.entropy(np.full((1, 4), 0.5), "multilabel") == pytest.approx(1)
    with pytest.raises(ValueError, match="at least 9 val samples"):
        uncertainty.fit(logits[:5], chances[:5], labels[:5], "multiclass", alpha=0.1, calibrated=True)


def test_what_a_run_says_of_its_inputs(run2d, tmp_path):
    metrics = json.loads((run2d / "metrics.json").read_text())
    said = record.read(run2d, metrics)
    assert said.preprocessing.size == (28, 28)
    assert said.classes == tuple(f"class {k}" for k in range(4))
    older = record.read(tmp_path, {**metrics, "flag": "bloodmnist", "num_classes": 8})  # a run without the file
    assert older.preprocessing == said.preprocessing
    assert "platelet" in older.classes
    broken = json.loads((run2d / record.NAME).read_text())
    broken["preprocessing"]["size"] = [64, 64]
    (tmp_path / record.NAME).write_text(json.dumps(broken))
    with pytest.raises(ValueError, match="not of this run"):
        record.read(tmp_path, metrics)


def test_images_of_other_channels_are_no_files(run2d, tmp_path):
    """Their training ends with a whole record, and what reads files says so."""
    metrics = {**scale.load_run(run2d).metrics, "image_shape": [4, 28, 28], "num_classes": 2}
    said = record.content(metrics["image_shape"], ["a", "b"], "Own", None, flips=(1,))
    (tmp_path / record.NAME).write_text(json.dumps(said))
    found = record.read(tmp_path, metrics)
    assert (found.classes, found.flips) == (("a", "b"), (1,))
    with pytest.raises(ValueError, match=r"Own takes other channels than grey \(1\) or RGB \(3\)"):
        _ = found.preprocessing
    (tmp_path / record.NAME).write_text(json.dumps({**said, "flips": [2]}))
    with pytest.raises(ValueError, match=r"flips=\[2\]: a list of spatial axes, 0 to 1"):
        record.read(tmp_path, metrics)


def test_files_that_are_missing_in_a_split_are_said(tmp_path):
    """A test split of which a part was copied was validated as the whole."""
    for name in ("a", "c"):
        Image.new("L", (8, 8)).save(tmp_path / f"{name}.png")
    lines = ["a.png,x,test", "b.png,x,test", "c.png,,test", "d.png,x,train", "a.png,x,test", "e.png,x,tets"]
    (tmp_path / "t.csv").write_text("\n".join(["path,label,split", *lines]) + "\n")
    found = listing_of(tmp_path / "t.csv", ("x", "y"), source=tmp_path, split="test")
    assert [sample.name for sample in found.samples] == ["a.png"]
    assert [name for name, _ in found.skipped] == ["b.png", "c.png", "a.png", "e.png"]
    for split in ("train", "test"):
        for name in ("x", "y"):
            (tmp_path / "in" / split / name).mkdir(parents=True)
            Image.new("L", (8, 8)).save(tmp_path / "in" / split / name / "1.png")
            (tmp_path / "in" / split / name / "notes.txt").touch()
    found = listing_of(tmp_path / "in", ("x", "y"), source=None, split="test")
    assert [sample.name for sample in found.samples] == ["test/x/1.png", "test/y/1.png"]
    assert [name for name, _ in found.skipped] == ["test/x/notes.txt", "test/y/notes.txt"]
