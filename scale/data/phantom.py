"""Synthetic data sets with known lesions, in MedMNIST's layout, made from a seed.

A scene is a smooth random background at several scales, winding tubes and small spots, which all classes have, and
lesions, which decide the label. 2D sets are slices of the 3D ones, through the lesions if there are any:
`generate(spatial_dims=2)` gives, for the same seed, exactly one plane of each volume that `spatial_dims=3` gives.
For that, several lesions of one volume lie near one plane.

What the labels ask: binary, is there a lesion; multiclass, which kind (0 = none); multilabel, which kinds; ordinal, how
many. Of a binary set one can say which shapes decide, how many there are, and which ones stand in both classes.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from scale.data import archive
from scale.data.layout import PROBLEMS
from scale.data.scenes import LARGE, SHAPES, SMALL, Scene, Thing, random_frame, random_waves, render
from scale.utils.choices import suggest

VERSION = 1  # counts up when the same seed gives other images
KINDS = tuple((shape, radius) for radius in (LARGE, SMALL) for shape in SHAPES)  # kind k of a mask is KINDS[k - 1]
SAMPLES = {"train": 600, "val": 100, "test": 300}
DECIDING = ("ball", "shell", "dark")  # shapes of a binary set's lesions
_MOST = {"binary": 2, "multiclass": len(KINDS) + 1, "multilabel": len(KINDS), "ordinal": len(KINDS)}
_TILT = 0.4  # radians
_CROWD = 3  # large lesions beside one another


@dataclass(frozen=True)
class Recipe:
    """What a sample is made from, besides its label and seed."""

    problem: str
    num_classes: int
    channels: int
    deciding: tuple[str, ...] = DECIDING
    lesions: int = 1
    decoys: tuple[str, ...] = ()

    @property
    def period(self) -> int:
        """Samples in a block: each class occurs once in it, and each label of a multilabel set is positive once."""
        # about two labels of a multilabel sample are positive
        return max(3, self.num_classes // 2) if self.problem == "multilabel" else self.num_classes


def generate(
    *,
    spatial_dims: int = 3,
    problem: str = "binary",
    num_classes: int = 2,
    size: int = 28,
    channels: int = 1,
    samples: Mapping[str, int] = SAMPLES,
    seed: int = 0,
    deciding: Sequence[str] | None = None,
    lesions: int = 1,
    decoys: Sequence[str] = (),
) -> dict[str, np.ndarray]:
    """Makes a data set.

    Sample i of a split depends on the seed, the split's name and i, not on the number of samples.

    Args:
        spatial_dims: 2 or 3.
        problem: binary, multiclass, multilabel or ordinal.
        num_classes: classes, or labels of a multilabel set.
        size: pixels or voxels along an edge.
        channels: 1, or more for colour, which says nothing about the label.
        samples: number of samples in each split.
        seed: of everything.
        deciding: of a binary set, the shapes that a lesion may have; `DECIDING` if None.
        lesions: of a binary set, their number in a positive sample.
        decoys: of a binary set, shapes of which every sample has one that says nothing about the label.

    Returns:
        `{split}_images` (N, *S) or (N, *S, C) uint8, `{split}_labels` (N, L) uint8 and `{split}_masks` (N, *S) uint8:
        0 where there is no lesion, k inside one of kind `KINDS[k - 1]`.

    Raises:
        ValueError: an argument that is not possible, or too few samples for each class to occur in each split.
    """
    recipe = Recipe(problem, num_classes, channels, tuple(deciding or DECIDING), lesions, tuple(decoys))
    _check(spatial_dims, recipe, size, samples)
    arrays: dict[str, np.ndarray] = {}
    for split, count in samples.items():
        labels = labels_of(recipe, split, count, seed=seed)
        seeds = [seed_of(seed, split, i) for i in range(count)]
        pairs = [
            rendered(*scene_of(recipe, label, seed=own), spatial_dims=spatial_dims, size=size)
            for label, own in zip(labels, seeds, strict=True)
        ]
        images, masks = (np.stack(parts) for parts in zip(*pairs, strict=True))
        arrays[f"{split}_images"] = images if channels > 1 else images[..., 0]
        arrays[f"{split}_labels"] = labels
        arrays[f"{split}_masks"] = masks
    return arrays


def write(path: str | Path, **recipe: Any) -> Path:
    """Writes the data set that `generate` makes of `recipe` as an npz file, whole or not at all; returns its path."""
    path = Path(path).expanduser()
    archive.write(path, generate(**recipe))
    return path


def _check(spatial_dims: int, recipe: Recipe, size: int, samples: Mapping[str, int]) -> None:
    problem, num_classes = recipe.problem, recipe.num_classes
    if problem not in PROBLEMS:
        raise ValueError(f"unknown problem {problem!r}; {suggest(problem, PROBLEMS)}")
    if spatial_dims not in (2, 3):
        raise ValueError(f"spatial_dims is {spatial_dims!r}; allowed are 2 and 3")
    if not 2 <= num_classes <= _MOST[problem]:
        raise ValueError(f"{num_classes} classes; a {problem} phantom can have 2 to {_MOST[problem]}")
    if size < 16:
        raise ValueError(f"size {size} is too small to show a lesion; at least 16")
    if recipe.channels < 1:
        raise ValueError(f"channels is {recipe.channels}; at least 1")
    _check_binary(recipe)
    for split, count in samples.items():
        if count < recipe.period:
            raise ValueError(f"{count} samples in {split}; for each class to occur it takes at least {recipe.period}")


def _check_binary(recipe: Recipe) -> None:
    changed = {"deciding": recipe.deciding != DECIDING, "lesions": recipe.lesions != 1, "decoys": bool(recipe.decoys)}
    if recipe.problem != "binary" and any(changed.values()):
        names = ", ".join(name for name, is_changed in changed.items() if is_changed)
        raise ValueError(f"{names}: only a binary phantom takes it, and problem is {recipe.problem}")
    for name, shapes in (("deciding", recipe.deciding), ("decoys", recipe.decoys)):
        for shape in shapes:
            if shape not in SHAPES:
                raise ValueError(f"{name}: unknown shape {shape!r}; {suggest(shape, SHAPES)}")
    both = sorted(set(recipe.deciding) & set(recipe.decoys))
    if both:
        raise ValueError(f"decoys: {both[0]} decides the label (deciding: {', '.join(recipe.deciding)})")
    if not 1 <= recipe.lesions <= _CROWD:
        raise ValueError(f"lesions is {recipe.lesions}; 1 to {_CROWD} find room")


def seed_of(seed: int, split: str, row: int) -> tuple[int, ...]:
    """The seed of one sample."""
    return (seed, zlib.crc32(split.encode()), row)


def labels_of(recipe: Recipe, split: str, count: int, *, seed: int) -> np.ndarray:
    """Labels (N, L) uint8 of a split, balanced in blocks, each a random permutation of its own."""
    is_multilabel = recipe.problem == "multilabel"
    blocks = []
    for block in range(-(-count // recipe.period)):
        generator = np.random.default_rng((*seed_of(seed, split, block), 1))
        columns = range(recipe.num_classes if is_multilabel else 1)
        blocks.append(np.stack([generator.permutation(recipe.period) for _ in columns], axis=1))
    drawn = np.concatenate(blocks)[:count]
    return (drawn == 0 if is_multilabel else drawn).astype(np.uint8)


def scene_of(recipe: Recipe, label: np.ndarray, *, seed: tuple[int, ...]) -> tuple[Scene, float]:
    """What is in one sample of a label (L,), and the depth of the plane that its lesions lie near."""
    generator = np.random.default_rng((*seed, 0))
    depth = generator.uniform(0.3, 0.7)
    scene = _scene(_wanted(recipe, label, generator), depth, recipe.channels, generator, noise_seed=(*seed, 2))
    return (_with_decoys(scene, recipe, depth, seed=seed) if recipe.decoys else scene), depth


def rendered(scene: Scene, depth: float, *, spatial_dims: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Image (*S, C) and mask (*S) of a scene; in 2D of its plane at `depth`."""
    if spatial_dims == 3:
        return render(scene, size=size, planes=range(size))
    image, mask = render(scene, size=size, planes=(int(depth * size),))
    return image[0], mask[0]


