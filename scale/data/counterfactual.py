"""The same phantom with one thing changed: what the network's prediction rests on, by intervention instead of by a map.

A phantom is rendered from a scene, so the scene can be rendered again without its lesions, with them at another place,
or with the same lesions on another background; all else, the noise included, stays bit for bit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from scale.data.phantom import DECIDING, SAMPLES, Recipe, free_place, labels_of, rendered, scene_of, seed_of
from scale.data.scenes import Scene, Thing

CHANGES = ("without", "elsewhere", "background")


def render_changed(
    recipe: Mapping[str, Any], split: str, rows: Sequence[int], *, of: Sequence[int] | None = None
) -> dict[str, np.ndarray]:
    """Renders samples of a data set again.

    Args:
        recipe: the arguments of `phantom.generate` that made the data set.
        split: name of the split.
        rows: positions in the split.
        of: for each row the label whose lesion is removed or moved, where several labels have one each; all lesions if
            None.

    Returns:
        Images (N, *S), or (N, *S, C) in colour, uint8, by name. `same` is as in the data set, `without` has no lesions,
        `elsewhere` has them where they touch none of the former places, and `background` has another background, of
        which waves, tubes, spots, decoys, grey levels and noise are those of another seed. For a sample without lesions
        the first three are alike.
    """
    kind = Recipe(
        recipe["problem"],
        recipe["num_classes"],
        recipe["channels"],
        tuple(recipe.get("deciding") or DECIDING),
        recipe.get("lesions", 1),
        tuple(recipe.get("decoys") or ()),
    )
    seed, dims, size = recipe["seed"], recipe["spatial_dims"], recipe["size"]
    count = recipe.get("samples", SAMPLES)[split]
    labels = labels_of(kind, split, count, seed=seed)
    found: dict[str, list[np.ndarray]] = {name: [] for name in ("same", *CHANGES)}
    for number, row in enumerate(rows):
        own = seed_of(seed, split, int(row))
        asked = None if of is None else int(of[number]) + 1
        scene, depth = scene_of(kind, labels[row], seed=own)
        other, _ = scene_of(kind, labels[row], seed=(*own, 4))
        changed = {
            "same": scene,
            "without": replace(scene, things=tuple(thing for thing in scene.things if not _is_lesion(thing, asked))),
            "elsewhere": _moved(scene, depth, asked, np.random.default_rng((*own, 3))),
            "background": _on_background(scene, other),
        }
        for name, one in changed.items():
            image, _ = rendered(one, depth, spatial_dims=dims, size=size)
            found[name].append(image if kind.channels > 1 else image[..., 0])
    return {name: np.stack(images) for name, images in found.items()}


def _is_lesion(thing: Thing, asked: int | None) -> bool:
    return thing.kind > 0 and asked in (None, thing.kind)


def _moved(scene: Scene, depth: float, asked: int | None, generator: np.random.Generator) -> Scene:
    """The lesions at places that touch neither the former ones nor one another, as far as there is room."""
    taken = [thing for thing in scene.things if thing.kind]
    things = []
    for thing in scene.things:
        if not _is_lesion(thing, asked):
            things.append(thing)
            continue
        moved = replace(thing, centre=free_place(taken, depth, thing.radius, generator))
        taken.append(moved)
        things.append(moved)
    return replace(scene, things=tuple(things))


def _on_background(scene: Scene, other: Scene) -> Scene:
    """`other` with the lesions of `scene` instead of its own."""
    background = tuple(thing for thing in other.things if not thing.kind)
    return replace(other, things=(*background, *(thing for thing in scene.things if thing.kind)))
