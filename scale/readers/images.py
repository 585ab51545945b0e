"""PNG, JPEG, TIFF, BMP and WebP, by Pillow."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from scale.readers.picture import Picture, UnreadableError, check_finite, check_size, one_line

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP")
_BITS, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339  # tags of TIFF
_UNSIGNED, _SIGNED = 1, 2
_DEEP = {"I;16": "<u2", "I;16L": "<u2", "I;16B": ">u2", "I;16N": "=u2"}  # Pillow's modes of 16 bits


def read_image(path: Path) -> Picture:
    """Reads an image: (H, W) grey or (H, W, 3) RGB.

    Palettes are resolved, alpha is laid over black, and a camera's orientation (EXIF) is applied. 16 bits stay 16 bits.

    Raises:
        UnreadableError: it is truncated, of another format, has several pages, or is too large.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with warnings.catch_warnings(), Image.open(path, formats=FORMATS) as image:
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # check_size is the limit
            check_size((image.height, image.width, len(image.getbands())))
            frames = getattr(image, "n_frames", 1)
            if frames > 1:
                raise UnreadableError(f"has {frames} pages or frames: save each as a file of its own")
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
            values = _values(image)
    except UnidentifiedImageError:
        raise UnreadableError(f"is not an image in a known format ({', '.join(FORMATS)})") from None
    except Image.DecompressionBombError as error:
        raise UnreadableError(f"is too large: {error}") from None
    except (OSError, SyntaxError, EOFError, IndexError, ValueError) as error:  # what Pillow's decoders raise
        if isinstance(error, UnreadableError):
            raise
        raise UnreadableError(f"is truncated or damaged ({one_line(error)})") from error
    check_finite(values)
    return Picture(values, 2)


def _values(image: "object") -> np.ndarray:
    """Pixels (H, W) or (H, W, 3) of a loaded image."""
    from PIL import Image

    assert isinstance(image, Image.Image)
    mode = image.mode
    if mode in _DEEP or mode in ("I", "F") or getattr(image, "tag_v2", None):
        deep = _tiff(image)
        if deep is not None:
            return deep
    if mode == "1":
        return np.asarray(image.convert("L"))
    if mode in ("LA", "La") or (mode == "L" and "transparency" in image.info):
        both = np.asarray(image.convert("LA")).astype(np.uint16)
        return ((both[..., 0] * both[..., 1] + 127) // 255).astype(np.uint8)
    if mode in ("PA", "RGBA", "RGBa") or "transparency" in image.info:
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        return _grey_if_palette(Image.alpha_composite(black, image.convert("RGBA")).convert("RGB"), mode)
    if mode == "L":
        return np.asarray(image)
    return _grey_if_palette(image if mode == "RGB" else image.convert("RGB"), mode)


def _tiff(image: "object") -> np.ndarray | None:
    """Pixels (H, W) of more than 8 bits, as Pillow has them, but black where they are least; None for other images.

    Raises:
        UnreadableError: values that Pillow takes for others.
    """
    from PIL import Image

    assert isinstance(image, Image.Image)
    tags: Mapping[int, Any] = getattr(image, "tag_v2", {})  # of a TIFF
    bits, kind = tags.get(_BITS, (8,))[0], tags.get(_SAMPLE_FORMAT, (_UNSIGNED,))[0]
    if bits == 8 and kind == _SIGNED:
        raise UnreadableError("has signed values of 8 bits, which are read as others: store 16 bits or floats")
    if image.mode not in _DEEP and image.mode not in ("I", "F"):
        return None
    values = np.asarray(image)
    if image.mode == "I" and bits == 32 and kind == _UNSIGNED and (values < 0).any():
        raise UnreadableError("has unsigned values of 32 bits that are read as negative: store 16 bits or floats")
    values = values.astype(np.uint16) if image.mode in _DEEP else values
    if tags.get(_PHOTOMETRIC) != 0:
        return values
    if image.mode not in _DEEP:
        raise UnreadableError("is a TIFF in which white is zero, of more than 16 bits: store black as zero")
    return np.uint16(65535) - values


def _grey_if_palette(image: "object", mode: str) -> np.ndarray:
    """A palette of greys alone is a grey image; RGB files stay RGB, whatever they show."""
    values = np.asarray(image)
    if mode in ("P", "PA") and (values == values[..., :1]).all():
        return np.ascontiguousarray(values[..., 0])
    return values
