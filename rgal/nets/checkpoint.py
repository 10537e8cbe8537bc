"""Read and write weights. A checkpoint is untrusted input: reading one never executes code from it."""

from __future__ import annotations

import argparse
import pickletools
import re
import warnings
from collections import deque
from pathlib import Path
from typing import Any

import numpy
import safetensors.torch
import torch
from torch import Tensor, nn

from rgal.core.errors import UserError
from rgal.core.files import write_atomically

_EXPECTED = "expected .safetensors, or a .pth/.pt with a state_dict, {'state_dict': ...} or {'model': ...}"

# Names to which harmless checkpoints refer too: in a message they would only hide the culprit.
_HARMLESS = ("argparse.Namespace", "collections.OrderedDict", "torch._utils.")


def load_weights(net: nn.Module, path: str | Path, classes: int | None = None) -> None:
    """Copy the weights in a file into a network, which keeps its device, dtype and mode.

    The file is safetensors, or written by `torch.save` with a bare state_dict or one under 'state_dict' or 'model',
    with or without the 'module.' prefix of DataParallel.

    Args:
        net: the network, whose state_dict must have the names and shapes of the file's.
        path: the file.
        classes: number of classes of a network with a `head_name`, so that a message can name a wrong number; or None.

    Raises:
        UserError: the file is anything but finite weights of exactly this network, which is then unchanged.
    """
    path = Path(path)
    state = _state_dict(_read(path), path)
    expected = net.state_dict()
    _check_names(state, expected, net, path)
    if classes is not None:
        _check_ends(state, net, classes, path)
    _check_tensors(state, expected, path)
    net.load_state_dict(state)


