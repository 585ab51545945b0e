"""Single images or volumes in npy and npz files. Objects are never unpickled."""

import tokenize
import zipfile
import zlib
from pathlib import Path

import numpy as np

from scale.readers.picture import Picture, UnreadableError, check_finite, check_size, one_line

CHANNELS = (3,)  # lengths of a last axis that mean colour
_HEADER = (SyntaxError, tokenize.TokenError, TypeError, MemoryError)  # what NumPy lets through of a damaged header


def read_array_file(path: Path) -> Picture:
    """Reads an npy file, or an npz file with one array (or one that is named `image`).

    (H, W) is a grey image, (H, W, 3) a colour one, every other array of three axes a volume (depth, row, column), and
    (D, H, W, 3) a colour volume.

    Raises:
        UnreadableError: damaged, several arrays, objects, another number of axes, NaN, or too large.
    """
    try:
        values = _npz(path) if path.suffix.lower() == ".npz" else _npy(path)
    except UnreadableError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, KeyError, *_HEADER) as error:
        if "Object arrays" in str(error) or "Python objects" in str(error):
            raise UnreadableError("holds Python objects: save a plain array of numbers") from error
        reason = one_line(error).replace(str(path), "the file")
        raise UnreadableError(f"is truncated, damaged or no {path.suffix[1:]} file ({reason})") from error
    return picture_of(values)


def picture_of(values: np.ndarray) -> Picture:
    """An array as a picture; raises as `read_array_file`."""
    if values.dtype.kind not in "uifb":
        raise UnreadableError(f"has values of type {values.dtype}, not plain numbers")
    colour = values.ndim in (3, 4) and values.shape[-1] in CHANNELS
    dims = values.ndim - colour
    if dims not in (2, 3):
        raise UnreadableError(f"has the shape {values.shape}: give (H, W), (H, W, 3), (D, H, W) or (D, H, W, 3)")
    check_size(values.shape)
    if values.dtype.kind == "f":
        values = values.astype(np.float32, copy=False)
    check_finite(values)
    return Picture(np.ascontiguousarray(values), dims)


def _npy(path: Path) -> np.ndarray:
    mapped = np.load(path, mmap_mode="r", allow_pickle=False)  # the header first: nothing is read yet
    check_size(mapped.shape)
    return np.asarray(mapped)


def _npz(path: Path) -> np.ndarray:
    from scale.data import archive

    headers = archive.headers(path)
    name = "image" if "image" in headers else next(iter(headers), None)
    if name is None or (len(headers) > 1 and name != "image"):
        raise UnreadableError(
            f"holds the arrays {', '.join(sorted(headers)) or '(none)'}: one, or one named image, is read"
        )
    check_size(headers[name].shape)
    return archive.read_array(path, name)
