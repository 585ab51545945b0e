"""What each reader gives of known files, and what it says of those it cannot use."""

import gzip
import struct

import nibabel
import numpy as np
import pytest
from PIL import Image

from scale.readers import Picture, UnreadableError, read
from scale.readers import picture as pictures


def refused(path) -> str:
    with pytest.raises(UnreadableError) as error:
        read(path)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def grey():
    return np.random.default_rng(0).integers(0, 256, (9, 7), np.uint8)


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp", "webp"])
@pytest.mark.parametrize("channels", [1, 3])
def test_lossless_images(tmp_path, suffix, channels):
    values = np.random.default_rng(1).integers(0, 256, (9, 7, 3), np.uint8)
    values = values[..., 0] if channels == 1 else values
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(values).save(path, **({"lossless": True} if suffix == "webp" else {}))
    found = read(path)
    shown = found.values if found.values.ndim == values.ndim else found.values[..., 0]  # WebP has no grey
    assert np.array_equal(shown, values)
    assert found.spatial_dims == 2


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_stay(tmp_path, suffix):
    values = np.random.default_rng(1).integers(0, 65536, (9, 7), np.uint16)
    Image.fromarray(values).save(tmp_path / f"a.{suffix}")
    found = read(tmp_path / f"a.{suffix}").values
    assert found.dtype == np.uint16
    assert np.array_equal(found, values)


