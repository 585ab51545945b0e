"""DICOM: values as pydicom's own, series in the order of their positions, and what is refused."""

from pathlib import Path

import numpy as np
import pytest

from scale.readers import UnreadableError, read
from tests.readers.dicom_files import write_series

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
