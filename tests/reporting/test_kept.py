"""A store is rendered again only where it has changed, to the same bytes as a store that is rendered at once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from rgal.reporting import group, kept
from rgal.reporting.page import section
from rgal.reporting.page.charts import Frames, Named
from rgal.reporting.report import Rendered, render, summary
from rgal.suite.store import index
from rgal.suite.store.folders import Store
from tests.helpers.store_builders import add_trial, change, grid_png, settings


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of tests are new; let the index trust them at once."""
    settle(monkeypatch)


def settle(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(index, "SETTLED_NS", -(10**12))
    patch.setattr(group, "write_plots", plots)
    patch.setattr(section, "charts_of_group", charts)


def plots(results: object, curves: object, folder: Path, *rest: object) -> list[Path]:
    """In place of all figures, one that says what it was drawn from."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{rest[-1]}_time.svg"
    path.write_text(f'<svg width="72pt" height="36pt">{results}{curves}</svg>')
    return [path]


def charts(results: pd.DataFrame, frames: Frames) -> list[Named]:
    """In place of all charts, one that holds what it was drawn from; they take half the time of a page."""
    drawn = [frame.to_csv() for frame in (results, frames.curves, frames.layers)]
    return [Named({"title": "all", "kind": "lines", "series": drawn}, ("time",))]


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    """The folder of a store that was rendered, and what was written."""
    with pytest.MonkeyPatch.context() as patch:
        settle(patch)
        store = some_store(tmp_path_factory.mktemp("rendered") / "a")
        return store.root, outputs(render(store), store.root)


@pytest.fixture
def store(rendered: tuple[Path, dict[str, bytes]], tmp_path: Path) -> Store:
    """A rendered store, to be edited."""
    return Store(shutil.copytree(rendered[0], tmp_path / "a"))


@pytest.fixture
def first(rendered: tuple[Path, dict[str, bytes]]) -> dict[str, bytes]:
    """What was written of the store."""
    return rendered[1]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The stems of the groups that were rendered."""
    stems: list[str] = []
    for name in ("render_group", "render_overview"):
        real: Callable[[group.Job], kept.Kept] = getattr(group, name)

        def rendering(job: group.Job, real: Callable[[group.Job], kept.Kept] = real) -> kept.Kept:
            stems.append(job.stem)
            return real(job)

        monkeypatch.setattr(group, name, rendering)
    return stems


SMALL, LARGE = "kd_digits-wrn16_1-wrn10_1_small", "kd_digits-wrn16_1-wrn10_1_large"
OTHER, OVERVIEW = "kd_digits-a-b_small", "overview_kd_digits_small"


def some_store(root: Path) -> Store:
    """Two budgets of one pair of networks and one of another, whose overview there is; an odd folder."""
    places = [{"budget": "small"}, {"budget": "large"}, {"setting": "digits a -> b", "budget": "small"}]
    for number, place in enumerate(places):
        for seed in range(2):
            for method in ("cmi", "plain"):
                key = f"{number}{seed}{len(method):02}" * 3
                folder = add_trial(root, key, settings(method, seed, **place), last=90.0 + seed + number)
                (folder / "samples.png").write_bytes(grid_png(width=60 + seed))
    (root / "trials" / "notes").mkdir()
    return Store(root)


def outputs(rendered: Rendered, root: Path) -> dict[str, bytes]:
    """All that was written, and what a terminal shows."""
    paths = [*rendered.tables, *rendered.plots, *rendered.samples, rendered.page]
    return {str(path.relative_to(root)): path.read_bytes() for path in paths} | {
        "text": summary(rendered).replace(str(root), "ROOT").encode()
    }


def anew(root: Path) -> dict[str, bytes]:
    """What a copy of the trials alone is rendered to."""
    copy = root.parent / "anew"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(root / "trials", copy / "trials")
    return outputs(render(Store(copy)), copy)


def test_nothing_is_made_twice(tmp_path: Path, made: list[str]) -> None:
    store = some_store(tmp_path / "a")
    first = outputs(render(store), store.root)
    assert made == [OTHER, LARGE, SMALL, OVERVIEW]
    pages = (store.root / "report.html").stat()
    assert outputs(render(store), store.root) == first and len(made) == 4
    assert (store.root / "report.html").stat().st_mtime_ns == pages.st_mtime_ns
    assert anew(store.root) == first


def another_trial(root: Path) -> None:
    add_trial(root, "ab" * 6, settings("fast", 0), last=50.0)


def another_number(root: Path) -> None:
    change(next(root.glob("trials/*cmi-s0-000*/result.json")), last=70.0)


def a_newer_trial(root: Path) -> None:
    folder = add_trial(root, "cd" * 6, settings("cmi", 0), last=50.0)
    change(folder / "trial.json", environment={"started": "2027-01-01T00:00:00+0000"})


def a_broken_trial(root: Path) -> None:
    next(root.glob("trials/*cmi-s0-000*/result.json")).write_text("{")


def a_removed_trial(root: Path) -> None:
    shutil.rmtree(next(root.glob("trials/*cmi-s0-000*")))


@pytest.mark.parametrize(
    "edit", [another_trial, another_number, a_newer_trial, a_broken_trial, a_removed_trial]
)
def test_only_what_has_changed_is_made_again(
    edit: Callable[[Path], None], store: Store, made: list[str]
) -> None:
    edit(store.root)
    second = outputs(render(store), store.root)
    assert made == [SMALL, OVERVIEW]
    assert second == anew(store.root)


def touched_table(root: Path) -> None:
    (root / "tables" / f"{LARGE}.md").write_text("edited")


def lost_plot(root: Path) -> None:
    (root / "plots" / f"{LARGE}_time.svg").unlink()


def spoilt_memory(root: Path) -> None:
    for path in (root / kept.FOLDER).glob("*.json"):
        if LARGE in path.read_text():
            path.write_text('{"inputs": 3}')


@pytest.mark.parametrize("edit", [touched_table, lost_plot, spoilt_memory])
def test_a_file_that_is_not_as_it_was_left_is_made_again(
    edit: Callable[[Path], None], store: Store, first: dict[str, bytes], made: list[str]
) -> None:
    edit(store.root)
    assert outputs(render(store), store.root) == first and made == [LARGE]


def test_a_page_that_was_edited_is_written_again(
    store: Store, first: dict[str, bytes], made: list[str]
) -> None:
    (store.root / "report.html").write_text("edited")
    assert outputs(render(store), store.root) == first and made == []


def test_other_code_makes_everything_again(
    store: Store, made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "_code", lambda: b"newer")
    render(store)
    assert made == [OTHER, LARGE, SMALL, OVERVIEW]


def test_the_text_of_some_trials_is_that_of_a_store_with_these_alone(store: Store) -> None:
    keys = {folder.name[-12:] for folder in store.trial_folders() if "s1" not in folder.name} - {"notes"}
    text = render(store, keys).text
    for folder in store.trial_folders():
        if folder.name[-12:] not in keys:
            shutil.rmtree(folder)
    assert text == render(store).text != ""
