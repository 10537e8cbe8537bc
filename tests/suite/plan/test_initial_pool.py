"""Trials that start from a pool that another run kept."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from rgal import cli
from rgal.core.errors import UserError
from rgal.core.problem import Problem
from rgal.engine.batches import PoolSupply, StudentBatch
from rgal.suite.plan.initial_pool import labels_by, row_name
from rgal.suite.task import tasks
from rgal.synthesis.pool_files import load_pool, pool_key
from tests.helpers import small
from tests.helpers.stopped_runs import command, outcome, run_in_pieces, suite_file
from tests.helpers.suites import DFQ_SUITE, PAIRS, SUITE, SWEEP, leave_out_the_report, trials
from tests.helpers.trials import OPTIONS, TRIAL, job

SHAPE = (1, 8, 8)
GIVEN = 16  # images: two rounds of eight


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A suite, and results with a trial of `plain` that kept its pool and one that did not."""
    folder = tmp_path_factory.mktemp("pools")
    (folder / "suite.yaml").write_text(SUITE.replace("rounds: 1", "rounds: 2"))
    (folder / "dfq.yaml").write_text(DFQ_SUITE)
    with pytest.MonkeyPatch.context() as patch:
        leave_out_the_report(patch)
        assert call(folder, "--set", "keep_pool=true") == 0
        assert call(folder, "--methods", "deepinversion") == 0
    shutil.copytree(kept(folder), folder / "kept")
    return folder


def call(folder: Path, *arguments: str, results: str = "r", suite: str = "suite.yaml") -> int:
    fixed = ["--suite", str(folder / suite), "--results", str(folder / results), "--jobs", "0"]
    return cli.main([*fixed, *arguments])


def kept(folder: Path) -> Path:
    (pool,) = (folder / "r" / "trials").glob("*-plain-*/pool.safetensors")
    return pool.parent


def records(results: Path) -> dict[str, dict[str, Any]]:
    """Method -> settings and result of its trial."""
    by_method = {}
    for folder in (results / "trials").iterdir():
        settings = json.loads((folder / "trial.json").read_text())["settings"]
        by_method[settings["method"]] = settings | json.loads((folder / "result.json").read_text())
    return by_method


# Two runs -------------------------------------------------------------------------------------------------------


def test_what_a_run_keeps(workplace: Path) -> None:
    folder = kept(workplace)
    images, targets = load_pool(folder, SHAPE, 10)
    assert images.shape == (GIVEN, *SHAPE) and targets is not None
    assert len(list((folder / "pool").glob("*/*.png"))) == GIVEN
    (without,) = (workplace / "r" / "trials").glob("*-deepinversion-*")
    assert not (without / "pool").exists() and not (without / "pool.safetensors").exists()


@pytest.mark.usefixtures("no_report")
def test_file_trial_and_pngs_start_the_same_run(workplace: Path, tmp_path: Path) -> None:
    """Same key, same numbers, same student; and not those of a run from nothing."""
    forms = {"file": "pool.safetensors", "trial": ".", "pngs": "pool"}
    outcomes, keys = {}, set()
    for name, form in forms.items():
        path = workplace / "kept" / form
        shutil.copytree(workplace / "r" / "teachers", tmp_path / name / "teachers")
        assert call(workplace, "--init-pool", str(path), results=str(tmp_path / name)) == 0
        (record,) = records(tmp_path / name).values()
        assert record["init_pool"] == str(path)
        assert record["initial_images"] == GIVEN and record["images"] == GIVEN
        keys.add(next((tmp_path / name / "trials").iterdir()).name)
        outcomes[name] = outcome(tmp_path / name)
        outcomes[name]["final"] = outcomes[name]["final"].replace(str(path), "PATH")
    assert len(keys) == 1 and outcomes["file"] == outcomes["trial"] == outcomes["pngs"]
    (alone,) = (workplace / "r" / "trials").glob("*-plain-*/student.safetensors")
    (started,) = (tmp_path / "file" / "trials").glob("*/student.safetensors")
    assert alone.read_bytes() != started.read_bytes()


