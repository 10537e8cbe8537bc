"""A network of somebody's own, and no data anywhere: from README's two commands to files that plain torch loads."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import own_network
from tests.helpers.documents import code_blocks
from tests.helpers.reporting_builders import draw_svg_alone

# Two whole runs with their plots, page and ONNX files, made once for all tests that look at them.
LIBRARY = "maplibregl-user-location-accuracy-circle"  # a style of the library that draws the page's figures
PICTURE = re.compile(r"base64,[A-Za-z0-9+/=\s]+")
WORDS = re.compile(r"accurac|top-?1", flags=re.IGNORECASE)


@pytest.fixture(scope="module")
def made(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Path, dict[str, Path], str]]:
    """Run README's commands where no image lies: the folder, the two trials' folders by task, what was printed."""
    for name in ("onnxruntime", "onnxscript", "onnx"):
        pytest.importorskip(name)
    commands = own_network.readme_commands()
    assert len(commands) == 2
    printed: list[str] = []
    with own_network.workplace(tmp_path_factory.mktemp("own")) as folder:
        with pytest.MonkeyPatch.context() as patch:
            draw_svg_alone(patch)
            patch.setattr("builtins.print", lambda *texts, **_: printed.append(" ".join(map(str, texts))))
            for command in commands:
                assert own_network.run(*command) == 0
        trials = {path.name.partition("-")[0]: path for path in (folder / "results" / "trials").iterdir()}
        yield folder, trials, "\n".join(printed)


def test_students_images_and_onnx_files_are_there(made: tuple[Path, dict[str, Path], str]) -> None:
    folder, trials, printed = made
    assert set(trials) == {"kd", "dfq"}
    for trial in trials.values():
        assert json.loads((trial / "result.json").read_text())["status"] == "finished"
        assert len(list((trial / "pool").glob("*/*.png"))) == 32
        for kind, file in (
            ("student's weights", "student.safetensors"),
            ("images", "pool"),
            ("ONNX file", "model.onnx"),
        ):
            assert (trial / file).exists()
            assert f"{kind}: {trial.relative_to(folder) / file}" in printed


def test_every_layer_is_integer_or_named(made: tuple[Path, dict[str, Path], str]) -> None:
    measured = json.loads((made[1]["dfq"] / "export.json").read_text())["measured"]
    assert measured["layers"] == 6
    floats = measured["layers"] - measured["integer_layers"]
    assert floats == 0 or len(measured["onnx_note"].partition("in float: ")[2].split(", ")) >= floats


def test_no_accuracy_is_named_anywhere(made: tuple[Path, dict[str, Path], str]) -> None:
    """In the terminal, tables, plots, the page and the records: nobody knows one."""
    folder, _, printed = made
    files = [path for path in (folder / "results").rglob("*") if path.suffix in TEXTS]
    assert {path.suffix for path in files} == set(TEXTS)
    texts = {path.name: path.read_text(encoding="utf-8").replace(LIBRARY, "") for path in files}
    found = {name: WORDS.findall(PICTURE.sub("", text)) for name, text in texts.items()}
    found["terminal"] = WORDS.findall(printed)
    assert not {name: words[:3] for name, words in found.items() if words}


TEXTS = (".md", ".csv", ".tex", ".html", ".json", ".jsonl", ".svg")


def test_what_is_known_is_printed_with_what_it_can_tell(made: tuple[Path, dict[str, Path], str]) -> None:
    folder, _, printed = made
    for task, more in (("kd", []), ("dfq", ["Least SQNR (dB)"])):
        (table,) = (folder / "results" / "tables").glob(f"{task}_*smoke.md")
        text = table.read_text()
        for words in (
            "Agreement (%)",
            "KL (nats)",
            "Teacher's confidence (%)",
            "What they cannot tell",
            *more,
        ):
            assert words in text
        for each in (folder / "results" / "tables").glob(f"{task}_*.md"):
            assert "mean 0.485 0.456 0.406, std 0.229 0.224 0.225 (as given)" in each.read_text()
    assert printed.count("data set none: images 3x48x48, 7 classes") == 2
    assert re.search(r"rgal seed 0: agreement \d+\.\d\d % \(KL \d\.\d{3}\)", printed)


def test_the_documented_snippets_load_it(
    made: tuple[Path, dict[str, Path], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, trials, _ = made
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {"distilled": trials["kd"], "quantized": trials["dfq"]}
    blocks = code_blocks("outputs.md")
    assert len(blocks) == 5
    for block in blocks:
        exec(compile(block, "docs/outputs.md", "exec"), names)
    assert names["logits"].shape == (4, 7) and names["images"].shape == (4, 3, 48, 48)


def test_a_student_that_cannot_be_exported_costs_nothing_else(
    made: tuple[Path, dict[str, Path], str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    no_plots: None,
) -> None:
    folder, _, _ = made
    monkeypatch.chdir(folder)
    (folder / "results" / "report.html").unlink()
    from rgal.tasks.distillation import KnowledgeDistillation

    def refuse(*_: object) -> None:
        raise RuntimeError("no such operator")

    monkeypatch.setattr(KnowledgeDistillation, "export", refuse)
    arguments = [*own_network.DESCRIBED, *own_network.TEACHER, *own_network.STUDENT, "--methods", "plain"]
    assert own_network.run(*arguments, "--export", "onnx") == 1
    captured = capsys.readouterr()
    assert "not exported: kd-none-" in captured.err and "RuntimeError: no such operator" in captured.err
    assert (folder / "results" / "report.html").exists() and "report: " in captured.out


@pytest.mark.parametrize("task", ["kd", "dfq"])
def test_missing_packages_are_said_before_anything_runs(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "rgal.suite.running.exports.find_spec", lambda name: None if name == "onnxruntime" else True
    )
    with own_network.workplace(tmp_path):
        student = own_network.STUDENT if task == "kd" else []
        assert (
            own_network.run(
                "--task", task, *own_network.DESCRIBED, *own_network.TEACHER, *student, "--export", "onnx"
            )
            == 2
        )
        assert not (tmp_path / "results").exists()
    assert "--export onnx: not installed: onnxruntime" in capsys.readouterr().err


def test_the_same_seed_gives_the_same_numbers(
    made: tuple[Path, dict[str, Path], str], no_report: None
) -> None:
    folder, trials, _ = made
    numbers = ("agreement", "kl", "confidence_median")
    first = json.loads((trials["kd"] / "result.json").read_text())
    with own_network.workplace(folder):
        (command, _) = own_network.readme_commands()
        command = [word for word in command if word not in ("--export", "onnx")]
        assert own_network.run(*command, results="again") == 0
    (again,) = (folder / "again" / "trials").glob("*/result.json")
    assert again.parent.name == trials["kd"].name
    second = json.loads(again.read_text())
    assert [first[name] for name in numbers] == [second[name] for name in numbers]
    assert (trials["kd"] / "student.safetensors").read_bytes() == (
        again.parent / "student.safetensors"
    ).read_bytes()
