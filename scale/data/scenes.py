"""Analytic scenes of the phantoms: what is in a volume, and its grey values on any planes at any resolution.

Everything is defined on the unit cube, coordinates in the order of the array's axes (z, y, x), so that a scene looks
the same at every size but for its noise, and one plane of it costs nothing but that plane.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

_EDGE = 1 / 28  # width of the ramp at an object's border, in edges of the cube
_BANDS = ((0.4, 1.5, 0.55), (2.0, 4.0, 0.30), (5.0, 9.0, 0.20))  # cycles per edge from, to; amplitude
_WAVES_PER_BAND = 10
_NOISE = 0.18  # standard deviation, in units of a typical contrast

LARGE, SMALL = 0.18, 0.115  # radii of lesions, in edges of the cube


@dataclass(frozen=True)
class Waves:
    """A smooth random field: a sum of plane waves at several scales."""

    frequencies: np.ndarray  # (W, 3) cycles per edge
    phases: np.ndarray  # (W,)
    amplitudes: np.ndarray  # (W,)


@dataclass(frozen=True)
class Thing:
    """A tube, a spot or a lesion. `kind` is 0 for the tubes and spots that every class has."""

    kind: int
    shape: str
    centre: np.ndarray  # (3,)
    frame: np.ndarray  # (3, 3), rows are the axes of the thing
    radius: float
    colour: np.ndarray  # (C,) contrast in each channel
    bend: tuple[float, float, float] = (0.0, 0.0, 0.0)  # of a tube: amplitude, cycles per edge, phase


@dataclass(frozen=True)
class Scene:
    """All that is in one volume; things that come later cover earlier ones in the mask."""

    waves: Waves
    things: tuple[Thing, ...]
    tint: np.ndarray  # (C,) gain of the background in each channel
    level: float
    gain: float
    noise_seed: tuple[int, ...]


def _length(u: np.ndarray) -> np.ndarray:
    return np.sqrt(np.einsum("i...,i...->...", u, u))


def _capsule(u: np.ndarray, axis: int, half: float, radius: float) -> np.ndarray:
    """Signed distance of points (3, ...) to a rounded rod along one axis of the frame."""
    along = u[axis]
    rest = [u[k] for k in range(3) if k != axis]
    beyond = np.maximum(np.abs(along) - half, 0)
    return np.sqrt(rest[0] ** 2 + rest[1] ** 2 + beyond**2) - radius


def _ball(u: np.ndarray, r: float) -> np.ndarray:
    return _length(u) - r


def _shell(u: np.ndarray, r: float) -> np.ndarray:
    return np.abs(_length(u) - 0.76 * r) - 0.22 * r


def _rod(u: np.ndarray, r: float) -> np.ndarray:
    return _capsule(u, 1, 0.75 * r, 0.42 * r)


def _cross(u: np.ndarray, r: float) -> np.ndarray:
    return np.minimum(_capsule(u, 1, 0.75 * r, 0.28 * r), _capsule(u, 2, 0.75 * r, 0.28 * r))


def _pair(u: np.ndarray, r: float) -> np.ndarray:
    mirrored = np.stack((u[0], np.abs(u[1]) - 0.63 * r, u[2]))
    return _length(mirrored) - 0.45 * r


# Signed distances to the surface at points u (3, ...) in the frame of the thing, negative inside.
_DISTANCES: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "ball": _ball,
    "shell": _shell,
    "rod": _rod,
    "striped": _ball,
    "cross": _cross,
    "pair": _pair,
    "dark": _ball,
}
SHAPES = tuple(_DISTANCES)


def random_frame(generator: np.random.Generator, tilt: float) -> np.ndarray:
    """Axes (3, 3) turned at random in the plane of the slices and by up to `tilt` radians out of it."""
    turn, lean, way = generator.uniform(0, 2 * np.pi), generator.uniform(-tilt, tilt), generator.uniform(0, 2 * np.pi)
    in_plane = np.array([[1, 0, 0], [0, np.cos(turn), -np.sin(turn)], [0, np.sin(turn), np.cos(turn)]])
    axis = np.array([0, np.cos(way), np.sin(way)])
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return in_plane @ (np.eye(3) + np.sin(lean) * cross + (1 - np.cos(lean)) * cross @ cross)  # Rodrigues' formula


def random_waves(generator: np.random.Generator, strength: float) -> Waves:
    """A random field; its coarsest band is `strength` times that of `_BANDS`."""
    frequencies, amplitudes = [], []
    for band, (low, high, amplitude) in enumerate(_BANDS):
        direction = generator.normal(size=(_WAVES_PER_BAND, 3))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        frequencies.append(direction * generator.uniform(low, high, size=(_WAVES_PER_BAND, 1)))
        amplitudes.append(
            np.full(_WAVES_PER_BAND, amplitude * np.sqrt(2 / _WAVES_PER_BAND) * (strength if band == 0 else 1))
        )
    phases = generator.uniform(0, 2 * np.pi, size=len(_BANDS) * _WAVES_PER_BAND)
    return Waves(np.concatenate(frequencies), phases, np.concatenate(amplitudes))


def render(scene: Scene, *, size: int, planes: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Grey values and lesions on some planes of a volume of `size` voxels an edge.

    A plane's values do not depend on which other planes are asked for.

    Returns:
        Images (P, size, size, C) uint8 and masks (P, size, size) uint8, 0 where there is no lesion, else its kind.
    """
    centres = ((np.arange(size) + 0.5) / size).astype(np.float32)
    z, y, x = centres[list(planes)][:, None, None], centres[None, :, None], centres[None, None, :]
    background = _field(scene.waves, z, y, x)
    image = background[..., None] * scene.tint.astype(np.float32)
    mask = np.zeros(background.shape, np.uint8)
    for thing in scene.things:
        box, value, inside = _draw(thing, (z, y, x))
        image[box] += value[..., None] * thing.colour.astype(np.float32)
        if thing.kind:
            mask[box][inside] = thing.kind
    for row, plane in enumerate(planes):
        generator = np.random.default_rng((*scene.noise_seed, plane))
        image[row] += _NOISE * generator.standard_normal(image.shape[1:], np.float32)
    grey = scene.level + scene.gain * image
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8), mask


