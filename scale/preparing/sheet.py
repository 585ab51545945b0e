"""Contact sheets: some samples of each class as the network sees them, to be looked at."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from scale.preparing.labels import Encoding
from scale.preparing.pool import Pool

COLUMNS, ROWS, EDGE, GAP = 8, 5, 96, 4


def write(folder: Path, pool: Pool, rows: Sequence[int], labels: np.ndarray, encoding: Encoding) -> None:
    """Writes a PNG for each class (or label): up to 40 samples, spread over it; of volumes the middle slice.

    Args:
        folder: to write to.
        pool: the pictures.
        rows: (N,), places in the pool.
        labels: (N, L).
        encoding: names.
    """
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(encoding.names):
        own = np.flatnonzero(labels[:, number] == 1 if encoding.problem == "multilabel" else labels[:, 0] == number)
        if not len(own):
            continue
        chosen = own[np.unique(np.linspace(0, len(own) - 1, COLUMNS * ROWS).astype(int))]
        tiles = [tile(picture, pool.how.spatial_dims) for picture in pool.gather([rows[row] for row in chosen])]
        slug = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[:60]
        Image.fromarray(sheet(tiles)).save(folder / f"{number:02d}-{slug}.png")


def tile(picture: np.ndarray, dims: int) -> np.ndarray:
    """A picture (*S[, 3]) as (EDGE, EDGE, 3), uint8; of a volume the middle slice of the first axis."""
    from PIL import Image

    flat = picture[picture.shape[0] // 2] if dims == 3 else picture
    image = Image.fromarray(np.ascontiguousarray(flat)).convert("RGB")
    image.thumbnail((EDGE, EDGE)) if max(flat.shape[:2]) > EDGE else None
    scale = EDGE / max(image.size)
    image = image.resize(
        (max(1, round(image.width * scale)), max(1, round(image.height * scale))), Image.Resampling.NEAREST
    )
    out = np.zeros((EDGE, EDGE, 3), np.uint8)
    out[: image.height, : image.width] = np.asarray(image)
    return out


def sheet(tiles: Sequence[np.ndarray]) -> np.ndarray:
    """Tiles side by side, (H, W, 3), uint8, on white."""
    columns = min(COLUMNS, len(tiles))
    lines = -(-len(tiles) // columns)
    out = np.full((lines * (EDGE + GAP) + GAP, columns * (EDGE + GAP) + GAP, 3), 255, np.uint8)
    for place, one in enumerate(tiles):
        top, left = GAP + place // columns * (EDGE + GAP), GAP + place % columns * (EDGE + GAP)
        out[top : top + EDGE, left : left + EDGE] = one
    return out
