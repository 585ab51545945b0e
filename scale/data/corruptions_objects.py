"""Corruptions that put something on a 2D image: bubbles, stains, characters, the black corners of a dermatoscope.

They are drawn on a canvas of 224 pixels, the size that MedMNIST-C's lengths are given for, and averaged down to the
image's own. Stains are blobs drawn here, as the published ink masks are not part of the specification; characters are
in Pillow's font instead of OpenCV's.
"""

import string
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from scale.data.corruptions_blur import REFERENCE

_BORDER, _INSIDE, _EDGE = 2, 100, 130  # of a bubble: pixels, and opacities of 255
_INK = 0.9  # opacity of a stain
_TEXT = 28  # pixels of a letter at font scale 1, about that of OpenCV's plain font


def bubbles(x: np.ndarray, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """From 7 bubbles to this many (second number), of radius 3 to the first number, white and translucent."""
    largest, most = shape

    def draw(pen: ImageDraw.ImageDraw) -> None:
        for _ in range(rng.integers(7, most + 1)):
            radius = int(rng.integers(3, largest + 1))
            column, row = (int(value) for value in rng.integers(radius, REFERENCE - radius + 1, 2))
            for reach, opacity in ((radius + _BORDER, _EDGE), (radius, _INSIDE)):
                pen.ellipse((column - reach, row - reach, column + reach, row + reach), fill=opacity)

    cover = _covers(x, draw)
    return x * (1 - cover) + cover


def stain_deposit(x: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    """From one dark blob to this many."""

    def draw(pen: ImageDraw.ImageDraw) -> None:
        for _ in range(rng.integers(1, most + 1)):
            angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
            waves = sum(rng.normal(0, 0.25 / k) * np.cos(k * angles + rng.uniform(0, 6.3)) for k in range(2, 6))
            radii = rng.uniform(8, 16) * np.clip(1 + waves, 0.3, 2)
            row, column = rng.uniform(26, REFERENCE - 26, 2)
            points = zip(column + radii * np.cos(angles), row + radii * np.sin(angles), strict=True)
            pen.polygon([(float(a), float(b)) for a, b in points], fill=round(255 * _INK))

    return x * (1 - _covers(x, draw))


def characters(x: np.ndarray, shape: tuple[int, int, float], rng: np.random.Generator) -> np.ndarray:
    """From one word to the first number, of 3 letters to the second, in one random colour an image."""
    words, letters, scale = shape
    font = ImageFont.load_default(size=max(4, round(_TEXT * scale)))

    def draw(pen: ImageDraw.ImageDraw) -> None:
        for _ in range(rng.integers(1, words + 1)):
            word = "".join(rng.choice(list(string.ascii_lowercase), rng.integers(3, letters + 1)))
            place = rng.integers(10, REFERENCE - 8 * len(word)), rng.integers(10, REFERENCE - 10)
            pen.text((int(place[0]), int(place[1])), word, fill=255, font=font)

    cover = _covers(x, draw)
    colour = rng.random((len(x), 1, 1, x.shape[-1])).astype(np.float32)
    return x * (1 - cover) + cover * colour


def black_corner(x: np.ndarray, radius: float, rng: np.random.Generator) -> np.ndarray:
    """Black outside a circle of this radius, in halves of the side."""
    reach = int(REFERENCE / 2 * radius)

    def draw(pen: ImageDraw.ImageDraw) -> None:
        middle = REFERENCE // 2
        pen.ellipse((middle - reach, middle - reach, middle + reach, middle + reach), fill=255)

    return x * _covers(x[:1], draw)


def _covers(x: np.ndarray, draw: Callable[[ImageDraw.ImageDraw], None]) -> np.ndarray:
    """How much of each pixel is covered (B, H, W, 1), of what `draw` draws once for every image."""
    found = np.empty((*x.shape[:3], 1), dtype=np.float32)
    for number in range(len(x)):
        canvas = Image.new("L", (REFERENCE, REFERENCE), 0)
        draw(ImageDraw.Draw(canvas))
        small = canvas.resize((x.shape[2], x.shape[1]), Image.Resampling.BOX)
        found[number, ..., 0] = np.asarray(small, dtype=np.float32) / 255
    return found
