"""DICOM: values as pydicom's own, series in the order of their positions, and what is refused."""

import contextlib
from pathlib import Path

import numpy as np
import pytest

from scale.readers import UnreadableError, read
from tests.readers.dicom_files import write_enhanced, write_series

pydicom = pytest.importorskip("pydicom", reason="the extra dicom is not installed")
FILES = Path(pydicom.__file__).parent / "data" / "test_files"
REFUSED = {  # of pydicom's files, with a word of the reason
    "badVR": "pixels", "MR_truncated": "pixel data", "rtplan": "without an image", "waveform_ecg": "without an image",
    "no_meta": "no DICOM file", "UN_sequence": "without an image",
}  # fmt: skip


@pytest.fixture
def volume():
    return np.random.default_rng(0).integers(-1000, 1500, (6, 5, 8)).astype(np.int16)


@pytest.mark.parametrize("name", [path.stem for path in sorted(FILES.glob("*.dcm"))])
def test_pydicoms_own_files(name):
    """Each is read with the values that pydicom gives, or refused in one line."""
    found, reason = None, ""
    try:
        found = read(FILES / f"{name}.dcm").values
    except UnreadableError as error:
        reason = str(error)
    if found is None:
        assert "\n" not in reason
        assert name not in ("CT_small", "MR_small", "MR_small_RLE", "JPEG2000", "rtdose", "examples_palette")
        return
    assert name not in REFUSED
    data = pydicom.dcmread(FILES / f"{name}.dcm")
    own = data.pixel_array if "YBR" not in data.PhotometricInterpretation else pydicom.pixels.pixel_array(data)
    if data.PhotometricInterpretation == "PALETTE COLOR":
        own = pydicom.pixels.apply_color_lut(own, data) >> 8
    elif data.get("RescaleSlope") is not None:
        own = own * float(data.RescaleSlope) + float(data.RescaleIntercept)
    elif found.dtype == np.uint8 and own.dtype.itemsize > 1:
        own = own >> (8 * (own.dtype.itemsize - 1))
    assert np.array_equal(found, own)


@pytest.mark.parametrize("name", REFUSED)
def test_files_without_a_picture(name):
    with pytest.raises(UnreadableError, match=REFUSED[name]):
        read(FILES / f"{name}.dcm")


def test_monochrome1_is_inverted(tmp_path):
    data = pydicom.dcmread(FILES / "MR_small.dcm")
    plain = read(FILES / "MR_small.dcm").values
    data.PhotometricInterpretation = "MONOCHROME1"
    data.save_as(tmp_path / "a.dcm")
    assert np.array_equal(read(tmp_path / "a.dcm").values, -1 - plain)  # stored signed
    data.PixelRepresentation = 0
    data.save_as(tmp_path / "b.dcm")
    assert np.array_equal(read(tmp_path / "b.dcm").values, 65535 - plain.view(np.uint16))


def test_a_series_is_sorted_by_position(tmp_path, volume):
    names = np.random.default_rng(1).permutation(volume.shape[2])
    write_series(tmp_path / "s", volume, names=names, spacing=(0.5, 0.75, 2.0))
    found = read(tmp_path / "s")
    assert np.array_equal(found.values, volume)
    assert found.spacing == (0.5, 0.75, 2.0)
    corner = found.affine @ [0, 0, 3, 1]
    assert np.allclose(corner[:3], [-5, 7, 11 + 6])  # DICOM's x and y point to the left and back


def test_a_sagittal_series(tmp_path, volume):
    write_series(tmp_path / "s", volume, orientation=(0, 1, 0, 0, 0, -1))
    found = read(tmp_path / "s")
    assert np.array_equal(found.values, volume)
    import nibabel

    assert nibabel.aff2axcodes(found.affine) == ("P", "I", "R")  # columns, rows, and -x of LPS


def test_a_tilted_gantry_shears_the_affine(tmp_path, volume):
    """The table moves along z and the slices are tilted by 20 degrees: each lies where its file says."""
    import nibabel

    from scale.preparing.preprocess import Preprocessing

    tilt = np.deg2rad(20)
    write_series(
        tmp_path / "s", volume, spacing=(1, 1, 5), orientation=(1, 0, 0, 0, np.cos(tilt), -np.sin(tilt)), way=(0, 0, 1)
    )
    found = read(tmp_path / "s")
    for k in range(8):
        assert np.allclose(found.affine @ [0, 0, k, 1], [-5, 7, 11 + 5 * k, 1])
    assert np.allclose(found.spacing, (1, 1, 5))
    assert np.allclose(found.spacing, np.linalg.norm(found.affine, axis=0)[:3])
    seen, geometry = Preprocessing(size=(8, 5, 6), intensity="percentiles", fit="stretch").apply(found)
    assert nibabel.aff2axcodes(found.affine) == ("L", "P", "S")
    assert geometry.axes == (2, 1, 0)
    back = geometry.back(seen.astype(np.float32))
    nibabel.save(nibabel.Nifti1Image(back, found.affine), tmp_path / "map.nii.gz")
    again = read(tmp_path / "map.nii.gz")
    assert np.allclose(again.affine, found.affine, atol=1e-4)
    assert again.shape == found.shape


