"""Measure a pool that is too large for memory: `python -m rgal.benchmarks.pool --folder DIR`.

Fills a pool with made-up images, a batch at a time, draws batches from it, stores its state, takes that up again and
draws the same batch. Prints seconds of each part, and the most memory that the process had.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import tempfile
import time
from pathlib import Path

import torch

from rgal.synthesis.pool import ImagePool

BATCH = 256


def parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = argparse.ArgumentParser(prog="python -m rgal.benchmarks.pool", description=__doc__)
    parser.add_argument("--images", type=int, default=140_000, help="default: those of ImageNet's budgets")
    parser.add_argument("--size", type=int, default=224, help="pixels of a side (default 224)")
    parser.add_argument("--folder", type=Path, help="where the file lies meanwhile (default: the system's)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers to a file")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Measure a pool of the size that is asked for, and print a line for each part."""
    options = parser().parse_args(argv)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        numbers = measure(Path(folder) / "pool.u8", options.images, (3, options.size, options.size))
    for name, value in numbers.items():
        print(f"{name:<34} {value:>12,.3f}")
    if options.json:
        options.json.write_text(json.dumps(numbers, indent=1) + "\n")


def measure(file: Path, images: int, shape: tuple[int, int, int]) -> dict[str, float]:
    """Return seconds, gigabytes of the file and of memory, and bytes of a checkpoint, by what they are of.

    Args:
        file: where the images lie once they are too many for memory.
        images: how many.
        shape: (C, H, W).
    """
    rng, numbers = torch.Generator().manual_seed(0), dict[str, float]()
    pool = ImagePool(shape, file=file)
    seconds = [_add(pool, min(BATCH, images - start), rng) for start in range(0, images, BATCH)]
    numbers["seconds to add all"] = sum(seconds)
    numbers["slowest batch of the last tenth"] = max(seconds[-max(1, len(seconds) // 10) :])
    began = time.perf_counter()
    for _ in range(10):
        pool.sample(BATCH, rng)
    numbers["seconds to draw ten batches"] = time.perf_counter() - began
    began, buffer = time.perf_counter(), io.BytesIO()
    torch.save(pool.state_dict(), buffer)
    numbers["seconds to store its state"] = time.perf_counter() - began
    numbers["megabytes of the stored state"] = buffer.tell() / 1e6
    buffer.seek(0)
    again = ImagePool(shape, file=file)
    again.load_state_dict(torch.load(buffer, weights_only=True))
    twin = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
    one, other = (each.sample(BATCH, draw)[0] for each, draw in zip((pool, again), twin, strict=True))
    assert torch.equal(one, other), "the pool that was taken up again draws other images"
    numbers["gigabytes of the images"] = len(pool) * pool.images[0].numel() / 1e9
    numbers["gigabytes of memory at most"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return numbers


def _add(pool: ImagePool, count: int, rng: torch.Generator) -> float:
    """Add made-up images, and return how many seconds that took."""
    images = torch.randint(0, 256, (count, *pool.shape), dtype=torch.uint8, generator=rng)
    targets = torch.randint(0, 1000, (count,), generator=rng)
    began = time.perf_counter()
    pool.add(images, targets)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