def test_palettes_alpha_and_bits(tmp_path, grey):
    colours = Image.fromarray(np.stack([grey, grey // 2, grey // 3], -1)).quantize(16)
    colours.save(tmp_path / "p.png")
    assert np.array_equal(read(tmp_path / "p.png").values, np.asarray(colours.convert("RGB")))
    palette = Image.fromarray(grey, "L").convert("P")
    palette.putpalette([value for value in range(256) for _ in range(3)])
    palette.save(tmp_path / "g.png")
    assert np.array_equal(read(tmp_path / "g.png").values, grey)  # greys alone
    half = np.dstack([grey] * 3 + [np.full_like(grey, 128)])
    Image.fromarray(half, "RGBA").save(tmp_path / "a.png")
    assert np.abs(read(tmp_path / "a.png").values[..., 0] - grey * (128 / 255)).max() <= 1  # over black
    Image.fromarray(np.dstack([grey, np.full_like(grey, 255)]), "LA").save(tmp_path / "la.png")
    assert np.array_equal(read(tmp_path / "la.png").values, grey)
    Image.fromarray(grey > 128).save(tmp_path / "one.png")
    assert np.array_equal(read(tmp_path / "one.png").values, (grey > 128) * np.uint8(255))


def test_camera_orientation_is_applied(tmp_path):
    values = np.zeros((16, 32), np.uint8)
    values[:, :8] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side: to be shown, turn clockwise
    Image.fromarray(values).save(tmp_path / "a.jpg", exif=exif, quality=100)
    found = read(tmp_path / "a.jpg").values
    assert found.shape == (32, 16)
    assert found[:6].mean() > 240
    assert found[10:].mean() < 10


def test_nifti_keeps_values_axes_and_scaling(tmp_path):
    values = np.random.default_rng(0).integers(-1000, 1000, (5, 6, 7)).astype(np.int16)
    affine = np.array([[0, 2.0, 0, 1], [-3.0, 0, 0, 2], [0, 0, 4.0, 3], [0, 0, 0, 1]])
    nibabel.save(nibabel.Nifti1Image(values, affine), tmp_path / "a.nii.gz")
    found = read(tmp_path / "a.nii.gz")
    assert found.values.dtype == np.int16
    assert np.array_equal(found.values, values)
    assert found.spacing == (3.0, 2.0, 4.0)
    assert np.allclose(found.affine, affine)
    image = nibabel.Nifti1Image(values, affine)
    image.header.set_slope_inter(0.5, 10)
    nibabel.save(image, tmp_path / "s.nii")
    scaled = nibabel.load(tmp_path / "s.nii").get_fdata()
    assert np.allclose(read(tmp_path / "s.nii").values, scaled, atol=1e-3)


def test_arrays(tmp_path):
    for shape, dims in (((5, 6), 2), ((5, 6, 3), 2), ((5, 6, 7), 3), ((5, 6, 7, 3), 3)):
        values = np.random.default_rng(0).random(shape)
        np.save(tmp_path / "a.npy", values)
        assert read(tmp_path / "a.npy").spatial_dims == dims
        np.savez(tmp_path / "a.npz", image=values, mask=values)
        assert np.allclose(read(tmp_path / "a.npz").values, values)


def test_one_reason_for_each_file_that_cannot_be_used(tmp_path, grey, monkeypatch):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)).save(tmp_path / "whole.png")
    raw = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(raw[: len(raw) // 2])
    (tmp_path / "flipped.png").write_bytes(raw[:200] + bytes(64) + raw[264:])
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("no image")
    assert "truncated" in refused(tmp_path / "cut.png")
    assert "damaged" in refused(tmp_path / "flipped.png")
    assert "0 bytes" in refused(tmp_path / "empty.png")
    assert "not an image" in refused(tmp_path / "text.png")
    assert "does not exist" in refused(tmp_path / "none.png")
    assert "unknown kind" in refused_name(tmp_path, "a.xyz")
    pages = [Image.fromarray(grey), Image.fromarray(grey)]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    assert "2 pages" in refused(tmp_path / "pages.tif")
    nan = np.ones((5, 5), np.float32)
    nan[2, 2] = np.nan
    Image.fromarray(nan).save(tmp_path / "nan.tif")
    assert "1 values that are not finite" in refused(tmp_path / "nan.tif")
    monkeypatch.setattr(pictures, "MAX_VALUES", 30)
    assert "decompression bomb" in refused(tmp_path / "whole.png")


def refused_name(folder, name) -> str:
    (folder / name).write_text("x")
    return refused(folder / name)


def test_volumes_that_cannot_be_used(tmp_path):
    def save(name, shape, kind=np.float32):
        nibabel.save(nibabel.Nifti1Image(np.ones(shape, kind), np.eye(4)), tmp_path / name)
        return tmp_path / name

    assert "4D" in refused(save("4d.nii.gz", (4, 4, 4, 2)))
    assert read(save("one.nii.gz", (4, 4, 4, 1))).shape == (4, 4, 4)
    assert "one slice" in refused(save("2d.nii.gz", (4, 4, 1)))
    assert "complex" in refused(save("c.nii.gz", (4, 4, 4), kind=np.complex64))
    volume = np.ones((4, 4, 4), np.float32)
    volume[0] = np.inf
    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), tmp_path / "inf.nii.gz")
    assert "16 values" in refused(tmp_path / "inf.nii.gz")
    raw = save("whole.nii.gz", (16, 16, 16)).read_bytes()
    (tmp_path / "cut.nii.gz").write_bytes(raw[:-40])
    (tmp_path / "text.nii.gz").write_text("no volume")
    plain = save("whole.nii", (16, 16, 16)).read_bytes()
    (tmp_path / "cut.nii").write_bytes(plain[:-40])
    for name in ("cut.nii.gz", "text.nii.gz", "cut.nii"):
        assert "truncated" in refused(tmp_path / name)
    (tmp_path / "object.npy").write_bytes(b"")
    np.save(tmp_path / "object.npy", np.array([{}], object), allow_pickle=True)
    assert "Python objects" in refused(tmp_path / "object.npy")
    np.savez(tmp_path / "two.npz", a=volume, b=volume)
    assert "a, b" in refused(tmp_path / "two.npz")


@pytest.mark.filterwarnings("ignore::UserWarning")  # of Pillow on damaged TIFF
def test_damaged_bytes_never_give_a_traceback(tmp_path):
    """Bytes of whole files, cut and overwritten at random: each is read or refused in one line."""
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (24, 24, 3), np.uint8)).save(tmp_path / "a.png")
    Image.fromarray(rng.integers(0, 256, (24, 24, 3), np.uint8)).save(tmp_path / "a.jpg")
    Image.fromarray(rng.integers(0, 256, (24, 24), np.uint8)).save(tmp_path / "a.tif", compression="tiff_lzw")
    nibabel.save(nibabel.Nifti1Image(rng.random((6, 6, 6)).astype(np.float32), np.eye(4)), tmp_path / "a.nii")
    (tmp_path / "a.nii.gz").write_bytes(b"")
    nibabel.save(nibabel.Nifti1Image(rng.random((6, 6, 6)).astype(np.float32), np.eye(4)), tmp_path / "a.nii.gz")
    np.savez_compressed(tmp_path / "a.npz", rng.random((6, 6)))
    np.save(tmp_path / "a.npy", rng.random((6, 6)))
    said = whole = 0
    for name in ("a.png", "a.jpg", "a.tif", "a.nii", "a.nii.gz", "a.npz", "a.npy"):
        raw = bytearray((tmp_path / name).read_bytes())
        for _ in range(40):
            broken = bytearray(raw[: int(rng.integers(1, len(raw) + 1))])
            for place in rng.integers(0, len(broken), 4):
                broken[place] = int(rng.integers(0, 256))
            (tmp_path / f"b{name}").write_bytes(broken)
            try:
                assert isinstance(read(tmp_path / f"b{name}"), Picture)
            except UnreadableError as error:
                said += "\n" not in str(error)
            else:
                whole += 1
    assert said + whole == 7 * 40
    assert said > 100


