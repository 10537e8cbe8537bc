"""Methods, data sets and networks from outside: named files and installed packages."""

from __future__ import annotations

import gc
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from rgal import cli, data
from rgal.core.errors import UserError
from rgal.data.sources import Splits
from rgal.methods import plugins
from tests import conftest
from tests.helpers.documents import code_blocks
from tests.helpers.suites import SUITE as DIGITS

pytestmark = pytest.mark.usefixtures("no_report", "no_pictures", "nothing_stays")

ROOT = Path(cli.__file__).parents[1]
SUITE = (
    DIGITS.replace("dataset: digits", "dataset: bars")
    .replace("teacher: wrn10_1", "teacher: tiny")
    .replace("student: resnet8", "student: tiny")
    .replace("[plain]", "[confident, confident+rgal]")
)
METHOD = """
from rgal.methods.recipe import Recipe
from rgal.methods.registry import method
from rgal.synthesis.pixels import Noise
@method("NAME", reference="a test")
def recipe(x: float = 1.0) -> Recipe:
    return Recipe(images=Noise())
"""


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """The file of the documentation, and a suite for it."""
    path = tmp_path / "mine.py"
    path.write_text(code_blocks("plugins.md")[0])
    (tmp_path / "suite.yaml").write_text(SUITE)
    return path


def call(example: Path, *arguments: str, jobs: str = "0") -> int:
    fixed = ["--suite", str(example.parent / "suite.yaml"), "--results", str(example.parent / "r")]
    return cli.main([*fixed, "--jobs", jobs, *arguments])


def records(example: Path, name: str) -> list[dict[str, Any]]:
    return [
        json.loads(p.read_text()) for p in sorted((example.parent / "r" / "trials").glob(f"*/{name}.json"))
    ]


@pytest.mark.workers
def test_the_documented_plugin_runs_in_workers(example: Path) -> None:
    """Method, data set and network of one file, in processes of their own."""
    assert call(example, "--plugin", str(example), jobs="1") == 0
    assert [r["status"] for r in records(example, "result")] == ["finished", "finished"]
    assert all(r["settings"]["plugins"] == [str(example)] for r in records(example, "trial"))