def _field(waves: Waves, z: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Sum of the waves (Z, Y, X): cos(a + b) = cos a cos b - sin a sin b makes it one product of matrices a plane."""
    turns = 2 * np.pi * waves.frequencies
    left = z[..., None] * turns[:, 0] + y[..., None] * turns[:, 1] + waves.phases  # (Z, Y, 1, W)
    right = x.reshape(-1, 1) * turns[:, 2]  # (X, W)
    left = np.concatenate((waves.amplitudes * np.cos(left), -waves.amplitudes * np.sin(left)), axis=-1)[:, :, 0]
    right = np.concatenate((np.cos(right), np.sin(right)), axis=-1)
    return np.matmul(left.astype(np.float32), right.T.astype(np.float32))


def _draw(
    thing: Thing, axes: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> tuple[tuple[slice, ...], np.ndarray, np.ndarray]:
    """The box a thing lies in, its profile there (1 inside, 0 outside, a ramp between), and the points inside."""
    if thing.shape == "tube":
        box: tuple[slice, ...] = (slice(None),) * 3
    else:
        reach = 1.3 * thing.radius + _EDGE
        box = tuple(_span(axis.ravel(), c - reach, c + reach) for axis, c in zip(axes, thing.centre, strict=True))
    z, y, x = axes[0][box[0]], axes[1][:, box[1]], axes[2][:, :, box[2]]
    offsets = (z - np.float32(thing.centre[0]), y - np.float32(thing.centre[1]), x - np.float32(thing.centre[2]))
    frame = thing.frame.astype(np.float32)
    u = np.stack([row[0] * offsets[0] + row[1] * offsets[1] + row[2] * offsets[2] for row in frame])
    distance = _tube(u, thing) if thing.shape == "tube" else _DISTANCES[thing.shape](u, thing.radius)
    profile = np.clip(0.5 - distance / _EDGE, 0, 1)
    if thing.shape == "striped":
        profile = profile * np.cos(2 * np.pi / (0.9 * thing.radius) * u[1])
    elif thing.shape == "dark":
        profile = -profile
    return box, profile.astype(np.float32), distance < 0


def _tube(u: np.ndarray, thing: Thing) -> np.ndarray:
    """Signed distance, nearly, to a tube that winds along the first axis of its frame."""
    amplitude, cycles, phase = thing.bend
    angle = 2 * np.pi * cycles * u[0] + phase
    return (
        np.sqrt((u[1] - amplitude * np.cos(angle)) ** 2 + (u[2] - amplitude * np.sin(1.3 * angle)) ** 2) - thing.radius
    )


def _span(values: np.ndarray, low: float, high: float) -> slice:
    return slice(int(np.searchsorted(values, low)), int(np.searchsorted(values, high)))