def _wanted(recipe: Recipe, label: np.ndarray, generator: np.random.Generator) -> list[tuple[int, float]]:
    """Kind and radius of each lesion that a label (L,) asks for."""
    first = int(label[0])
    if recipe.problem == "binary":
        kinds = [1 + SHAPES.index(shape) for shape in recipe.deciding]
        drawn = [(int(generator.choice(kinds)), generator.uniform(0.14, 0.19)) for _ in range(recipe.lesions)]
        return drawn * first
    if recipe.problem == "ordinal":
        return [(1, generator.uniform(0.07, 0.1)) for _ in range(first)]
    asked = [first] * bool(first) if recipe.problem == "multiclass" else [int(k) + 1 for k in np.flatnonzero(label)]
    return [(kind, KINDS[kind - 1][1] * generator.uniform(0.93, 1.07)) for kind in asked]


def _with_decoys(scene: Scene, recipe: Recipe, depth: float, *, seed: tuple[int, ...]) -> Scene:
    generator = np.random.default_rng((*seed, 5))
    placed = [thing for thing in scene.things if thing.kind]
    decoys: list[Thing] = []
    for shape in recipe.decoys:
        radius = generator.uniform(0.14, 0.16)
        centre = free_place([*placed, *decoys], depth, radius, generator)
        tone = generator.uniform(1.6, 2.4) * generator.uniform(0.75, 1.0, size=recipe.channels)
        decoys.append(Thing(0, shape, centre, random_frame(generator, _TILT), radius, tone))
    return replace(scene, things=(*scene.things, *decoys))


