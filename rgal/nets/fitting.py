"""Find a network's weights among the tensors of a file, whatever they are nested in and prefixed with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from rgal.nets.reading import quoted

# What wrappers put between the names of a network's modules: DataParallel, torch.compile, Fabric, FSDP, checkpointing.
_WRAPPERS = {"module", "_orig_mod", "_forward_module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
_PROFILERS = {"total_ops", "total_params"}  # what thop leaves in a network's buffers
_COUNTER = "num_batches_tracked"  # which weights from before torch 0.4.1 lack
_DEPTH = 32  # of containers in containers; what lies deeper is no weight


@dataclass(frozen=True)
class Stored:
    """Hold one tensor of a file. container: the dotted path of the dict that holds it."""

    tensor: Tensor
    container: str


@dataclass
class Fitted:
    """Hold the tensors of a file under a network's names.

    Args:
        state: the tensors by the network's names; unexpected ones by their own.
        notes: what was taken off names, left out or filled in, in words.
    """

    state: dict[str, Tensor]
    notes: list[str] = field(default_factory=list)


def tensors_in(loaded: Any) -> dict[str, Stored]:
    """List every tensor that can be reached through keys and attributes, by its dotted path."""
    found: dict[str, Stored] = {}
    seen: set[int] = set()

    def visit(value: Any, path: str, depth: int) -> None:
        if depth > _DEPTH or id(value) in seen or not isinstance(value, dict | list | tuple):
            return
        seen.add(id(value))
        for key, inner in _entries(value):
            name = f"{path}.{key}" if path and key else path or key
            if isinstance(inner, Tensor):
                found.setdefault(name, Stored(inner, path))
            else:
                visit(inner, name, depth + 1)

    visit(loaded, "", 0)
    return found


def _entries(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the named parts of a container; of a whole network those of its state_dict, under their names there."""
    if not isinstance(value, dict):
        yield from ((str(index), item) for index, item in enumerate(value))
    elif isinstance(value.get("_modules"), dict) and isinstance(value.get("_parameters"), dict):
        hidden = value.get("_non_persistent_buffers_set")
        buffers = value.get("_buffers")
        yield from _entries(value["_parameters"])
        if isinstance(buffers, dict):
            yield from (
                (k, v) for k, v in _entries(buffers) if not isinstance(hidden, set) or k not in hidden
            )
        yield from _entries(value["_modules"])
    else:
        yield from ((key, item) for key, item in value.items() if isinstance(key, str))


def fit(found: Mapping[str, Stored], expected: Mapping[str, Tensor]) -> Fitted:
    """Bring the tensors of a file under the names that a network expects, as far as that can be told.

    The names are those behind the prefix with which most of them fit; where wrappers stand inside the names, those
    without the wrappers. Of several copies the averaged one ("ema") is taken, else the first.

    Args:
        found: the tensors of the file, from `tensors_in`.
        expected: the network's state_dict.
    """
    renamed = {name: name for name in found}
    wanted = {name: name for name in expected}
    prefix, matched = _prefix(renamed, wanted)
    bare, bare_wanted = ({_bare(name): name for name in names} for names in (found, expected))
    if matched < len(expected) and len(bare) == len(found) and len(bare_wanted) == len(expected):
        bare_prefix, bare_matched = _prefix(bare, bare_wanted)
        if bare_matched > matched:
            prefix, matched, renamed, wanted = bare_prefix, bare_matched, bare, bare_wanted
    return _taken(found, renamed, wanted, prefix)


def _taken(
    found: Mapping[str, Stored],
    renamed: Mapping[str, str],
    wanted: Mapping[str, str],
    prefix: tuple[str, str],
) -> Fitted:
    """Take the tensors under a prefix.

    Args:
        found: the tensors of the file.
        renamed, wanted: names as they are compared, of the file and of the network, to the names themselves.
        prefix: what is taken off the file's names, and what is put before them instead.
    """
    off, on = prefix
    inside = {on + name.removeprefix(off): own for name, own in renamed.items() if name.startswith(off)}
    taken = {wanted[name]: own for name, own in inside.items() if name in wanted}
    homes = {found[own].container for own in taken.values()} or {_fullest(found)}
    others = [(name, own) for name, own in inside.items() if name not in wanted]
    profiled = [own for name, own in others if name.rpartition(".")[2] in _PROFILERS]
    unexpected = {n: own for n, own in others if own not in profiled and found[own].container in homes}
    state = {name: found[own].tensor for name, own in (taken | unexpected).items()}
    counters = [n for n in wanted.values() if n not in state and n.rpartition(".")[2] == _COUNTER]
    if taken:
        state |= {name: torch.zeros((), dtype=torch.int64) for name in counters}
    used = {*taken.values(), *unexpected.values(), *profiled}
    notes = []
    if any(name != own for name, own in taken.items()):
        first, own = next((name, own) for name, own in taken.items() if name != own)
        notes.append(
            f"read {len(taken)} weights under other names, such as {quoted([own])} as {quoted([first])}"
        )
    if left := _tops(own for own in found if own not in used):
        notes.append(f"left out {quoted(left)}")
    if profiled:
        notes.append(f"left out {len(profiled)} counts of a profiler")
    if taken and counters:
        notes.append(f"{len(counters)} batch norms have no {_COUNTER}, set to 0")
    return Fitted(state, notes)


def _prefix(names: Mapping[str, str], wanted: Mapping[str, str]) -> tuple[tuple[str, str], int]:
    """Choose what to take off the names and what to put before them, and count how many then fit."""
    shared = _shared(wanted)
    votes: Counter[tuple[str, str]] = Counter()
    for name in names:
        for cut in (0, *(i + 1 for i, letter in enumerate(name) if letter == ".")):
            for on in ("", shared) if shared else ("",):
                if on + name[cut:] in wanted:
                    votes[name[:cut], on] += 1
    if not votes:
        return ("", ""), 0
    most = max(votes.values())
    best = [prefix for prefix, count in votes.items() if count == most]
    averaged = [prefix for prefix in best if "ema" in prefix[0].lower()]
    return (averaged or best)[0], most


def _shared(names: Iterable[str]) -> str:
    """Return the prefix that all names have, up to a dot; "" if they share none."""
    first, *rest = list(names) or [""]
    parts = first.split(".")[:-1]
    while parts and not all(name.startswith(".".join(parts) + ".") for name in rest):
        parts.pop()
    return ".".join(parts) + "." if parts else ""


def _bare(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def _fullest(found: Mapping[str, Stored]) -> str:
    """Return the path of the container with the most tensors."""
    return Counter(stored.container for stored in found.values()).most_common(1)[0][0]


def _tops(names: Iterable[str]) -> list[str]:
    """Return the first parts of dotted names, each once."""
    return list(dict.fromkeys(name.partition(".")[0] for name in names))
