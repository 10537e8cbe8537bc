"""What is said about the library is run: the guide, the notebook, and `help(rgal)`."""

from __future__ import annotations

import json
import pydoc
import subprocess
import sys
from pathlib import Path

import pytest

import rgal
from tests.helpers.documents import ROOT, code_blocks

CHECK = "import sys, rgal; assert not {'torch', 'numpy', 'pandas'} & set(sys.modules); print(*rgal.__all__)"


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_guide_runs(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rgal.methods import registry

    monkeypatch.setattr(registry, "_METHODS", dict(registry.methods()))
    names: dict[str, object] = {"__name__": "guide"}
    for number, source in enumerate(code_blocks("python.md")):
        short = source.replace('budget="small"', 'budget="smoke"')
        exec(compile(short, f"docs/python.md, block {number}", "exec"), names)
    for file in ("images/pool.safetensors", "images.png", "student.safetensors", "model.onnx", "run.pt"):
        assert (workplace / file).stat().st_size > 0
    assert not names["first"].finished and names["rest"].finished  # type: ignore[attr-defined]


def test_the_notebook_runs(workplace: Path) -> None:
    """Its cells, one after the other, at the budget of seconds."""
    notebook = json.loads((ROOT / "examples" / "own_network.ipynb").read_text(encoding="utf-8"))
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert 'BUDGET = "small"' in cells[0] and not any(cell.get("outputs") for cell in notebook["cells"])
    names: dict[str, object] = {"__name__": "__main__"}
    for number, source in enumerate(cells):
        short = source.replace('BUDGET = "small"', 'BUDGET = "smoke"').replace("(150, 64)", "(20, 64)")
        exec(compile(short, f"own_network.ipynb, cell {number}", "exec"), names)
    for file in ("images/pool.safetensors", "student.safetensors", "model.onnx"):
        assert (workplace / "own_network" / file).stat().st_size > 0


def test_importing_it_imports_nothing_heavy() -> None:
    done = subprocess.run([sys.executable, "-c", CHECK], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "distill" in done.stdout.split()


def test_help_reads_well() -> None:
    text = pydoc.plain(pydoc.render_doc(rgal))
    assert len(text) < 40_000
    for name in rgal._WHERE:
        assert name in text and getattr(rgal, name).__doc__, name
    assert "Train a student on images that are synthesised from the teacher" in text
    assert "state: a file that holds the state of the run" in text
    assert set(rgal._WHERE) <= set(dir(rgal))
    with pytest.raises(AttributeError, match="has no attribute 'destill'"):
        rgal.destill  # noqa: B018
