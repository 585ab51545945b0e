"""Synthetic volumes on which one part of a network is needed and the others are not.

Each task is binary and balanced, each sample a function of the seed, the split's name and its number:

- `scale`: one large ball, or eight small ones of the same contrast and the same total volume.
- `plane`: a faint texture of one pixel across the slices that is the same in all of them, so that their mean shows it,
  or one that turns over in the middle of either half, so that only far slices tell the two apart.
- `context`: a cube chequered in space, or one whose slices, each as before, have their signs drawn anew: neither is to
  be seen in any slab's mean, and only the neighbours in all three directions tell them apart.
- `both`: positive where the texture is that of all slices and the cube is chequered in space; the three other cases are
  as frequent as one another, so that whoever sees one of the two cues has an AUC of 5/6 at most.
- `side`: a patch of texture and a cube on either side of each sample: positive where the one patch that is the same in
  all slices and the one cube that is chequered in space are on one side. The three other cases, as frequent as one
  another: no such patch, no such cube, or they are on different sides. Whoever sees one cue has an AUC of 2/3 at most,
  who sees both and not where they are 5/6.
"""

import zlib
from collections.abc import Mapping

import numpy as np

TASKS = ("scale", "plane", "context", "both", "side")
VERSION = 1  # counts up when the same seed gives other images
_LEVEL, _NOISE, _WAVE = 90.0, 12.0, 8.0  # grey values: mean, standard deviations of voxels and of the background
_LARGE, _SMALL, _COUNT = 4.4, 2.2, 8  # radii of the balls; eight small ones have the volume of a large one
_BRIGHT = (32.0, 58.0)  # contrast of balls, one for all of a sample
_TEXTURE, _TEXTURE_3D, _PATCH = 8.0, 10.0, 12  # strength of the textures, edge of the patch that has one


def generate(*, task: str, size: int, samples: Mapping[str, int], seed: int) -> dict[str, np.ndarray]:
    """Makes a data set.

    Args:
        task: one of `TASKS`.
        size: voxels of an edge.
        samples: number of samples in each split.
        seed: of everything.

    Returns:
        `{split}_images` (N, size, size, size) uint8 and `{split}_labels` (N, 1) uint8.

    Raises:
        ValueError: an unknown task, or volumes too small for what is in them.
    """
    if task not in TASKS:
        raise ValueError(f"data.task={task}: give one of {', '.join(TASKS)}")
    if size < 24:
        raise ValueError(f"data.size={size}: give at least 24 voxels, for the objects to have room")
    arrays: dict[str, np.ndarray] = {}
    for split, count in samples.items():
        images = np.empty((count, size, size, size), np.uint8)
        labels = np.empty((count, 1), np.uint8)
        for row in range(count):
            generator = np.random.default_rng((seed, zlib.crc32(split.encode()), row))
            labels[row], images[row] = _sample(task, size, row, generator)
        arrays |= {f"{split}_images": images, f"{split}_labels": labels}
    return arrays


