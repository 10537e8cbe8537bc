"""The pages of the studies: what is kept of a run, and that every page is what its records give."""

from __future__ import annotations

from pathlib import Path

import pytest

from rgal.core.errors import UserError
from rgal.reporting import studies as module
from rgal.reporting.studies import Study, keep, main, page_of, studies
from tests.helpers.store_builders import add_trial, settings

STUDY = Study(
    "made_up", "Made up", "Which is best?", "python run_suite.py --task kd", "Nothing.", ("time.png",)
)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The results directory of a run of two methods and two seeds, and a root of its own for what is kept."""
    monkeypatch.setattr(module, "ROOT", tmp_path / "root")
    (tmp_path / "root" / "docs" / "results").mkdir(parents=True)
    results = tmp_path / "results"
    for method, top1 in (("cmi", 90.0), ("rgal", 92.0)):
        for seed in (0, 1):
            folder = add_trial(results, f"{method}{seed}", settings(method, seed), last=top1 + seed)
            (folder / "student.safetensors").write_bytes(b"weights")
    add_trial(results, "plain0", settings("plain"), status="failed")
    (results / "plots").mkdir()
    (results / "plots" / "time.png").write_bytes(b"picture")
    return results


def test_records_are_kept_without_weights_and_make_the_page(run: Path) -> None:
    assert keep(run, STUDY) == 4
    names = {path.name for path in STUDY.records.rglob("*") if path.is_file()}
    assert names == {"trial.json", "result.json", "metrics.jsonl"}
    assert STUDY.kept("time.png").read_bytes() == b"picture"
    page = page_of(STUDY)
    assert page.startswith("# Made up\n\nWhich is best?\n\n    python run_suite.py --task kd\n\nNothing.\n")
    assert "No ranking: n = 2" in page and "92.50" in page and "plain" not in page
    assert f"![time.png](images/{STUDY.kept('time.png').name})" in page and "4 trials" in page


def test_keeping_again_leaves_nothing_of_before(run: Path) -> None:
    keep(run, STUDY)
    (STUDY.records / "trials" / "old").mkdir()
    keep(run, STUDY)
    assert len(list((STUDY.records / "trials").iterdir())) == 4


def test_what_cannot_be_kept_is_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match="no finished trial in it"):
        keep(tmp_path / "empty", STUDY)
    (run / "plots" / "time.png").unlink()
    with pytest.raises(UserError, match=r"no plots/time\.png in it"):
        keep(run, STUDY)
    (module.ROOT / "docs" / "results" / "studies.yaml").write_text(
        "made_up: {title: A, question: B, command: C}"
    )
    assert main(["keep", "made_upp", str(run)]) == 2
    assert "did you mean 'made_up'?" in capsys.readouterr().err


def test_an_installed_package_has_no_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "ROOT", tmp_path)
    assert main([]) == 2
    assert "no such file; run it in a clone" in capsys.readouterr().err


@pytest.mark.parametrize("name", studies())
def test_every_page_is_that_of_its_records(name: str) -> None:
    study = studies()[name]
    assert study.page.read_text(encoding="utf-8") == page_of(study), "run python -m rgal.reporting.studies"