def _scene(
    wanted: list[tuple[int, float]],
    depth: float,
    channels: int,
    generator: np.random.Generator,
    *,
    noise_seed: tuple[int, ...],
) -> Scene:
    def colour() -> np.ndarray:
        return generator.uniform(1.6, 2.4) * generator.uniform(0.75, 1.0, size=channels)

    def distraction() -> np.ndarray:
        return colour() * generator.choice((1, 1, -1))

    tubes = [_random_tube(generator, distraction()) for _ in range(generator.integers(3, 8))]
    spots = [
        Thing(0, "ball", generator.uniform(0.05, 0.95, 3), np.eye(3), generator.uniform(0.03, 0.055), distraction())
        for _ in range(generator.integers(4, 14))
    ]
    lesions: list[Thing] = []
    for kind, radius in sorted(wanted, key=lambda one: -one[1]):
        centre = free_place(lesions, depth, radius, generator)
        shape = KINDS[kind - 1][0]
        lesions.append(Thing(kind, shape, centre, random_frame(generator, _TILT), radius, colour()))
    return Scene(
        random_waves(generator, generator.uniform(0.6, 1.6)),
        (*tubes, *spots, *lesions),
        tint=generator.uniform(0.75, 1.0, size=channels),
        level=generator.uniform(80, 125),
        gain=generator.uniform(20, 34),
        noise_seed=noise_seed,
    )


def _random_tube(generator: np.random.Generator, colour: np.ndarray) -> Thing:
    frame = np.linalg.qr(generator.normal(size=(3, 3)))[0]
    bend = (generator.uniform(0.03, 0.12), generator.uniform(0.4, 1.1), generator.uniform(0, 2 * np.pi))
    return Thing(0, "tube", generator.uniform(0.2, 0.8, 3), frame, generator.uniform(0.022, 0.04), colour, bend)


def free_place(lesions: list[Thing], depth: float, radius: float, generator: np.random.Generator) -> np.ndarray:
    """A centre near the plane at `depth` where a lesion touches no other; after 50 tries, the least crowded one."""
    best, room = np.zeros(3), -np.inf
    for _ in range(50):
        place = np.array([depth + generator.uniform(-0.2, 0.2) * radius, *generator.uniform(radius, 1 - radius, 2)])
        gaps = [float(np.linalg.norm(place - other.centre)) - radius - other.radius for other in lesions]
        gap = min(gaps, default=np.inf)
        if gap > room:
            best, room = place, gap
        if room > 0.05:
            break
    return best
