"""Checkpoints as other projects write them: all of these are one network, and load, with a line on what was done."""

from __future__ import annotations

import argparse
import copy
import io
import pickle
import re
import zipfile
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

import numpy
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from rgal.core.errors import UserError
from rgal.nets.checkpoint import load_weights, save_weights
from tests.helpers.net_builders import small

State = dict[str, Tensor]


def under(prefix: str, state: State) -> State:
    return OrderedDict((prefix + name, value) for name, value in state.items())


def inside(state: State) -> State:
    """DataParallel around a part of the network, as the ImageNet example of PyTorch has it for AlexNet and VGG."""
    return {
        n.replace("block2.", "block2.module.") if n.startswith("block2") else n: v for n, v in state.items()
    }


def averaged(state: State) -> State:
    return {n: v + 1 if v.is_floating_point() else v for n, v in state.items()}


def optimiser(state: State) -> dict[str, Any]:
    parameters = [nn.Parameter(v.clone()) for v in state.values() if v.is_floating_point()]
    adam = torch.optim.AdamW(parameters)
    sum(p.sum() for p in parameters).backward()
    adam.step()
    return adam.state_dict()


def lightning(state: State) -> dict[str, Any]:
    return {
        "epoch": 3,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": under("model.", state)
        | {"criterion.weight": torch.ones(10), "top1.total": torch.tensor(3)},
        "loops": {"fit_loop": {"state_dict": {}}},
        "callbacks": {"ModelCheckpoint{'monitor': 'top1'}": {"best_model_score": torch.tensor(0.9)}},
        "optimizer_states": [optimiser(state)],
        "hyper_parameters": argparse.Namespace(
            lr=numpy.float64(0.1), where=PurePosixPath("/data"), when=datetime(2026, 1, 2)
        ),
    }


def profiled(state: State) -> State:
    layers = {n.rpartition(".")[0] for n in state}
    counts = {
        f"{layer}.{kind}": torch.zeros(1, dtype=torch.float64)
        for layer in layers
        for kind in ("total_ops", "total_params")
    }
    return {**state, "total_ops": torch.zeros(1), "total_params": torch.zeros(1), **counts}


def without_counters(state: State) -> State:
    return {n: v for n, v in state.items() if not n.endswith("num_batches_tracked")}


FORMS: dict[str, tuple[Callable[[State], Any], str]] = {
    "bare": (lambda s: s, ""),
    "state_dict": (lambda s: {"epoch": 3, "state_dict": s}, "state_dict.conv1.weight"),
    "model": (lambda s: {"model": s, "best": torch.tensor(1.0)}, "left out 'best'"),
    "net, as in the CIFAR tutorial": (lambda s: {"net": under("module.", s), "acc": 95.4, "epoch": 9}, "net.module."),
    "model_state_dict beside an optimiser": (
        lambda s: {"model_state_dict": s, "optimizer_state_dict": optimiser(s), "loss": numpy.float32(0.1)},
        "model_state_dict.conv1.weight",
    ),
    "an average of weights": (
        lambda s: {"state_dict": averaged(s), "state_dict_ema": s, "arch": "x"}, "left out 'state_dict'",
    ),
    "module.": (lambda s: under("module.", s), "module.conv1.weight"),
    "torch.compile": (lambda s: under("_orig_mod.", s), "_orig_mod.conv1.weight"),
    "both": (lambda s: {"state_dict": under("_orig_mod.module.", s)}, "state_dict._orig_mod.module.conv1.weight"),
    "DataParallel of a part": (inside, "block2.module."),
    "Lightning": (lightning, "left out 'state_dict', 'callbacks'"),
    "Lightning, compiled": (lambda s: {"state_dict": under("model._orig_mod.", s)}, "state_dict.model._orig_mod."),
    "a profiler's counts": (profiled, "counts of a profiler"),
    "no num_batches_tracked": (without_counters, "batch norms have no num_batches_tracked, set to 0"),
    "an averaged model of torch": (
        lambda s: {"n_averaged": torch.tensor(5), **under("module.", s)}, "left out 'n_averaged'",
    ),
    "numpy's numbers, a namespace, queues, sets": (
        lambda s: {
            "model": s, "args": argparse.Namespace(where=Path("x"), at={1, 2}), "top1": numpy.float64(94.2),
            "losses": deque([1.0, 2.0], maxlen=3), "by": defaultdict(list, a=[1]), "table": numpy.ones((2, 2)),
        },
        "model.conv1.weight",
    ),
    "in a list": (lambda s: [3, s, None], "1.conv1.weight"),
    "deep inside": (lambda s: {"a": {"b": {"student": {"weights": s}}}}, "a.b.student.weights.conv1.weight"),
    "parameters": (lambda s: {n: nn.Parameter(v) if v.is_floating_point() else v for n, v in s.items()}, ""),
    "half": (lambda s: {n: v.half() if v.is_floating_point() else v for n, v in s.items()}, ""),
    "float64": (lambda s: {n: v.double() if v.is_floating_point() else v for n, v in s.items()}, ""),
    "a whole network": (lambda s: loaded(s), ""),
    "a whole network beside others": (
        lambda s: {"ema": None, "model": nn.DataParallel(loaded(s)), "opt": nn.Linear(2, 2)}, "model.module.",
    ),
    "parts": (
        lambda s: {"body": {n: v for n, v in s.items() if not n.startswith("fc")},
                   "head": {n: v for n, v in s.items() if n.startswith("fc")}}, "refused",
    ),
}  # fmt: skip


