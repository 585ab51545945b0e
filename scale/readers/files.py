"""The reader of a file, by its name's ending; DICOM also by its first bytes."""

from collections.abc import Sequence
from pathlib import Path

from scale.readers.picture import Picture, UnreadableError, check_not_empty, limited

IMAGES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
VOLUMES = (".nii", ".nii.gz")
ARRAYS = (".npy", ".npz")
DICOM = (".dcm", ".dicom", ".ima")
DIRECTORY = "dicomdir"
SUFFIXES = (*IMAGES, *VOLUMES, *ARRAYS, *DICOM)


def kind_of(path: Path) -> str | None:
    """`image`, `nifti`, `array` or `dicom`; None for a file that none of the readers takes."""
    name = path.name.lower()
    for suffixes, kind in ((IMAGES, "image"), (VOLUMES, "nifti"), (ARRAYS, "array"), (DICOM, "dicom")):
        if name.endswith(suffixes):
            return kind
    # Names such as 1.2.840.113619.10 have no ending; DICOMDIR is a table of contents.
    return "dicom" if name != DIRECTORY and _has_dicom_mark(path) else None


def read(paths: Path | Sequence[Path], *, limit: int | None = None) -> Picture:
    """Reads a file, or the slices of one DICOM series.

    Args:
        paths: a file, a folder that holds one DICOM series, or the series' files in any order.
        limit: pixels or voxels and channels of a file; `picture.MAX_VALUES` if None.

    Raises:
        UnreadableError: it cannot be used; says why, without the name.
    """
    with limited(limit):
        return _read(paths)


def _read(paths: Path | Sequence[Path]) -> Picture:
    if isinstance(paths, Path):
        if paths.is_dir():
            inside = [path for path in sorted(paths.iterdir()) if path.is_file() and kind_of(path) == "dicom"]
            if not inside:
                raise UnreadableError("is a folder without DICOM files")
            return _read(inside)
        paths = [paths]
    if len(paths) == 1:
        check_not_empty(paths[0])
    kinds = {kind_of(path) for path in paths}
    kind = kinds.pop()
    if kinds or (len(paths) > 1 and kind != "dicom"):
        raise UnreadableError("several files make one sample only if they are slices of a DICOM series")
    if kind == "dicom":
        from scale.readers.dicom import read_dicom

        return read_dicom(paths)
    if kind == "image":
        from scale.readers.images import read_image

        return read_image(paths[0])
    if kind == "nifti":
        from scale.readers.nifti import read_nifti

        return read_nifti(paths[0])
    if kind == "array":
        from scale.readers.arrays import read_array_file

        return read_array_file(paths[0])
    raise UnreadableError(f"has an unknown kind of name; known are {' '.join(SUFFIXES)}")


def _has_dicom_mark(path: Path) -> bool:
    """Whether a file without a known ending begins as DICOM does (PS3.10: a preamble of 128 bytes, then DICM)."""
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False