@pytest.mark.parametrize("bits", [8, 16])
def test_black_is_least_in_a_tiff_whatever_its_depth(bits, tmp_path):
    """Of 16 bits, those in which white is zero were read as negatives."""
    stored = np.array([[0, 10, 200, 2**bits - 1]], f"u{bits // 8}")
    Image.fromarray(stored).save(tmp_path / "a.tif", tiffinfo={262: 1})
    Image.fromarray(stored).save(tmp_path / "b.tif")
    raw = bytearray((tmp_path / "b.tif").read_bytes())
    _set_tag(raw, 262, 0)
    (tmp_path / "b.tif").write_bytes(raw)
    assert np.array_equal(read(tmp_path / "a.tif").values, stored)
    assert np.array_equal(read(tmp_path / "b.tif").values, 2**bits - 1 - stored)


def test_values_that_pillow_takes_for_others_are_refused(tmp_path):
    Image.fromarray(np.array([[1, -2]], np.int32)).save(tmp_path / "a.tif")
    assert read(tmp_path / "a.tif").values.tolist() == [[1, -2]]
    raw = bytearray((tmp_path / "a.tif").read_bytes())
    _set_tag(raw, 339, 1)  # the same bits, unsigned
    (tmp_path / "a.tif").write_bytes(raw)
    with pytest.raises(UnreadableError, match="unsigned values of 32 bits"):
        read(tmp_path / "a.tif")
    Image.fromarray(np.array([[1, 200]], np.uint8)).save(tmp_path / "b.tif", tiffinfo={339: 2})
    with pytest.raises(UnreadableError, match="signed values of 8 bits"):
        read(tmp_path / "b.tif")


def _set_tag(raw, tag, value):
    """Changes a short value in the first directory of a little-endian TIFF."""
    begin = int.from_bytes(raw[4:8], "little")
    for entry in range(int.from_bytes(raw[begin : begin + 2], "little")):
        place = begin + 2 + 12 * entry
        if int.from_bytes(raw[place : place + 2], "little") == tag:
            raw[place + 8 : place + 10] = value.to_bytes(2, "little")
            return
    raise AssertionError(f"there is no tag {tag}")


def test_extensions_before_the_voxels_are_bounded(tmp_path):
    """nibabel keeps all of them; twelve of 16 MB were 200 kB in the file."""
    raw = bytearray(nibabel.Nifti1Image(np.zeros((4, 4, 4), np.uint8), np.eye(4)).to_bytes())
    raw[108:112], raw[348] = struct.pack("<f", 352 + (32 << 20)), 1
    with gzip.open(tmp_path / "a.nii.gz", "wb") as file:
        file.write(raw)
    with pytest.raises(UnreadableError, match="has its voxels at byte"):
        read(tmp_path / "a.nii.gz")
    nibabel.save(nibabel.Nifti2Image(np.arange(64, dtype=np.uint8).reshape(4, 4, 4), np.eye(4)), tmp_path / "b.nii")
    assert read(tmp_path / "b.nii").values[1, 1, 1] == 21