def loaded(state: State) -> nn.Module:
    net = small(7)
    net.load_state_dict(state)
    return net


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_forms_of_one_network(form: str, legacy: bool, tmp_path: Path) -> None:
    source, net = small(1), small(2)
    make, said = FORMS[form]
    path = tmp_path / "net.pth.tar"
    torch.save(make(copy.deepcopy(source.state_dict())), path, _use_new_zipfile_serialization=not legacy)
    if legacy and form.startswith("a whole network"):
        with pytest.raises(
            UserError, match=r"a whole network in the format before torch 1.6; write its state_dict"
        ):
            load_weights(net, path, 10)
        return
    if said == "refused":
        with pytest.raises(UserError, match=r"net.pth.tar: holds \d+ tensors, 2 missing"):
            load_weights(net, path, 10)
        return
    note = load_weights(net, path, 10)
    assert said in note and bool(said) == bool(note) and len(note.splitlines()) < 2 and len(note) < 400
    for name, value in source.state_dict().items():
        value = value.half().float() if form == "half" and value.is_floating_point() else value
        assert torch.equal(net.state_dict()[name], value), name


class Module(nn.Module):
    """A network whose own part is called as DataParallel calls its own."""

    def __init__(self) -> None:
        super().__init__()
        self.module = small(3)
        self.head_name = ""


@pytest.mark.parametrize("prefix", ["", "module.", "state_dict.module."])
def test_a_network_with_an_attribute_called_module(prefix: str, tmp_path: Path) -> None:
    source, net = Module(), Module()
    for value in net.state_dict().values():
        value.zero_()
    if prefix:
        safetensors.torch.save_file(under(prefix, source.state_dict()), tmp_path / "a.safetensors")
    else:
        save_weights(source, tmp_path / "a.safetensors")
    note = load_weights(net, tmp_path / "a.safetensors")
    assert bool(note) == bool(prefix)
    assert all(torch.equal(v, net.state_dict()[n]) for n, v in source.state_dict().items())


def test_a_network_in_a_wrapper_takes_the_weights_of_what_it_wraps(tmp_path: Path) -> None:
    inner, net = small(1), Module()
    save_weights(inner, tmp_path / "a.safetensors")
    assert re.search(r"'(.+)' as 'module\.\1'", load_weights(net, tmp_path / "a.safetensors"))
    assert torch.equal(net.module.fc.weight, inner.fc.weight)


def test_safetensors_under_another_name(tmp_path: Path) -> None:
    safetensors.torch.save_file(small(1).state_dict(), tmp_path / "model.bin")
    assert load_weights(small(2), tmp_path / "model.bin", 10) == ""


def write_script(path: Path) -> None:
    torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)).save(path)


def write_program(path: Path) -> None:
    torch.export.save(torch.export.export(nn.Linear(2, 2), (torch.zeros(1, 2),)), path)


def write_newer_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps({"a": 1}, protocol=4))


def write_archive(path: Path) -> None:
    numpy.savez(path.open("wb"), a=numpy.ones(2))


def write_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "no weights")


def write_arrays(path: Path) -> None:
    torch.save({name: value.numpy() for name, value in small(1).state_dict().items()}, path)


def write_buffer(path: Path) -> None:
    torch.save(io.BytesIO(b"x"), path)


REFUSED: dict[str, tuple[Callable[[Path], None], str]] = {
    "a.pt": (write_script, r"TorchScript archive.*torch\.jit\.load\(FILE\)\.state_dict\(\)"),
    "a.pt2": (write_program, r"program of torch\.export.*torch\.export\.load\(FILE\)\.state_dict"),
    "newer.pkl": (write_newer_pickle, "is a pickle of protocol 4; write it again"),
    "a.npz": (write_archive, "is an archive of numpy"),
    "a.zip": (write_zip, "not a checkpoint, or a damaged one"),
    "arrays.pth": (write_arrays, "holds .*no tensor in it"),
    "buffer.pth": (write_buffer, "holds .*no tensor in it"),
    "a.h5": (lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + b"0" * 99) and None, "is an HDF5 file"),
    "a.onnx": (lambda path: path.write_bytes(b"\x08\x0a" * 99) and None, "is an ONNX graph"),
    "model.safetensors.index.json": (lambda path: path.write_text("{}") and None, "weights in several files"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.filterwarnings("ignore")
def test_what_is_no_checkpoint_is_refused_with_a_way_on(name: str, tmp_path: Path) -> None:
    write, said = REFUSED[name]
    write(tmp_path / name)
    with pytest.raises(UserError, match=said) as caught:
        load_weights(small(1), tmp_path / name, 10)
    assert len(str(caught.value).splitlines()) == 1


def test_weights_of_another_network_name_what_does_not_fit(tmp_path: Path) -> None:
    torch.save({"state_dict": {"features.0.weight": torch.zeros(2, 2)}, "epoch": 3}, tmp_path / "a.pth")
    with pytest.raises(
        UserError, match=r"holds 1 tensors, .* missing .* and 1 unexpected \('state_dict.features"
    ):
        load_weights(small(1), tmp_path / "a.pth", 10)