def _sample(task: str, size: int, row: int, generator: np.random.Generator) -> tuple[int, np.ndarray]:
    label = row % 2
    image = _background(size, generator)
    plane, context = label, label
    if task == "both" and not label:
        plane, context = ((0, 0), (0, 1), (1, 0))[row // 2 % 3]
    if task == "scale":
        _balls(image, label, generator)
    if task in ("plane", "both"):
        _texture(image, plane, generator)
    if task in ("context", "both"):
        _space(image, context, generator)
    if task == "side":
        _sides(image, "together" if label else ("no plane", "no context", "apart")[row // 2 % 3], generator)
    return label, np.clip(np.rint(image), 0, 255).astype(np.uint8)


def _background(size: int, generator: np.random.Generator) -> np.ndarray:
    """Noise and a smooth field (size, size, size): random values on a coarse grid, interpolated along each axis."""
    place = np.linspace(0, 3, size)
    blend = np.maximum(0, 1 - np.abs(place[:, None] - np.arange(4))).astype(np.float32)
    coarse = generator.standard_normal((4, 4, 4), np.float32)
    smooth = np.einsum("zi,yj,xk,ijk->zyx", blend, blend, blend, coarse, optimize=True)
    return _LEVEL + _WAVE * smooth + _NOISE * generator.standard_normal((size,) * 3, np.float32)


def _balls(image: np.ndarray, large: int, generator: np.random.Generator) -> None:
    radius, count = (_LARGE, 1) if large else (_SMALL, _COUNT)
    centres: list[np.ndarray] = []
    while len(centres) < count:
        centre = generator.uniform(radius, image.shape[0] - 1 - radius, 3)
        if all(np.linalg.norm(centre - other) > 2 * radius + 1 for other in centres):
            centres.append(centre)
    distances = [_distance(image.shape[0], centre) - radius for centre in centres]
    image += generator.uniform(*_BRIGHT) * np.clip(0.5 - np.min(distances, axis=0), 0, 1)


def _sides(image: np.ndarray, case: str, generator: np.random.Generator) -> None:
    """In either half of the columns a patch of texture and a cube, which share no row."""
    half = image.shape[0] // 2
    turned = bool(generator.integers(2))  # which side is the first
    for first in (True, False):
        left = half * (first == turned)
        rows = half * generator.permutation(2)
        corners = [(top, left) + 2 * generator.integers(0, (half - _PATCH) // 2 + 1, 2) for top in rows]
        _texture(image, first and case != "no plane", generator, corner=corners[0])
        chequered = {"together": first, "no plane": first, "no context": False, "apart": not first}
        _space(image, chequered[case], generator, corner=corners[1])


def _texture(image: np.ndarray, same: int, generator: np.random.Generator, *, corner: np.ndarray | None = None) -> None:
    """Stripes of one pixel in a patch; of each of the two halves of the slices, which slabs are, as well as of all."""
    size = image.shape[0]
    top, left = generator.integers(0, size - _PATCH + 1, 2) if corner is None else corner
    stripes = np.where(np.arange(_PATCH) % 2, 1.0, -1.0)[:, None] * np.ones(_PATCH)
    stripes = stripes if generator.integers(2) else stripes.T
    signs = np.ones(size)
    if not same:  # it turns over in the middle of both halves of the slices, whose means are then without a texture
        for half in (slice(0, size // 2), slice(size // 2, size)):
            count = len(signs[half])
            signs[half] = np.where(np.arange(count) < count // 2, 1.0, -1.0) * generator.choice((-1, 1))
    patch = image[:, top : top + _PATCH, left : left + _PATCH]
    patch += (_TEXTURE * signs[:, None, None] * stripes * generator.choice((-1, 1))).astype(np.float32)


def _space(image: np.ndarray, whole: int, generator: np.random.Generator, *, corner: np.ndarray | None = None) -> None:
    """A chequered cube, or one whose slices have signs drawn anew; the mean of neither half of an axis shows any."""
    size, half = image.shape[0], image.shape[0] // 2
    starts = 2 * generator.integers(0, (size - _PATCH) // 2 + 1, 3)
    place = np.arange(_PATCH)
    across = np.where((place[:, None] + place) % 2, 1.0, -1.0)
    signs = np.where(place % 2, 1.0, -1.0)
    axes = generator.permutation(3) if corner is not None else None
    if corner is not None:
        starts = np.array([starts[0], *corner])[axes]
    if not whole:
        signs = np.concatenate([generator.permutation(part) for part in np.split(signs, [max(half - starts[0], 0)])])
    cube = signs[:, None, None] * across * _TEXTURE_3D * generator.choice((-1, 1))
    turned = image.transpose(generator.permutation(3) if axes is None else axes)
    turned[tuple(slice(start, start + _PATCH) for start in starts)] += cube.astype(np.float32)


def _distance(size: int, centre: np.ndarray) -> np.ndarray:
    z, y, x = np.ogrid[:size, :size, :size]
    squares = [(axis.astype(np.float32) - place) ** 2 for axis, place in zip((z, y, x), centre, strict=True)]
    found: np.ndarray = np.sqrt(squares[0] + squares[1] + squares[2])
    return found
