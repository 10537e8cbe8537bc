"""Checkpoints: what loads, what is saved, and what is refused in one line with the net unchanged."""

from __future__ import annotations

import argparse
import io
import os
import pickle
import re
import stat
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from rgal import nets
from rgal.core.errors import UserError
from rgal.nets.checkpoint import load_weights, save_weights
from tests.helpers.net_builders import small


def prefixed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return OrderedDict((f"module.{name}", value) for name, value in state.items())


def published(state: dict[str, Tensor]) -> dict[str, Any]:
    """What the official drivers save, their argparse.Namespace and optimiser included."""
    weight = nn.Parameter(torch.zeros(2))
    optimiser = torch.optim.SGD([weight], 0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 10)
    return {
        "epoch": 3,
        "arch": "wrn10_1",
        "args": argparse.Namespace(lr=0.1, tag="x"),
        "best_acc1": 94.87,
        "state_dict": state,
        "optimizer": optimiser.state_dict(),
        "scheduler": scheduler.state_dict(),
    }


FORMS: dict[str, Callable[[dict[str, Tensor]], Any]] = {
    "bare": lambda s: s,
    "bare dict of parameters": lambda s: {
        k: nn.Parameter(v) if v.is_floating_point() else v for k, v in s.items()
    },
    "state_dict": lambda s: {"state_dict": s},
    "model": lambda s: {"epoch": 1, "model": s, "best_acc": torch.tensor(1.0)},
    "module.": prefixed,
    "state_dict and module.": lambda s: {"state_dict": prefixed(s)},
    "published": published,
    "half": lambda s: {k: v.half() if v.is_floating_point() else v for k, v in s.items()},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("suffix", [".pth", ".pt", " legacy.pth"])
def test_every_accepted_form_loads(form: str, suffix: str, tmp_path: Path) -> None:
    source, net = small(1), small(2)
    path = tmp_path / f"net{suffix}"
    torch.save(FORMS[form](source.state_dict()), path, _use_new_zipfile_serialization="legacy" not in suffix)
    load_weights(net, path, 10)
    for name, value in source.state_dict().items():
        value = value.half().float() if form == "half" and value.is_floating_point() else value
        assert torch.equal(net.state_dict()[name], value), name
    assert not net.training and net.conv1.weight.dtype == torch.float32
    assert argparse.Namespace not in torch.serialization.get_safe_globals()


@pytest.mark.parametrize("prefix", ["", "module."])
def test_foreign_safetensors_load(prefix: str, tmp_path: Path) -> None:
    source, net = small(1), small(2)
    state = {prefix + k: v for k, v in source.state_dict().items()}
    safetensors.torch.save_file(state, tmp_path / "a.safetensors")
    load_weights(net, str(tmp_path / "a.safetensors"), 10)
    assert all(torch.equal(v, net.state_dict()[k]) for k, v in source.state_dict().items())


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_saved_weights_come_back_bit_for_bit(layout: torch.memory_format, tmp_path: Path) -> None:
    source, net = small(1), small(2)
    source.to(memory_format=layout)
    source.block1.layer[0].conv2.weight = source.block1.layer[0].conv1.weight  # shared, as tied weights are
    path = tmp_path / "a.safetensors"
    path.write_text("older")
    old_mask = os.umask(0o077)
    try:
        save_weights(source, path)
    finally:
        os.umask(old_mask)
    load_weights(net, path, 10)
    assert all(torch.equal(v, net.state_dict()[k]) for k, v in source.state_dict().items())
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert os.listdir(tmp_path) == ["a.safetensors"]


def test_saving_is_durable_before_it_is_visible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace

    def noted_fsync(handle: int) -> None:
        assert os.fstat(handle).st_size > 100_000
        calls.append("fsync")
        fsync(handle)

    def noted_replace(source: str, target: Path) -> None:
        assert Path(source).parent == target.parent
        calls.append("replace")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    save_weights(small(1), tmp_path / "a.safetensors")
    assert calls[:2] == ["fsync", "replace"]


def test_a_failed_save_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.safetensors"
    path.write_text("older")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"a\.safetensors: cannot write weights: No space left on device$"):
        save_weights(small(1), path)
    assert path.read_text() == "older" and os.listdir(tmp_path) == ["a.safetensors"]


def test_saving_to_a_wrong_place_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot write weights: No such file or directory"):
        save_weights(small(1), tmp_path / "none" / "a.safetensors")
    with pytest.raises(UserError, match=r"a\.pth: .* expected a name ending in \.safetensors"):
        save_weights(small(1), tmp_path / "a.pth")


