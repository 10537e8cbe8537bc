"""The handwritten digits that come with scikit-learn: 1,797 scans of 8x8 pixels, without a download.

They are read from scikit-learn's folder with numpy: importing its `datasets` takes two seconds of processor time.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from rgal.core.errors import UserError
from rgal.data.dataset import Decoded, ImageSet, fingerprint

FILE = Path(
    "datasets", "data", "digits.csv.gz"
)  # in scikit-learn's folder: a line a scan, 64 pixels and the digit
# Positions of the 1,297 training scans, then of the 500 test scans, in their order: what scikit-learn's
# train_test_split(range(1797), test_size=500, random_state=0, stratify=digits) returns.
SPLIT = Path(__file__).with_name("digits_split.npy")
TEST_IMAGES = 500


def read() -> Decoded:
    """Read 1,297 training and 500 test images (N,1,8,8), always in the same stratified split.

    Raises:
        UserError: scikit-learn's folder has no such file.
    """
    file = _scans_file()
    table = torch.from_numpy(np.loadtxt(file, delimiter=","))
    pixels = table[:, :-1].reshape(-1, 1, 8, 8)  # float64, 0..16
    scans = ImageSet((pixels * 255 / 16).round().to(torch.uint8), table[:, -1].to(torch.int64))
    positions = torch.from_numpy(np.load(SPLIT).astype(np.int64))
    train, test = (scans.subset(part) for part in positions.split((len(scans) - TEST_IMAGES, TEST_IMAGES)))
    return Decoded(train, test, tuple(str(digit) for digit in range(10)), fingerprint(train, test))


def _scans_file() -> Path:
    """Find the file without importing scikit-learn."""
    spec = find_spec("sklearn")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (file := Path(folder) / FILE).is_file():
            return file
    raise UserError(f"data set 'digits': found no sklearn/{FILE.as_posix()}; install scikit-learn again")