@pytest.mark.usefixtures("no_plots")
def test_tables_tell_the_row_and_name_the_pool(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Beside the same method without given images, and references that do not use them and keep their key."""
    with pytest.MonkeyPatch.context() as patch:
        leave_out_the_report(patch)
        assert call(workplace, "--methods", "scratch") == 0
    capsys.readouterr()
    assert call(workplace, "--methods", "plain", "scratch", "--init-pool", str(workplace / "kept")) == 0
    printed = capsys.readouterr()
    assert "1 of 2 trials are finished already" in printed.err
    key = pool_key(*load_pool(workplace / "kept", SHAPE, 10))
    note = f"plain (pool {key[:6]}): starts from 16 given images ({workplace / 'kept'}, {key}), not counted in Images."
    assert note in " ".join(printed.out.split())
    (table,) = (workplace / "r" / "tables").glob("kd_*_smoke.md")
    rows = [line.split("|")[1].strip() for line in table.read_text().splitlines() if line.startswith("|")]
    assert rows.count("plain") == rows.count(f"plain (pool {key[:6]})") == rows.count("scratch †") == 1


@pytest.mark.usefixtures("no_report")
def test_a_pool_that_started_from_another_is_kept_whole(workplace: Path, tmp_path: Path) -> None:
    shutil.copytree(workplace / "r" / "teachers", tmp_path / "r" / "teachers")
    arguments = ["--init-pool", str(workplace / "kept"), "--set", "keep_pool=true", "--methods", "cmi"]
    assert call(workplace, *arguments, results=str(tmp_path / "r")) == 0
    (folder,) = (tmp_path / "r" / "trials").iterdir()
    images, targets = load_pool(folder, SHAPE, 10)
    first, labels = load_pool(workplace / "kept", SHAPE, 10)
    assert targets is not None and labels is not None and len(images) == 2 * GIVEN
    assert torch.equal(images[:GIVEN], first) and torch.equal(targets[:GIVEN], labels)


@pytest.mark.usefixtures("no_report")
@pytest.mark.parametrize(
    ("task", "method"), [("kd", "cmi"), pytest.param("dfq", "plain", marks=pytest.mark.slow)]
)
def test_stopped_and_taken_up_again(
    task: str, method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The given images are not added twice, nor calibrated on twice."""
    for number in range(5):
        level = small.rand(8, 8, seed=number).mul(255).byte().numpy()
        Image.fromarray(level).save(tmp_path / f"{number}.png")
    suite_file(tmp_path, rounds=3, steps=3, task=task)
    given = ["--init-pool", str(tmp_path), "--set", "keep_pool=true", "--jobs", "0"]
    assert cli.main([*command(tmp_path, "whole", method), *given]) == 0
    run_in_pieces([*command(tmp_path, "cut", method), *given], tmp_path, monkeypatch)
    assert outcome(tmp_path / "cut") == outcome(tmp_path / "whole")
    pools = [load_pool(next(tmp_path.glob(f"{name}/trials/*/pool")), SHAPE, 10) for name in ("cut", "whole")]
    small.assert_same(*pools)
    assert len(pools[0][0]) == 5 + 24
    (record,) = records(tmp_path / "cut").values()
    assert record["initial_images"] == 5 and record["images"] == 24


# One trial ------------------------------------------------------------------------------------------------------


def begun(task: str, method: str, folder: Path, labelled: bool = True) -> Any:
    """A run of a method whose pool starts with five images."""
    plain = job(task, method, OPTIONS[task][0], 0)
    shape = plain.problem.domain.shape
    for number in range(5):
        below = folder / f"{number % 2}" if labelled else folder
        below.mkdir(parents=True, exist_ok=True)
        image = small.rand(*shape[1:], shape[0], seed=number).mul(255).byte().squeeze(-1).numpy()
        Image.fromarray(image).save(below / f"{number}.png")
    key = pool_key(*load_pool(folder, shape, plain.problem.domain.classes))
    trial = replace(plain.trial, init_pool=str(folder), init_pool_key=key)
    return tasks()[task].start(replace(plain, trial=trial))


def test_the_first_student_step_samples_given_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = begun("kd", "plain", tmp_path)
    assert len(run.transfer.pool) == 5 and run.transfer.images == 0
    assert run.transfer.pool.targets.tolist() == [0, 1, 0, 1, 0]
    given = {image.numpy().tobytes() for image in run.transfer.pool.images}
    drawn: list[set[bytes]] = []
    draw = PoolSupply.next

    def watched(supply: PoolSupply) -> StudentBatch:
        batch = draw(supply)
        drawn.append({(image * 255).round().byte().numpy().tobytes() for image in batch.images})
        return batch

    monkeypatch.setattr(PoolSupply, "next", watched)
    while not run.finished:
        run.advance()
    assert drawn[0] & given and drawn[0] - given


def test_images_without_labels_get_the_teachers(tmp_path: Path) -> None:
    run = begun("kd", "plain", tmp_path, labelled=False)
    problem: Problem = run.job.problem
    for image, target in zip(run.transfer.pool.images, run.transfer.pool.targets, strict=True):
        logits = problem.teacher(problem.domain.normalise(image[None].float() / 255))[0].tolist()
        assert logits[target] == max(logits)


def test_labels_do_not_depend_on_how_many_come_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    from rgal.suite.plan import initial_pool

    problem = small.problem()
    images = small.rand(11, *problem.domain.shape).mul(255).byte()
    whole = labels_by(problem, images)
    monkeypatch.setattr(initial_pool, "LABELLED_AT_A_TIME", 3)
    assert torch.equal(labels_by(problem, images), whole) and whole.shape == (11,)


def test_ranges_of_a_quantized_student_follow_given_images(tmp_path: Path) -> None:
    run = begun("dfq", "plain", tmp_path)
    from_nothing = tasks()["dfq"].start(job("dfq", "plain", OPTIONS["dfq"][0], 0))
    pairs = zip(run.student.state_dict().values(), from_nothing.student.state_dict().values(), strict=True)
    assert any(not torch.equal(a, b) for a, b in pairs)


def test_the_grid_shows_no_given_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    shown: list[torch.Tensor] = []
    monkeypatch.setattr("rgal.analysis.grids.write_grid", lambda path, images, *_, **__: shown.append(images))
    run = begun("kd", "plain", tmp_path / "given")
    while not run.finished:
        run.advance()
    run.illustrate(tmp_path)
    assert len(shown[0]) == run.transfer.images and torch.equal(shown[0], run.transfer.pool.images[5:])


def test_keys() -> None:
    """With the images, not with where they lie."""
    started = replace(TRIAL, init_pool="a", init_pool_key="1")
    assert started.key != TRIAL.key
    assert replace(started, init_pool="b").key == started.key
    assert replace(started, init_pool_key="2").key != started.key
    assert row_name("cmi", "") == "cmi" and row_name("cmi", "123456789012") == "cmi (pool 123456)"


def test_every_setting_of_a_suite_starts_from_it(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pairs and swept numbers; the images are read once."""
    from rgal.suite.plan import initial_pool

    reads: list[Path] = []
    monkeypatch.setattr(
        initial_pool, "load_pool", lambda path, *more: reads.append(path) or load_pool(path, *more)
    )
    text = SWEEP.replace("teacher: wrn10_1\nstudent: resnet8\n", "") + PAIRS[PAIRS.index("pairs:") :]
    overrides = {"methods": ["plain", "scratch"], "init_pool": str(workplace / "kept")}
    planned = trials(workplace, text, "several.yaml", **overrides)
    key = pool_key(*load_pool(workplace / "kept", SHAPE, 10))
    assert [(t.method, t.init_pool_key) for t in planned] == [("plain", key), ("scratch", "")] * 4
    assert reads == [workplace / "kept"]


# Given images alone ---------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_plots")
def test_a_student_on_given_images_alone_is_a_marked_row(
    workplace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As many student steps as the others, no image made, ranked with the references, and named."""
    shutil.copytree(workplace / "r" / "teachers", tmp_path / "r" / "teachers")
    pool = ["--init-pool", str(workplace / "kept")]
    assert call(workplace, "--methods", "given", "plain", *pool, results=str(tmp_path / "r")) == 0
    given, plain = (records(tmp_path / "r")[name] for name in ("given", "plain"))
    assert given["student_steps"] == plain["student_steps"] and given["images"] == 0
    assert given["data_free"] is False and plain["data_free"] is True
    printed, key = " ".join(capsys.readouterr().out.split()), given["init_pool_key"][:6]
    assert (
        f"given (pool {key}): works on 16 given images ({workplace / 'kept'}, {given['init_pool_key']}) alone"
        in printed
    )
    assert "† Given images alone: a reference." in printed and "Trained on real data" not in printed
    assert f"given (pool {key}) †" in printed and f"plain (pool {key}) †" not in printed


def test_ranges_alone_come_from_given_images(tmp_path: Path) -> None:
    run = begun("dfq", "given[train=false]", tmp_path)
    ready = [quantizer.ready for quantizer in run.student.activations().values()]
    while not run.finished:
        run.advance()
    assert ready and all(ready) and run.transfer.schedule.steps == {"synthesis": 0, "student": 0}


def test_without_given_images_the_row_is_refused_and_no_part_of_all(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(
        workplace,
        capsys,
        ["--methods", "given"],
        "method 'given' works on given images alone; give --init-pool",
    )
    assert "given" not in [trial.method for trial in trials(workplace, SUITE, "all.yaml", methods=["all"])]


# Bad input ------------------------------------------------------------------------------------------------------

BAD = {
    "no such file": (["--init-pool", "nowhere"], "nowhere: no such file or folder"),
    "game": (["--methods", "dafl", "--init-pool", "KEPT"], "method 'dafl' trains no student on a pool; methods"),
    "only references": (["--methods", "scratch", "--init-pool", "KEPT"], "no method of this suite trains a student on"),
    "one of several": (["--methods", "plain", "zskt+rgal", "--init-pool", "KEPT"], "method 'zskt+rgal' trains no"),
    "other images": (["--set", "image_size=16", "--init-pool", "KEPT"], "'images' U8 (16, 1, 8, 8)"),
    "suite setting": (["--set", "init_pool=nowhere"], "nowhere: no such file"),
    "setting of wrong type": (["--set", "init_pool=3"], "init_pool: Input should be a valid string"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name: str, workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, expected = BAD[name]
    refused(workplace, capsys, arguments, expected)


def test_the_message_names_the_methods_that_can(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(workplace, "--methods", "dafl", "--init-pool", str(workplace / "kept")) == 2
    named = capsys.readouterr().err.strip().partition("methods that do: ")[2].split(", ")
    assert {"cmi", "deepinversion", "fast", "nayer", "plain", "rgal"} <= set(named)
    assert not {"dafl", "zskt", "scratch", "naive", "intraq"} & set(named)


def test_tasks_and_methods_that_make_their_own(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(workplace / "kept")
    naive = ["--methods", "naive", "--init-pool", path]
    expected = "method 'naive' trains no student on a pool; methods that do: "
    refused(workplace, capsys, naive, expected, "dfq.yaml")
    (workplace / "necil.yaml").write_text(
        DFQ_SUITE.replace("dfq", "necil").replace("options: {bits: [w4a4]}", "")
    )
    refused(workplace, capsys, naive[2:], "task 'necil' cannot start from a given pool", "necil.yaml")


def refused(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    expected: str,
    suite: str = "suite.yaml",
) -> None:
    """One line, exit code 2, before anything runs."""
    before = {path: path.stat().st_mtime_ns for path in (folder / "r" / "trials").rglob("*")}
    capsys.readouterr()
    arguments = [str(folder / "kept") if a == "KEPT" else a for a in arguments]
    assert call(folder, *arguments, suite=suite) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ") and len(error.splitlines()) == 1 and expected in error
    assert before == {path: path.stat().st_mtime_ns for path in (folder / "r" / "trials").rglob("*")}


def test_images_that_changed_after_planning(tmp_path: Path) -> None:
    run = begun("kd", "plain", tmp_path)
    Image.new("L", (8, 8)).save(tmp_path / "0" / "0.png")
    with pytest.raises(UserError, match="changed since the trial was planned"):
        tasks()["kd"].start(run.job)
