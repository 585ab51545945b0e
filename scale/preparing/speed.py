"""How fast files are prepared, beside Pillow's bare decoding of the same files by as many processes."""

import multiprocessing
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from scale.preparing.job import prepare
from scale.preparing.pool import CHUNK, end_with
from scale.preparing.settings import Settings
from scale.utils import tables

DIFFERENT = 128  # pictures that are made; each is written many times


@dataclass
class Rates:
    """What was measured, one value a round.

    Attributes:
        decode: images a second that Pillow decodes.
        prepare: images a second that are prepared, from the files to the npz file.
        decode_cpu: seconds of CPU time, of all processes, an image.
        prepare_cpu: the same of the preparation.
        memory: bytes that all processes of a preparation had at most, each at its own peak.
    """

    decode: list[float] = field(default_factory=list)
    prepare: list[float] = field(default_factory=list)
    decode_cpu: list[float] = field(default_factory=list)
    prepare_cpu: list[float] = field(default_factory=list)
    memory: int = 0


def measure(count: int, *, size: int, workers: int, rounds: int = 3) -> Rates:
    """Times both in turns, so that whatever else runs slows both alike; starting the processes counts.

    Args:
        count: PNG files (RGB), made in a temporary folder.
        size: pixels of a side.
        workers: processes that read.
        rounds: that count; one more comes first, in which the files get into the system's cache.
    """
    found = Rates()
    with tempfile.TemporaryDirectory(prefix="scale-benchmark-") as name:
        folder = Path(name)
        paths = write_pictures(folder / "in", count, size=size)
        settings = Settings(size=size, duplicates="keep")
        for number in range(rounds + 1):
            output = folder / f"{number}.npz"
            bare = _timed(partial(_decode_all, paths, workers))
            whole = _timed(
                partial(prepare, output, source=folder / "in", table=None, settings=settings, workers=workers)
            )
            output.unlink()
            if not number:  # what a child is said to have had includes its parent at the fork, small as yet
                child = _peak(resource.RUSAGE_CHILDREN)
            else:
                found.decode.append(count / bare[0])
                found.decode_cpu.append(bare[1] / count)
                found.prepare.append(count / whole[0])
                found.prepare_cpu.append(whole[1] / count)
    found.memory = _peak(resource.RUSAGE_SELF) + workers * child
    return found


def _peak(who: int) -> int:
    return resource.getrusage(who).ru_maxrss << 10


def write_pictures(folder: Path, count: int, *, size: int) -> list[Path]:
    """Writes RGB images as smooth and as noisy as photographs, in two class folders."""
    from PIL import Image

    rng = np.random.default_rng(0)
    encoded = []
    for number in range(min(DIFFERENT, count)):
        coarse = rng.integers(0, 256, (8, 8, 3), np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC))
        noisy = np.clip(smooth + rng.normal(0, 3, smooth.shape), 0, 255).astype(np.uint8)
        place = folder / f"class {number % 2}" / f"{number:06d}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noisy).save(place)
        encoded.append((place.read_bytes(), place))
    paths = [place for _, place in encoded]
    for number in range(len(encoded), count):
        content, place = encoded[number % len(encoded)]
        paths.append(place.with_name(f"{number:06d}.png"))
        paths[-1].write_bytes(content)
    return paths


def table(found: Rates) -> str:
    """Medians over the rounds, with the range, and the shares of Pillow's rate."""
    rows = []
    for name, rates, cpu in (
        ("Pillow, decoding alone", found.decode, found.decode_cpu),
        ("scale.prepare", found.prepare, found.prepare_cpu),
    ):
        rate = f"{statistics.median(rates):.0f} ({min(rates):.0f}–{max(rates):.0f})"
        rows.append([name, rate, f"{1000 * statistics.median(cpu):.2f}"])
    shares = sorted(own / bare for own, bare in zip(found.prepare, found.decode, strict=True))
    cpu_share = statistics.median(found.decode_cpu) / statistics.median(found.prepare_cpu)
    return (
        tables.markdown(["", "images/s", "CPU ms an image"], rows)
        + f"\n\n{statistics.median(shares):.0%} of Pillow's rate ({shares[0]:.0%}–{shares[-1]:.0%}, round by round), "
        f"{cpu_share:.0%} by CPU time; memory of all processes at most {found.memory / 1e6:.0f} MB"
    )


def _timed(call: Callable[[], object]) -> tuple[float, float]:
    """Seconds on the clock, and of CPU time in this process and those that ended in it."""
    before, start = _cpu(), time.perf_counter()
    call()
    return time.perf_counter() - start, _cpu() - before


def _cpu() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def _decode_all(paths: Sequence[Path], workers: int) -> None:
    chunks = [paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK)]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, end_with, (os.getpid(),)) as executor:
        for _ in executor.map(_decode, chunks):
            pass


def _decode(paths: Sequence[Path]) -> None:
    from PIL import Image

    for path in paths:
        with Image.open(path) as image:
            image.load()
