"""NIfTI volumes, by nibabel."""

import gzip
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from scale.readers.picture import Picture, UnreadableError, check_finite, check_size, one_line

_HEADER_1, _HEADER_2 = 348, 540  # bytes of the headers of both versions, which they begin with
_EXTENSIONS = 16 << 20  # bytes before the voxels


def read_nifti(path: Path) -> Picture:
    """Reads a volume (I, J, K) with its affine. A fourth axis of length one is left out.

    Raises:
        UnreadableError: damaged, not 3D, of an unusual type, without orientation, with NaN, or too large.
    """
    import nibabel
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError
    from nibabel.wrapstruct import WrapStructError

    try:
        _check_extensions(path)
        image = nibabel.load(path)
        if not isinstance(image, nibabel.Nifti1Image | nibabel.Nifti1Pair):
            raise UnreadableError(f"is {type(image).__name__}, not NIfTI")
        shape = image.shape
        while len(shape) > 3 and shape[-1] == 1:
            shape = shape[:-1]
        if len(shape) != 3:
            raise UnreadableError(
                f"is {len(shape)}D, of shape {' x '.join(map(str, image.shape))}: save each volume as a file of its own"
            )
        if min(shape) == 1:
            raise UnreadableError(f"is one slice, of shape {' x '.join(map(str, shape))}: save it as an image (PNG)")
        check_size(shape)
        kind = image.get_data_dtype()
        if kind.kind not in "uifb":
            raise UnreadableError(f"has values of type {kind}, not plain numbers")
        proxy: Any = image.dataobj  # nibabel's types do not know of the scaling
        slope, intercept = proxy.slope, proxy.inter
        plain = kind.kind in "uib" and slope == 1 and intercept == 0
        raw = np.asanyarray(image.dataobj) if plain else image.get_fdata(dtype=np.float32, caching="unchanged")
    except UnreadableError:
        raise
    except (ImageFileError, HeaderDataError, WrapStructError, OSError, EOFError, zlib.error, ValueError) as error:
        reason = one_line(error).replace(str(path), "the file")
        raise UnreadableError(f"is truncated, damaged or no NIfTI file ({reason})") from error
    values = np.ascontiguousarray(raw.reshape(shape))
    check_finite(values)
    affine = np.asarray(image.affine, dtype=np.float64)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or not (spacing > 0).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
        raise UnreadableError("has an affine that is not invertible: its orientation is unknown")
    return Picture(values, 3, affine=affine, spacing=tuple(float(step) for step in spacing))


def _check_extensions(path: Path) -> None:
    """Raises UnreadableError where so much stands between header and voxels that nibabel would fill memory with it."""
    opened = gzip.open if path.name.lower().endswith(".gz") else open
    with opened(path, "rb") as file:
        head = file.read(_HEADER_2)
    for order in "<>":
        if len(head) >= _HEADER_1 and struct.unpack_from(f"{order}i", head)[0] == _HEADER_1:
            begins = struct.unpack_from(f"{order}f", head, 108)[0]
        elif len(head) >= _HEADER_2 and struct.unpack_from(f"{order}i", head)[0] == _HEADER_2:
            begins = struct.unpack_from(f"{order}q", head, 168)[0]
        else:
            continue
        if not begins <= _EXTENSIONS:
            raise UnreadableError(f"has its voxels at byte {begins:g} only: it is damaged, or made to fill memory")
