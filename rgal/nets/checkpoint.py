"""Read and write weights. A checkpoint is untrusted input: reading one never executes code from it.

`reading` reads files, `fitting` finds a network's weights in them; here they are checked and copied.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy
import safetensors.torch
import torch
from torch import Tensor, nn

from rgal.core.errors import UserError
from rgal.core.files import write_atomically
from rgal.nets.fitting import Fitted, fit, tensors_in
from rgal.nets.reading import EXPECTED, quoted, read, reason


def load_weights(net: nn.Module, path: str | Path, classes: int | None = None) -> str:
    """Copy the weights in a file into a network, which keeps its device, dtype and mode.

    The file is safetensors, or written by `torch.save`: a state_dict, bare or anywhere among other things, with or
    without a prefix, or a whole network.

    Args:
        net: the network, whose state_dict must have the names and shapes of the file's.
        path: the file.
        classes: number of classes of a network with a `head_name`, so that a message can name a wrong number; or None.

    Returns:
        What was renamed, left out or filled in, in one line; "" if nothing was.

    Raises:
        UserError: the file is anything but finite weights of exactly this network, which is then unchanged.
    """
    path = Path(path)
    fitted = _fitted(net, path)
    state, expected = fitted.state, net.state_dict()
    _check_names(state, expected, net, path)
    if classes is not None:
        _check_ends(state, net, classes, path)
    _check_tensors(state, expected, path)
    net.load_state_dict(state)
    return "; ".join(fitted.notes)


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
    table = _read_array(path) if path.suffix == ".npy" else read(path)
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
        raise UserError(f"{path}: {reason(error, path)}; expected a .npy file of numbers") from error


def _fitted(net: nn.Module, path: Path) -> Fitted:
    """Find the weights of a network in a file. Raises UserError if the file holds no tensors."""
    loaded = read(path)
    found = tensors_in(loaded)
    if not found:
        raise UserError(f"{path}: holds {_kind(loaded)}, no tensor in it; {EXPECTED}")
    return fit(found, net.state_dict())


def _kind(loaded: Any) -> str:
    """Describe what a file holds, and of a dict its first entry."""
    if not isinstance(loaded, dict):
        return f"a {type(loaded).__name__}"
    if not loaded:
        return "an empty dict"
    name, value = next(iter(loaded.items()))
    return f"a dict where {ascii(name)[:100]} is a {type(value).__name__}"


def _check_names(state: dict[str, Tensor], expected: dict[str, Tensor], net: nn.Module, path: Path) -> None:
    missing = [name for name in expected if name not in state]
    unexpected = [name for name in state if name not in expected]
    if missing or unexpected:
        parts = ((missing, "missing"), (unexpected, "unexpected"))
        difference = " and ".join(f"{len(names)} {what} ({quoted(names)})" for names, what in parts if names)
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
