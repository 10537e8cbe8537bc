"""Files that cannot be written."""

from __future__ import annotations

from pathlib import Path

import pytest

from rgal.core.errors import UserError
from rgal.tasks.quantization.onnx_file import write_model
from tests.helpers.onnx_builders import onnx


@pytest.mark.parametrize("where", ["missing/a.onnx", "."])
def test_path_that_cannot_be_written(where: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r": cannot write the exported model: [^\n]+$"):
        write_model(onnx.ModelProto(), tmp_path / where)
    assert not list(tmp_path.iterdir())