def test_a_suite_names_its_plugins(example: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (example.parent / "suite.yaml").write_text(SUITE + "plugins: [mine.py]\n")
    monkeypatch.chdir(example.parent)
    assert call(example) == 0
    assert records(example, "trial")[0]["settings"]["plugins"] == [str(example)]


def test_the_documented_plugin_brings_its_budget(example: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (example.parent / "suite.yaml").write_text(SUITE.replace("smoke", "small"))
    assert call(example, "--plugin", str(example), "--dry-run") == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if " seed " in line]
    assert len(rows) == 2 and all("120 synthesis steps" in row for row in rows)
    assert all(row.endswith("budget small of the method") for row in rows)


def test_edited_code_is_another_trial(example: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An edit of a comment is not, and methods elsewhere keep their keys."""

    def keys(name: str) -> set[str]:
        capsys.readouterr()
        assert call(example, "--plugin", str(example), "--dry-run", "--methods", name) == 0
        return {line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]}

    mine = keys("confident")
    text = example.read_text()
    example.write_text(text.replace("def entropy", "# a remark\n\ndef entropy"))
    assert keys("confident") == mine
    example.write_text(text.replace("log_softmax(1)", "mul(2).log_softmax(1)"))
    assert keys("confident") != mine


def test_keys_of_our_methods_do_not_depend_on_plugins(
    example: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = [
        "--dataset",
        "digits",
        "--teacher",
        "wrn10_1",
        "--student",
        "resnet8",
        "--methods",
        "cmi",
        "--dry-run",
    ]
    assert call(example, *ours) == 0
    alone = capsys.readouterr().out
    assert call(example, *ours, "--plugin", str(example)) == 0
    assert capsys.readouterr().out == alone


def test_all_includes_them(example: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(example, "--plugin", str(example), "--dry-run", "--methods", "all", "all+rgal") == 0
    names = [line.split()[1] for line in capsys.readouterr().out.splitlines()[1:]]
    assert {"confident", "confident+rgal", "cmi", "cmi+rgal"} <= set(names)
    assert not {"rgal+rgal", "scratch+rgal"} & set(names)
    assert len(names) == len(set(names))


def test_lists_show_them(example: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for what, name in (("methods", "confident"), ("datasets", "bars"), ("nets", "tiny")):
        assert cli.main(["--plugin", str(example), "--list", what]) == 0
        assert name in capsys.readouterr().out


BAD = {
    "missing": (None, "no such file"),
    "empty": ("", "registers nothing"),
    "syntax": ("x = 1\ndef f(:\n", "SyntaxError in line 2"),
    "failing": ("x = 1\n\nraise RuntimeError('no luck')\n", "RuntimeError in line 3: no luck"),
    "import": (
        "import no_such_package\n",
        "ModuleNotFoundError in line 1: No module named 'no_such_package'",
    ),
    "method name": (METHOD.replace("NAME", "cmi"), "a method 'cmi' exists already, in rgal.baselines.cmi"),
    "data name": (
        "from rgal.data import data_source\n@data_source('cifar10')\ndef f(root): pass\n",
        "rgal's own",
    ),
    "net name": ("from rgal.nets import net\n@net('wrn16_1')\ndef f(a, b, c): pass\n", "rgal's own"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_one_line(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, expected = BAD[case]
    if source is not None:
        (tmp_path / "bad.py").write_text(source)
    assert cli.main(["--plugin", str(tmp_path / "bad.py"), "--list", "methods"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: --plugin ") and expected in line


def test_a_folder_or_other_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "x.txt"):
        with pytest.raises(UserError, match="expected a Python file"):
            plugins.load_plugins([str(path)])


def test_two_files_may_not_share_a_name(tmp_path: Path) -> None:
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text(METHOD.replace("NAME", "mine"))
    plugins.load_plugins([str(tmp_path / "a.py")])
    with pytest.raises(UserError, match="a method 'mine' exists already"):
        plugins.load_plugins([str(tmp_path / "b.py")])
    plugins.load_plugins([str(tmp_path / "a.py")])  # the same again is no second one
    assert plugins.from_files() == ["mine"]


def splits(**changes: Any) -> Splits:
    image, label = torch.zeros(4, 1, 8, 8, dtype=torch.uint8), torch.arange(4) % 2
    fields = {"train_images": image, "train_labels": label, "test_images": image, "test_labels": label}
    return Splits(**(fields | changes))


BAD_DATA = {
    "kind": (None, "returned a NoneType"),
    "float": (splits(train_images=torch.zeros(4, 1, 8, 8)), "training split: images are float32"),
    "channels": (splits(test_images=torch.zeros(4, 2, 8, 8, dtype=torch.uint8)), "1 or 3 channels"),
    "none": (splits(test_images=torch.zeros(0, 1, 8, 8, dtype=torch.uint8)), "at least one"),
    "labels": (splits(test_labels=torch.zeros(3, dtype=torch.int64)), "labels are int64 (3,)"),
    "fractions": (splits(test_labels=torch.zeros(4)), "labels are float32"),
    "negative": (splits(train_labels=torch.tensor([0, 1, -1, 0])), "found label -1"),
    "gap": (splits(train_labels=torch.tensor([0, 2, 0, 2])), "class 1 has no training image"),
}


@pytest.mark.parametrize("case", BAD_DATA)
def test_bad_data_is_one_line(case: str) -> None:
    value, expected = BAD_DATA[case]
    data.data_source("bad")(lambda root: value)
    with pytest.raises(UserError) as caught:
        data.load("bad")
    assert expected in str(caught.value) and "\n" not in str(caught.value)


def test_data_is_as_registered(tmp_path: Path) -> None:
    roots = []
    data.data_source("two", mean=(0.1,), std=(0.2,), flip=False)(lambda root: roots.append(root) or splits())
    loaded = data.load("two", tmp_path, size=4)
    assert roots == [tmp_path] and loaded.spec.shape == (1, 4, 4)
    assert (loaded.spec.mean, loaded.spec.std, loaded.spec.flip) == ((0.1,), (0.2,), False)
    data.data_source("colour", mean=(0.1,), std=(0.2,))(
        lambda root: splits(
            train_images=torch.zeros(4, 3, 8, 8, dtype=torch.uint8),
            test_images=torch.zeros(4, 3, 8, 8, dtype=torch.uint8),
        )
    )
    with pytest.raises(UserError, match="found 3 channels, expected 1"):
        data.load("colour")


def install(folder: Path, package: str, source: str) -> None:
    (folder / f"{package}.py").write_text(source)
    metadata = folder / f"{package}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[rgal.methods]\n{package} = {package}\n")


@pytest.mark.workers
def test_installed_packages_need_no_flag(
    example: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the workers too; a broken one is left out with a line."""
    install(example.parent, "my_dfkd", example.read_text())
    install(example.parent, "broken_dfkd", "import no_such_package")
    monkeypatch.syspath_prepend(example.parent)
    plugins._load_installed.cache_clear()
    try:
        assert call(example, "--methods", "confident", jobs="1") == 0
    finally:
        plugins._load_installed.cache_clear()
        sys.modules.pop("my_dfkd", None)
    assert [r["status"] for r in records(example, "result")] == ["finished"]
    warnings = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert (
        len(warnings) == 1 and "'broken_dfkd' of broken_dfkd is left out: ModuleNotFoundError" in warnings[0]
    )


VIOLATIONS = """
import numpy as np
from rgal.methods.recipe import Recipe, Rounds
from rgal.methods.registry import method
from rgal.synthesis.pixels import Pixels
from rgal.synthesis.views import identity
from rgal.terms.inversion import one_hot
from rgal.terms.objective import Reads, stateless
from rgal.terms.transfer import distillation

def recipe(*term):
    return Recipe(
        images=Pixels(), views={"global": identity}, transfer=(distillation(), *term), rounds=Rounds(2, 2, 2),
        synthesis=(one_hot(1.0),),
    )

@method("global_dice", reference="a test")
def global_dice():
    dice = lambda ctx: np.random.rand() * ctx.of("student").logits[:, 0].mean()
    return recipe(stateless("x", 1.0, dice, Reads("student")))

@method("no_reference", reference="")
def no_reference():
    return recipe()
"""


def test_a_plugin_cannot_end_the_process(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "ends.py"
    path.write_text("import sys\n\nsys.exit(0)\n")
    assert cli.main(["--plugin", str(path), "--methods", "plain", "--dry-run"]) == 2
    assert "SystemExit in line 3" in capsys.readouterr().err


def test_contracts_say_in_words_what_a_plugin_violates(
    example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.py").write_text(VIOLATIONS)
    files = [f"--plugin={file}" for file in (example, tmp_path / "bad.py")]
    held = ["tests/contracts/test_contract.py", "-k", "not no_reference or declaration"]
    apart = [f"-pno:{name}" for name in ("cacheprovider", "xdist", "faulthandler")]
    monkeypatch.chdir(ROOT)
    monkeypatch.delitem(sys.modules, "tests.contracts.test_contract", raising=False)  # of other methods
    code = pytest.main([*held, *files, *apart, "--capture=no"])
    gc.freeze()  # which that run, like every other, undid at its end
    told = capsys.readouterr().out
    assert code == pytest.ExitCode.TESTS_FAILED, told
    failed = [line for line in told.splitlines() if line.startswith("FAILED")]
    assert len(failed) == 3, told  # both trials of global_dice, and what no_reference declares
    # confident alone, with RGAL, RGAL's terms, its declaration; the last two of global_dice: and none of ours
    assert "3 failed, 6 passed, 2 skipped, 3 deselected" in told
    assert "draw random numbers from ctx.streams" in told
    assert "says nothing in reference=" in told


def test_the_contracts_of_a_missing_plugin_are_a_usage_error() -> None:
    options = {"--device": "cpu", "--plugin": ["nowhere.py"]}
    with pytest.raises(pytest.UsageError, match=r"--plugin nowhere\.py: no such file"):
        conftest.pytest_configure(SimpleNamespace(getoption=options.get))
