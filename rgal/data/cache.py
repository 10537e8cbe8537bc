"""Keep decoded images on disk, so that JPEGs are decoded once per machine instead of once per run."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from rgal.core.errors import UserError
from rgal.data.dataset import Decoded, ImageSet, fingerprint

FORMAT = 1  # raise it when the same files would decode to something else


def cache_folder(cache: str | Path | None) -> Path:
    """Return the folder that was asked for, else $RGAL_CACHE, else ~/.cache/rgal/decoded."""
    return Path(cache or os.environ.get("RGAL_CACHE") or "~/.cache/rgal/decoded").expanduser()


def cached(
    root: Path, files: Iterable[Path], size: int | None, folder: Path, build: Callable[[], Decoded]
) -> Decoded:
    """Return the decoded data set from the cache, or decode it and store it there.

    A missing or damaged cache is built again. A cache that cannot be written is skipped.

    Args:
        root: the folder of the data set.
        files: the files that are decoded; the cache holds for their names, sizes and modification times.
        size: the image size in pixels they are decoded to, or None for their own.
        folder: where caches are kept.
        build: decodes the data set.
    """
    path = folder / f"{root.resolve().name}-{_key(root, files, size)}.safetensors"
    decoded = _load(path)
    if decoded is None:
        decoded = build()
        _save(path, decoded)
    return decoded


def _key(root: Path, files: Iterable[Path], size: int | None) -> str:
    """Return 24 hex digits that change when a source file does. Raises UserError for a missing file."""
    state = []
    for file in files:
        try:
            stat = file.stat()
        except OSError as error:  # a link that leads nowhere
            raise UserError(f"'{file}' cannot be read: {error.strerror}") from error
        state.append((file.relative_to(root).as_posix(), stat.st_size, stat.st_mtime_ns))
    content = json.dumps([FORMAT, str(root.resolve()), size, sorted(state)])
    return hashlib.sha256(content.encode()).hexdigest()[:24]


def _load(path: Path) -> Decoded | None:
    """Read the cached data set, or None if it is missing or was changed since it was written."""
    try:
        with safe_open(str(path), framework="pt") as file:
            written = file.metadata() or {}
            # Copies: otherwise a tensor would keep the mapped file, and with it the training images, in memory.
            stored = set(file.keys())
            train, test = (
                ImageSet(
                    file.get_tensor(f"{split}.images").clone(), file.get_tensor(f"{split}.labels").clone()
                )
                if f"{split}.images" in stored
                else None
                for split in ("train", "test")
            )
        decoded = Decoded(train, test, tuple(json.loads(written["class_names"])), fingerprint(train, test))
        return decoded if written["fingerprint"] == decoded.fingerprint else None
    except (OSError, SafetensorError, KeyError, ValueError, TypeError):
        return None


def _save(path: Path, decoded: Decoded) -> None:
    """Write under a temporary name, then rename, so that readers and other processes never see half a file."""
    tensors = {
        f"{split}.{kind}": tensor.contiguous()
        for split, part in (("train", decoded.train), ("test", decoded.test))
        if part is not None
        for kind, tensor in (("images", part.images), ("labels", part.labels))
    }
    metadata = {"class_names": json.dumps(decoded.class_names), "fingerprint": decoded.fingerprint}
    temporary = path.with_name(f"{path.name}.{os.getpid()}.{uuid4().hex[:8]}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, temporary, metadata=metadata)
        temporary.chmod(0o644)  # safetensors writes 0600; others who share the folder may read it
        os.replace(temporary, path)
    except (OSError, SafetensorError):  # no space, read-only, a file in the way: the next run decodes again
        _remove(temporary)


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)
