"""What the documentation shows is run."""

from __future__ import annotations

import re
import shlex
import sys
import textwrap
from pathlib import Path

import pytest

from rgal import baselines, cli
from rgal.methods import registry
from rgal.reporting.tables.write import all_tables
from rgal.suite.store.folders import Store
from rgal.suite.store.frames import identified, load_records, make_frames
from tests.helpers.documents import ROOT, code_blocks
from tests.helpers.necil_builders import SUITE as NECIL_SUITE
from tests.helpers.suites import SUITE

pytestmark = pytest.mark.usefixtures("no_report", "no_pictures")


@pytest.mark.parametrize(
    ("name", "names", "suite"),
    [
        ("entropy", ["entropy", "entropy[ent=0.5]", "entropy+rgal"], SUITE),
        ("carried", ["carried", "carried+rgal"], NECIL_SUITE),
        ("noisy_pair", ["noisy_pair", "noisy_pair+rgal"], SUITE),
        ("unlearnt", ["unlearnt[capacity=12]", "unlearnt+rgal"], SUITE),
        ("two_minds", ["two_minds", "two_minds+rgal"], SUITE),
    ],
)
def test_the_documented_baselines_are_complete(
    name: str, names: list[str], suite: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files of docs/adding_a_baseline.md, dropped into the package, run, with RGAL too."""
    registered = dict(registry.methods())  # before the package holds one more
    (source,) = (block for block in code_blocks("adding_a_baseline.md") if f'@method("{name}"' in block)
    assert len(source.splitlines()) <= 48
    (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.setattr(baselines, "__path__", [*baselines.__path__, str(tmp_path)])
    monkeypatch.setattr(registry, "_METHODS", registered)
    (tmp_path / "suite.yaml").write_text(suite)
    arguments = ["--suite", str(tmp_path / "suite.yaml"), "--results", str(tmp_path / "r"), "--jobs", "0"]
    try:
        assert cli.main([*arguments, "--methods", *names]) == 0
    finally:
        sys.modules.pop(f"rgal.baselines.{name}", None)
    assert len(list((tmp_path / "r" / "trials").glob("*/result.json"))) == len(names)


def test_the_documented_factory_is_a_teacher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """my_nets.py from docs/teachers.md, in the current directory; and the names of the table of forms can be
    built or are missing timm."""
    (source,) = code_blocks("teachers.md")
    (tmp_path / "my_nets.py").write_text(source)
    (tmp_path / "suite.yaml").write_text(SUITE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    arguments = ["--suite", str(tmp_path / "suite.yaml"), "--results", str(tmp_path / "r"), "--jobs", "0"]
    try:
        assert cli.main([*arguments, "--teacher", "my_nets:small", "--methods", "rgal", "dafl"]) == 0
    finally:
        sys.modules.pop("my_nets", None)
    assert len(list((tmp_path / "r" / "trials").glob("*/result.json"))) == 2
    text = (ROOT / "docs" / "teachers.md").read_text(encoding="utf-8")
    names = re.findall(r"^\| `((?:torchvision|timm):\w+)` \| [^`]", text, flags=re.M)
    assert {name.partition(":")[0] for name in names} == {"torchvision", "timm"}
    for name in names:
        code = cli.main([*arguments, "--teacher", name, "--dry-run"])
        assert code == 0 or "not installed" in capsys.readouterr().err


def test_fidelity_names_every_parameter_of_rgal() -> None:
    text = (ROOT / "docs" / "fidelity.md").read_text(encoding="utf-8")
    missing = [name for name in registry.methods()["rgal"].parameters if name not in text]
    assert not missing, f"docs/fidelity.md says nothing about {missing}"


def test_methods_has_a_line_for_every_method() -> None:
    text = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    described = set(re.findall(r"^\| `(\w+)` (?:† )?\|", text, flags=re.M))
    assert described == set(registry.methods())


def test_documented_commands_parse() -> None:
    """Every command of run_suite.py and rgal in the README, CONTRIBUTING and docs is understood by the parser."""
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    commands = re.findall(r"(?:python run_suite\.py|^ {4}rgal(?= -)) (.*)", text, flags=re.M)
    assert len(commands) > 30
    for command in commands:
        cli.parser().parse_args(shlex.split(command.split("#")[0].split("`")[0].rstrip("|").strip()))


def test_the_table_of_the_readme_is_that_of_the_records() -> None:
    """What the README says was printed is what the kept records give, verdict included."""
    store = Store(ROOT / "results" / "reference" / "digits_distillation")
    (tables,) = all_tables(identified(make_frames(load_records(store))[0])).values()
    shown = textwrap.indent(tables[0].in_brief().text(80), "    ")
    assert shown in (ROOT / "README.md").read_text(encoding="utf-8")


def test_links_between_pages_lead_somewhere() -> None:
    """Every relative link and picture of a page is a file of the repository, and its anchor a heading there."""
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "results").rglob("README.md")]
    links = [
        (page, link) for page in pages for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8"))
    ]
    relative = [(page, *link.partition("#")[::2]) for page, link in links if not re.match(r"\w+:", link)]
    dead = [f"{page.name}: {to}" for page, to, _ in relative if not (page.parent / to).exists()]
    assert len(relative) > 50 and not dead, dead
    anchored = [(page, page.parent / to if to else page, anchor) for page, to, anchor in relative if anchor]
    lost = [f"{page.name}: {to.name}#{a}" for page, to, a in anchored if a not in headings(to)]
    assert not lost, lost


def headings(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_paths_that_contributors_are_told_exist() -> None:
    """Files and folders in backticks in CONTRIBUTING.md, from the top or from tests/ or reporting/."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    paths = re.findall(r"`((?:rgal|tasks|baselines|benchmarks|tests|docs)/[\w/.]+)`", text)
    assert len(paths) > 20 and not [path for path in paths if not (ROOT / path).exists()]


def test_the_documented_quantization_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("onnxruntime", "onnxscript", "onnx"):
        pytest.importorskip(name)
    (source,) = code_blocks("quantization.md")
    monkeypatch.chdir(tmp_path)
    exec(compile(source, "docs/quantization.md", "exec"), {})
    assert (tmp_path / "student.onnx").stat().st_size > 0


def test_architecture_names_paths_that_exist() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    paths = set(re.findall(r"`((?:rgal|tasks|baselines|benchmarks|tests|results)/[^`]*)`", text))
    missing = sorted(path for path in paths if not (ROOT / path).exists())
    assert len(paths) > 30 and not missing, f"docs/architecture.md: no such file: {missing}"


def test_architecture_has_a_line_for_every_room() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    packages = [path.parent for path in [*ROOT.glob("rgal/*/__init__.py"), *ROOT.glob("tasks/*/__init__.py")]]
    rooms = {path.relative_to(ROOT).as_posix() for path in packages if not path.is_symlink()}
    missing = sorted(room for room in rooms if f"| `{room}/` |" not in text)
    assert rooms and not missing, f"docs/architecture.md says nothing about {missing}"