def test_slices_that_are_not_on_a_line_are_refused(tmp_path, volume):
    write_series(tmp_path / "s", volume)
    data = pydicom.dcmread(tmp_path / "s" / "0003.dcm")
    data.ImagePositionPatient = [data.ImagePositionPatient[0] + 1, *data.ImagePositionPatient[1:]]
    data.save_as(tmp_path / "s" / "0003.dcm")
    with pytest.raises(UnreadableError, match="do not lie on a line: slice 4 of 8 is 1 mm beside it"):
        read(tmp_path / "s")


@pytest.mark.parametrize("place", ["shared", "own", "both"])
def test_enhanced_files_are_rescaled_by_their_functional_groups(tmp_path, place):
    """Shared, of each frame, and of some frames where the others take the shared one; frames are turned to slices."""
    stored = np.random.default_rng(0).integers(0, 2000, (5, 8, 6))
    own = [(1 + 0.5 * k, -100.0 * k) for k in range(5)]
    own[1] = None if place == "both" else own[1]
    pairs = [(2.0, -1024.0) if place == "shared" or pair is None else pair for pair in own]
    write_enhanced(
        tmp_path / "e.dcm", stored,
        shared=None if place == "own" else (2.0, -1024.0), own=None if place == "shared" else own,
    )  # fmt: skip
    found = read(tmp_path / "e.dcm")
    wanted = np.stack([stored[k] * slope + intercept for k, (slope, intercept) in enumerate(pairs)])
    assert found.values.dtype == np.float32
    assert np.array_equal(found.values, wanted.transpose(2, 1, 0))
    assert found.spacing == (1, 1, 2)


def test_enhanced_files_without_rescaling_keep_their_numbers(tmp_path):
    stored = np.random.default_rng(0).integers(0, 2000, (5, 8, 6))
    write_enhanced(tmp_path / "one.dcm", stored, shared=(1, 0))
    assert read(tmp_path / "one.dcm").values.dtype == np.uint16
    write_enhanced(tmp_path / "top.dcm", stored, top=(2, -5))
    assert np.array_equal(read(tmp_path / "top.dcm").values, stored.transpose(2, 1, 0) * 2 - 5)
    write_enhanced(tmp_path / "some.dcm", stored, own=[(2, 0), None, (2, 0), (2, 0), (2, 0)])
    with pytest.raises(UnreadableError, match="no rescale slope for frame 2 of 5"):
        read(tmp_path / "some.dcm")
    write_enhanced(tmp_path / "first.dcm", stored[:1], shared=(1, -1024))
    assert np.array_equal(read(tmp_path / "first.dcm").values, stored[0] - 1024)


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ("gap", "lacks 1 slice"),
        ("two", "2 DICOM series"),
        ("spacing", "mixed PixelSpacing"),
        ("double", "same position"),
        ("empty", "has the file 0002.dcm, which is empty"),
        ("cut", "has the file 0002.dcm, which "),
    ],
)
def test_series_that_are_none(tmp_path, volume, broken, words):
    folder = tmp_path / "s"
    write_series(folder, volume, uid="1.2.3", skip=(3,) if broken == "gap" else ())
    if broken == "two":
        write_series(folder, volume, uid="1.2.4", names=range(100, 108))
    if broken == "spacing":
        data = pydicom.dcmread(folder / "0002.dcm")
        data.PixelSpacing = [3.0, 3.0]
        data.save_as(folder / "0002.dcm")
    if broken in ("empty", "cut"):
        content = (folder / "0002.dcm").read_bytes()
        (folder / "0002.dcm").write_bytes(content[: 0 if broken == "empty" else len(content) - 20])
    if broken == "double":
        (folder / "copy.dcm").write_bytes((folder / "0002.dcm").read_bytes())
    with pytest.raises(UnreadableError, match=words):
        read(folder)


def test_without_pydicom_it_says_how_to_get_it(tmp_path, volume, monkeypatch):
    import sys

    write_series(tmp_path / "s", volume)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(ModuleNotFoundError, match=r"scale-medvision\[dicom\]"):
        read(tmp_path / "s")


def test_a_deflated_file_is_inflated_within_bounds(tmp_path):
    data = _plain(tmp_path / "a.dcm", np.arange(16, dtype=np.uint8).reshape(4, 4))
    assert read(tmp_path / "a.dcm").values.tolist() == np.arange(16).reshape(4, 4).tolist()
    data.PixelData = bytes(64 << 20)
    data.save_as(tmp_path / "bomb.dcm", enforce_file_format=True)
    assert (tmp_path / "bomb.dcm").stat().st_size < 1 << 17
    with pytest.raises(UnreadableError, match="grows beyond the limit"):
        read(tmp_path / "bomb.dcm", limit=1000)


def test_frames_that_the_header_does_not_have_are_left_out(tmp_path):
    data = _plain(tmp_path / "a.dcm", np.zeros((4, 4), np.uint8), deflated=False)
    data.PixelData = bytes(16 * 1000)
    data.save_as(tmp_path / "b.dcm", enforce_file_format=True)
    with contextlib.suppress(UnreadableError):
        assert read(tmp_path / "b.dcm", limit=1000).values.size <= 1000


def _plain(path, values, *, deflated=True):
    from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian if deflated else ExplicitVRLittleEndian
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    data.Rows, data.Columns = values.shape
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 8, 8, 7, 0
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.PixelData = values.tobytes()
    data.save_as(path, enforce_file_format=True)
    return data