def save_weights(net: nn.Module, path: str | Path) -> None:
    """Write a network's state_dict as safetensors, readable by all. A reader sees the old file or all of the new one.

    Raises:
        UserError: the path does not end in .safetensors or cannot be written.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise UserError(f"{path}: weights are written as safetensors, expected a name ending in .safetensors")
    # Clones, because safetensors refuses tensors that share memory.
    state = {k: v.cpu().clone(memory_format=torch.contiguous_format) for k, v in net.state_dict().items()}
    data = safetensors.torch.save(state)
    try:
        write_atomically(path, data)
    except OSError as error:
        raise UserError(f"{path}: cannot write weights: {error.strerror or error}") from error


def load_table(path: str | Path, rows: int) -> Tensor:
    """Read one matrix (rows, D) of finite numbers as float32.

    The file is .npy, .safetensors, .pt or .pth, and holds nothing else.

    Raises:
        UserError: the file cannot be read or holds anything else.
    """
    path = Path(path)
    table = _read_array(path) if path.suffix == ".npy" else _read(path)
    if isinstance(table, dict) and len(table) == 1:
        (table,) = table.values()
    expected = f"expected one matrix with {rows} rows"
    if not isinstance(table, Tensor):
        kind = f"{len(table)} entries" if isinstance(table, dict) else f"a {type(table).__name__}"
        raise UserError(f"{path}: holds {kind}, {expected}")
    if table.ndim != 2 or table.shape[0] != rows or not table.shape[1]:
        raise UserError(f"{path}: holds a tensor of shape {tuple(table.shape)}, {expected}")
    if not table.is_floating_point() or table.is_sparse or not table.isfinite().all():
        raise UserError(
            f"{path}: holds {table.dtype} values of which some are not finite or no numbers, {expected}"
        )
    return table.detach().float().contiguous()


def _read_array(path: Path) -> Tensor:
    """Read a .npy file. Pickled objects in it are refused."""
    try:
        return torch.from_numpy(numpy.load(path, allow_pickle=False))
    except Exception as error:  # a damaged header can make numpy raise anything
        raise UserError(f"{path}: {_reason(error, path)}; expected a .npy file of numbers") from error


def _read(path: Path) -> Any:
    """Read whatever the file holds. Raises UserError that says why it cannot be read."""
    try:
        if not path.exists():
            raise UserError(f"{path}: no such file; {_EXPECTED}")
        if not path.is_file():
            raise UserError(
                f"{path}: is {'a directory' if path.is_dir() else 'no regular file'}; {_EXPECTED}"
            )
        if path.stat().st_size == 0:
            raise UserError(f"{path}: is empty (0 bytes); {_EXPECTED}")
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path, device="cpu")
        with warnings.catch_warnings(), torch.serialization.safe_globals([argparse.Namespace]):
            warnings.simplefilter("ignore")  # the exception that follows says the same
            return torch.load(path, map_location="cpu", weights_only=True)
    except UserError:
        raise
    except Exception as error:  # a damaged file may raise anything, see the documentation of pickle
        raise UserError(f"{path}: {_reason(error, path)}; {_EXPECTED}") from error


def _reason(error: Exception, path: Path) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read ({error.strerror})"
    text = str(error)
    refused = re.findall(r"GLOBAL (\S+) (?:was not an allowed|whose module)", text) or _globals(path)
    if refused:
        return f"refused, as reading it would call {_quoted(refused)}"
    detail = re.search(r"WeightsUnpickler error: ([^\n]+)", text) or re.search(r"[^\n]+", text)
    what = f"{type(error).__name__}: {ascii(detail[0])[1:-1][:160]}" if detail else type(error).__name__
    return f"not a checkpoint, or a damaged one ({what})"


def _globals(path: Path) -> list[str]:
    """List the code that a plain pickle refers to, without executing it: torch names none for newer protocols."""
    references: dict[str, None] = {}  # in order, without repeats
    strings: deque[str] = deque(maxlen=2)
    try:
        with path.open("rb") as file:
            for opcode, argument, _ in pickletools.genops(file):
                if opcode.name == "GLOBAL":
                    references[str(argument).replace(" ", ".")] = None
                elif opcode.name == "STACK_GLOBAL":
                    references[".".join(strings)] = None
                elif "UNICODE" in opcode.name:
                    strings.append(str(argument))
    except Exception:  # no pickle, or a truncated one: the references so far are all there are
        pass
    return [name for name in references if not name.startswith(_HARMLESS)]


def _quoted(names: list[str]) -> str:
    """Return the first two names in printable form, as a file may call its tensors anything."""
    shown = ", ".join(ascii(name[:100]) for name in names[:2])
    return shown + (", ..." if len(names) > 2 else "")


def _state_dict(loaded: Any, path: Path) -> dict[str, Tensor]:
    """Return the tensors by name, without a container and without the 'module.' prefix."""
    if isinstance(loaded, dict):
        loaded = next((loaded[k] for k in ("state_dict", "model") if isinstance(loaded.get(k), dict)), loaded)
    if not isinstance(loaded, dict) or not loaded:
        content = "an empty dict" if isinstance(loaded, dict) else f"a {type(loaded).__name__}"
        raise UserError(f"{path}: holds {content}, not a dict of tensors; {_EXPECTED}")
    for name, value in loaded.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            entry = f"{ascii(name)[:100]} is a {type(value).__name__}"
            raise UserError(f"{path}: holds a dict where {entry}, not a dict of tensors; {_EXPECTED}")
    if all(name.startswith("module.") for name in loaded):
        return {name.removeprefix("module."): value for name, value in loaded.items()}
    return dict(loaded)


def _check_names(state: dict[str, Tensor], expected: dict[str, Tensor], net: nn.Module, path: Path) -> None:
    missing = [name for name in expected if name not in state]
    unexpected = [name for name in state if name not in expected]
    if missing or unexpected:
        parts = ((missing, "missing"), (unexpected, "unexpected"))
        difference = " and ".join(f"{len(names)} {what} ({_quoted(names)})" for names, what in parts if names)
        kind = type(net).__name__
        raise UserError(
            f"{path}: holds {len(state)} tensors, {difference}; expected the {len(expected)} of this {kind}"
        )


def _check_ends(state: dict[str, Tensor], net: nn.Module, classes: int, path: Path) -> None:
    """Check the two mismatches that have a name: the number of classes and of image channels."""
    if net.head_name:
        head = f"{net.head_name}.weight"
        outputs = state[head].shape[0] if state[head].ndim else 0
        if outputs != classes:
            raise UserError(f"{path}: head '{head}' has {outputs} outputs, expected {classes} (classes)")
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d):
            first = state[f"{name}.weight"]
            if first.ndim == 4 and first.shape[1] != module.in_channels:
                actual = f"first convolution '{name}' has {first.shape[1]} input channels"
                raise UserError(f"{path}: {actual}, expected {module.in_channels}")
            return


def _check_tensors(state: dict[str, Tensor], expected: dict[str, Tensor], path: Path) -> None:
    """Check shapes, then values: a tensor of a hostile size is never read."""
    wrong = [name for name in expected if state[name].shape != expected[name].shape]
    if wrong:
        actual, wanted = (tuple(tensors[wrong[0]].shape) for tensors in (state, expected))
        first = f"'{wrong[0]}' is {actual}, expected {wanted}"
        raise UserError(f"{path}: {len(wrong)} of {len(expected)} tensors have a wrong shape, first {first}")
    for name, tensor in state.items():
        plain = tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
        if not plain or tensor.is_floating_point() != expected[name].is_floating_point():
            kind = f"{tensor.dtype} ({tensor.layout} on {tensor.device})"
            raise UserError(f"{path}: '{name}' is {kind}, expected a plain {expected[name].dtype} tensor")
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise UserError(
                f"{path}: '{name}' has values that are not finite (NaN or infinity), expected finite weights"
            )
