"""Read what a file of weights holds. A file is untrusted input: nothing in it is executed.

`torch.load` reads with `weights_only=True`. What a file refers to beside tensors (an optimiser, numpy's numbers, a
namespace, the class of a whole network) becomes an inert `Placeholder`, which only keeps the values it was given.
"""

from __future__ import annotations

import pickle
import pickletools
import re
import warnings
import zipfile
from collections import OrderedDict, deque
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import safetensors.torch
import torch

from rgal.core.errors import UserError

EXPECTED = "expected a file of weights: safetensors, or a .pth/.pt/.ckpt that torch.save wrote"

# Modules that torch never lets a file name, whatever is allowed: a file that does is no honest checkpoint.
_BLOCKED = ("os", "posix", "nt", "sys")
_PROTOCOL = 2  # of pickles that torch.save writes and torch's reader knows
_PICKLES = 5  # that the format before torch 1.6 writes one behind the other

_ARCHIVES = {
    "constants.pkl": (
        "a TorchScript archive, not weights; write them with "
        "torch.save(torch.jit.load(FILE).state_dict(), 'w.pth')"
    ),
    "archive_format": (
        "a program of torch.export, not weights; write them with "
        "torch.save(dict(torch.export.load(FILE).state_dict), 'w.pth')"
    ),
}


class _SettableAsDict(type):
    """Let torch's reader set items of a class's instances, as it does only for classes that equal `dict`."""

    def __eq__(cls, other: object) -> bool:
        return other is cls or other in (dict, OrderedDict)

    def __hash__(cls) -> int:
        return type.__hash__(cls)


class Placeholder(dict[Any, Any], metaclass=_SettableAsDict):
    """Stand for an object of a class that is not read: its attributes and items by name, without its code."""

    def __new__(cls, *args: object, **kwargs: object) -> Placeholder:
        return super().__new__(cls)

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__()

    def __setstate__(self, state: object) -> None:
        for part in state if isinstance(state, tuple) else (state,):
            if isinstance(part, dict):
                self.update(part)


def _a_list(*args: object) -> list[object]:
    """Stand for a queue, whose items torch's reader puts into nothing but a list."""
    return []


def read(path: Path) -> Any:
    """Return whatever a file holds, with placeholders for what is neither a tensor nor a plain value.

    Raises:
        UserError: it cannot be read, and why.
    """
    try:
        _check_file(path)
        if path.suffix == ".safetensors" or _is_safetensors(path):
            return safetensors.torch.load_file(path, device="cpu")
        stand_ins = [
            (_a_list if name == "collections.deque" else Placeholder, name) for name in _globals(path)
        ]
        with warnings.catch_warnings(), torch.serialization.safe_globals(stand_ins):  # type: ignore[arg-type]
            warnings.simplefilter("ignore")  # the exception that follows says the same
            return torch.load(path, map_location="cpu", weights_only=True)
    except UserError:
        raise
    except Exception as error:  # a damaged file may raise anything, see the documentation of pickle
        raise UserError(f"{path}: {reason(error, path)}; {EXPECTED}") from error


def _check_file(path: Path) -> None:
    if not path.exists():
        raise UserError(f"{path}: no such file; {EXPECTED}")
    if not path.is_file():
        raise UserError(f"{path}: is {'a directory' if path.is_dir() else 'no regular file'}; {EXPECTED}")
    if path.stat().st_size == 0:
        raise UserError(f"{path}: is empty (0 bytes); {EXPECTED}")
    if path.name.endswith(".index.json"):
        raise UserError(f"{path}: is the index of weights in several files; {EXPECTED}, in one file")
    with path.open("rb") as file:
        start = file.read(8)
    if start[1:8] == b"HDF\r\n\x1a\n":
        raise UserError(f"{path}: is an HDF5 file, as Keras writes it; {EXPECTED}")
    if path.suffix == ".onnx":
        raise UserError(f"{path}: is an ONNX graph, whose weights have other names; {EXPECTED}")
    names = _names_in_archive(path)
    for name in names:
        kind = _ARCHIVES.get(name.rpartition("/")[2])
        if kind:
            raise UserError(f"{path}: is {kind}; {EXPECTED}")
    if names and all(name.endswith(".npy") for name in names):
        raise UserError(f"{path}: is an archive of numpy; {EXPECTED}")


def _names_in_archive(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
        return []


def _is_safetensors(path: Path) -> bool:
    """Tell whether a file of another name begins as safetensors do: the length of a header, and the header in JSON."""
    with path.open("rb") as file:
        start = file.read(9)
    return start[8:] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size


def reason(error: Exception, path: Path) -> str:
    """Say in printable words why a file could not be read."""
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read ({error.strerror})"
    text = str(error)
    blocked = [name for name in _globals(path) if name.partition(".")[0] in _BLOCKED]
    refused = re.findall(r"GLOBAL (\S+) (?:was not an allowed|whose module)", text) or blocked
    if refused:
        return f"refused, as reading it would call {quoted(refused)}"
    if "Only persistent_load of storage" in text:
        return "holds a whole network in the format before torch 1.6; write its state_dict() with torch.save"
    if _protocol(path) > _PROTOCOL:
        return f"is a pickle of protocol {_protocol(path)}; write it again, as torch.save(..., FILE) does by itself"
    detail = re.search(r"WeightsUnpickler error:\s*([^\n]+)", text) or re.search(r"[^\n]+", text)
    what = f"{type(error).__name__}: {ascii(detail[0])[1:-1][:160]}" if detail else type(error).__name__
    return f"not a checkpoint, or a damaged one ({what})"


def _protocol(path: Path) -> int:
    """Return the protocol of a file's first pickle; 0 for none."""
    start = b""
    try:
        for file in _pickles(path):
            start = file.read(2)
            break
    except Exception:  # no archive after all, or a damaged one
        return 0
    return start[1] if start[:1] == b"\x80" and len(start) == 2 and start[1] <= pickle.HIGHEST_PROTOCOL else 0


def quoted(names: list[str]) -> str:
    """Return the first two names in printable form, as a file may call its tensors anything."""
    shown = ", ".join(ascii(name[:100]) for name in names[:2])
    return shown + (", ..." if len(names) > 2 else "")


def _globals(path: Path) -> list[str]:
    """List what a file's pickles refer to by name and torch's reader does not know, without executing anything."""
    references: dict[str, None] = {}  # in order, without repeats
    try:
        for file in _pickles(path):
            for name in _named(file):
                references[name] = None
    except Exception:  # no pickle, or a truncated one: the references so far are all there are
        pass
    known = torch._weights_only_unpickler._get_allowed_globals()
    return [name for name in references if name not in known]


def _pickles(path: Path) -> Iterator[IO[bytes]]:
    """Yield a file at the start of each of its pickles: one in an archive, several in the older format."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.rpartition("/")[2] == "data.pkl":
                    with archive.open(name) as file:
                        yield file
        return
    with path.open("rb") as file:
        for _ in range(_PICKLES):
            yield file


def _named(file: IO[bytes]) -> Iterator[str]:
    strings: deque[str] = deque(maxlen=2)
    renamed, moved = torch._utils.NAME_MAPPING, torch._utils.IMPORT_MAPPING  # of Python 2
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name in ("GLOBAL", "INST"):
            module, _, name = str(argument).partition(" ")
            module, name = renamed.get((module, name), (moved.get(module, module), name))
            yield f"{module}.{name}"
        elif opcode.name == "STACK_GLOBAL":
            yield ".".join(strings)
        elif "UNICODE" in opcode.name:
            strings.append(str(argument))
