"""How files of results are called."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection

from rgal.core.files import slug

GROUP = ("task", "setting", "budget")


def file_stems(keys: Collection[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    """Return a file stem for each key; keys with equal slugs get a short hash behind theirs."""
    stems = {key: "_".join(slug(part) for part in key if part) or "unnamed" for key in keys}
    count = Counter(stems.values())
    for key, stem in stems.items():
        if count[stem] > 1:
            stems[key] = f"{stem}_{hashlib.sha256(repr(key).encode()).hexdigest()[:6]}"
    return stems
