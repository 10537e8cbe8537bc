"""Given teachers: which weights file is that of a network."""

from __future__ import annotations

import re
from pathlib import Path

from rgal.core.errors import UserError

SUFFIXES = (".safetensors", ".pth", ".pt")


def weights_of(given: str, net: str) -> Path:
    """Find the weights of a network: the file that was given, or in a folder the one that is called as the network.

    Args:
        given: path of a file, or of a folder.
        net: the network's name, such as "resnet18" or "torchvision:resnet18", whose file is resnet18.pth or has a hash
            behind the name, as in torchvision's downloads: resnet18-f37072fd.pth.

    Raises:
        UserError: the folder has no such file, or several.
    """
    path = Path(given)
    if not path.is_dir():
        return path
    stem = net.rpartition(":")[2]
    name = re.compile(rf"{re.escape(stem)}(-[0-9a-f]{{8,}})?")
    files = sorted(one for one in path.iterdir() if one.suffix in SUFFIXES and name.fullmatch(one.stem))
    if len(files) != 1:
        there = " and ".join(one.name for one in files) or "none"
        raise UserError(
            f"--teacher-weights {path}: expected one file of network '{net}', {stem}.safetensors, {stem}.pth or "
            f"{stem}-HASH.pth, found {there}"
        )
    return files[0]