def refused(path: Path, classes: int = 10, channels: int = 3) -> str:
    """The one-line message of loading `path` into a net, which must stay as it was."""
    net = small(5, classes, channels)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    with pytest.raises(UserError) as caught:
        load_weights(net, path, classes)
    message = str(caught.value)
    assert message.startswith(f"{path}: "[:180]) and "expected" in message
    assert len(message.splitlines()) == 1 and message.isprintable() and len(message) <= 290
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    return message


def test_what_is_no_file(tmp_path: Path) -> None:
    assert "no such file" in refused(tmp_path / "none.pth")
    assert "is a directory" in refused(tmp_path)
    os.mkfifo(tmp_path / "pipe.pth")
    assert "is no regular file" in refused(tmp_path / "pipe.pth")
    assert "too long" in refused(tmp_path / ("x" * 300))


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save(small(1).state_dict(), path)
    path.chmod(0)
    assert "Permission denied" in refused(path)


@pytest.mark.parametrize("suffix", [".pth", " legacy.pth", ".safetensors"])
@pytest.mark.parametrize("kept", [0.0, 0.001, 0.5, 0.999])
def test_truncated_files(suffix: str, kept: float, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    if suffix == ".safetensors":
        safetensors.torch.save_file(small(1).state_dict(), path)
    else:
        torch.save(small(1).state_dict(), path, _use_new_zipfile_serialization="legacy" not in suffix)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    assert ("is empty (0 bytes)" if kept == 0 else "not a checkpoint, or a damaged one") in refused(path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    "data", [b"<html>\nnot found</html>", b"\x00" * 500, b"\xff" * 500, b"PK\x03\x04" + b"a" * 99]
)
def test_files_of_another_kind(suffix: str, data: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(data)
    assert "not a checkpoint, or a damaged one" in refused(path)


def test_torchscript_is_refused_in_one_line_and_without_warning(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    path = tmp_path / "a.pth"
    torch.save(small(1).state_dict(), path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("a/constants.pkl", b"")  # how torch tells the two apart
    assert "TorchScript" in refused(path)
    assert not recwarn.list


class Bomb:
    """Unpickling this creates a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.target}'",)


class Eval:
    """Unpickling this creates a file too, by a module that torch does not block."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return eval, (f"open({str(self.target)!r}, 'w').close()",)


def bomb_bytes(how: str, content: Any) -> bytes:
    if how.startswith("pickle"):
        return pickle.dumps(content, protocol=int(how[-1]))
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=how == "zip")
    return buffer.getvalue()


@pytest.mark.parametrize("how", ["zip", "legacy", "pickle0", "pickle2", "pickle4", "pickle5"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("place", ["bare", "value", "namespace"])
def test_code_in_a_checkpoint_is_not_executed(
    how: str, suffix: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")  # torch's own back door stays shut
    target, path = tmp_path / "executed", tmp_path / f"a{suffix}"
    bomb = Bomb(target)
    content = {"bare": bomb, "value": {"model": {"x": bomb}}, "namespace": argparse.Namespace(x=bomb)}[place]
    path.write_bytes(bomb_bytes(how, content))
    message = refused(path)
    assert not target.exists()
    if how in ("zip", "legacy") and suffix == ".safetensors":
        return  # the file does not start with the pickle, which is therefore not looked for
    assert f"refused, as reading it would call '{os.system.__module__}.system'" in message


def test_the_bomb_is_live(tmp_path: Path) -> None:
    pickle.loads(bomb_bytes("pickle2", Bomb(tmp_path / "executed")))
    assert (tmp_path / "executed").exists()


def test_what_is_beside_the_weights_is_inert(tmp_path: Path) -> None:
    """A function that reading would call is a placeholder, unless torch blocks its module."""
    net = small(2)
    content = published(small(1).state_dict()) | {"args": argparse.Namespace(where=Path("x"))}
    content["bomb"] = Eval(tmp_path / "executed")
    torch.save(content, tmp_path / "a.pth")
    load_weights(net, tmp_path / "a.pth", 10)
    assert not (tmp_path / "executed").exists()
    assert torch.equal(net.fc.weight, small(1).fc.weight)
    assert all("Placeholder" not in str(allowed) for allowed in torch.serialization.get_safe_globals())
    pickle.loads(pickle.dumps(content["bomb"]))
    assert (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ([torch.zeros(2)], "holds 1 tensors"),
        (torch.zeros(2), "holds a Tensor, no tensor in it"),
        (argparse.Namespace(model={}), "holds a dict where 'model' is a dict, no tensor in it"),
        ({}, "holds an empty dict, no tensor in it"),
        ({"state_dict": {}}, "'state_dict' is a dict, no tensor in it"),
        ({"epoch": 3}, "'epoch' is a int, no tensor in it"),
        ({"state_dict": 3}, "'state_dict' is a int, no tensor in it"),
        ({"model": {"conv1.weight": [1.0]}}, "'model' is a dict, no tensor in it"),
        ({1: torch.zeros(2)}, "1 is a Tensor, no tensor in it"),
        ({"a\n\x1b[31mb" * 99: 0}, "'a\\n\\x1b[31mb"),
        ({"a\n\x1b[31mb" * 99: torch.zeros(2)}, "'a\\n\\x1b[31mb"),
    ],
)
def test_what_is_no_dict_of_tensors(content: Any, kind: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "a.pth")
    assert kind in refused(tmp_path / "a.pth")


def altered(path: Path, change: Callable[[dict[str, Tensor]], object], classes: int = 10) -> Path:
    state = small(1, classes).state_dict()
    change(state)
    torch.save({"state_dict": state}, path)
    return path


def test_missing_and_unexpected_tensors(tmp_path: Path) -> None:
    def change(state: dict[str, Tensor]) -> None:
        for name in ("fc.weight", "bn1.bias", "conv1.weight"):
            del state[name]
        state["head.weight"] = torch.zeros(1)

    total = len(small(1).state_dict())
    message = refused(altered(tmp_path / "a.pth", change))
    assert f"holds {total - 2} tensors" in message
    assert "3 missing ('conv1.weight', 'bn1.bias', ...) and 1 unexpected ('head.weight')" in message
    assert message.endswith(f"expected the {total} of this WideResNet")
    one = refused(altered(tmp_path / "b.pth", lambda s: s.pop("fc.bias")))
    assert one.endswith(
        f"holds {total - 1} tensors, 1 missing ('fc.bias'); expected the {total} of this WideResNet"
    )
    torch.save(nets.build("resnet8", 10).state_dict(), tmp_path / "c.pth")
    assert re.search(r"\d+ missing .* and \d+ unexpected", refused(tmp_path / "c.pth"))


def test_a_tensor_that_is_there_under_two_names_is_not_guessed_at(tmp_path: Path) -> None:
    path = altered(tmp_path / "a.pth", lambda s: s.update({"module.conv1.weight": s["conv1.weight"] + 1}))
    assert "1 unexpected ('module.conv1.weight')" in refused(path)


def test_wrong_number_of_classes(tmp_path: Path) -> None:
    path = altered(tmp_path / "a.pth", lambda s: None, classes=100)
    assert refused(path).endswith("head 'fc.weight' has 100 outputs, expected 10 (classes)")


def test_wrong_number_of_image_channels(tmp_path: Path) -> None:
    path = altered(tmp_path / "a.pth", lambda s: None)
    assert refused(path, channels=1).endswith("first convolution 'conv1' has 3 input channels, expected 1")


def test_wrong_shapes(tmp_path: Path) -> None:
    torch.save(nets.build("wrn10_2", 10).state_dict(), tmp_path / "wide.pth")
    assert "1 unexpected ('block1.layer.0.convShortcut.weight')" in refused(tmp_path / "wide.pth")
    path = altered(
        tmp_path / "a.pth", lambda s: s.update({"bn1.bias": torch.zeros(3), "fc.bias": torch.zeros(1)})
    )
    total = len(small(1).state_dict())
    assert refused(path).endswith(
        f"2 of {total} tensors have a wrong shape, first 'bn1.bias' is (3,), expected (64,)"
    )
    scalar = altered(tmp_path / "b.pth", lambda s: s.update({"fc.weight": torch.tensor(1.0)}))
    assert "'fc.weight' has 0 outputs" in refused(scalar)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite(value: float, tmp_path: Path) -> None:
    def change(state: dict[str, Tensor]) -> None:
        state["block2.layer.0.bn1.running_var"][3] = value
        state["fc.bias"][0] = value

    path = altered(tmp_path / "a.pth", change)
    assert "'block2.layer.0.bn1.running_var' has values that are not finite" in refused(path)


@pytest.mark.parametrize(
    "convert",
    [
        lambda w: w.to(torch.int8),
        lambda w: w.to_sparse(),
        lambda w: w.to("meta"),
        lambda w: w.to(torch.complex64),
    ],
)
def test_tensors_of_another_kind(convert: Callable[[Tensor], Tensor], tmp_path: Path) -> None:
    path = altered(tmp_path / "a.pth", lambda s: s.update({"fc.weight": convert(s["fc.weight"])}))
    assert "'fc.weight' is torch." in refused(path) and "expected a plain torch.float32 tensor" in refused(
        path
    )
