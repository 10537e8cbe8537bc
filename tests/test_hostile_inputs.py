"""Whatever a user hands over is used, or refused in one line: never a traceback.

A seeded fuzzer over all kinds of inputs. `pytest -m slow tests/test_hostile_inputs.py` tries 5,000.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from rgal import data as datasets
from rgal.core.errors import UserError
from rgal.methods.registry import resolve
from rgal.nets.checkpoint import load_weights, save_weights
from rgal.reporting.group import briefs_of
from rgal.reporting.page.build import make_report
from rgal.reporting.report import grouped
from rgal.suite.plan.settings import Budget, Suite, load_suite
from rgal.suite.running.runner import make_plan
from rgal.suite.store.folders import Store
from rgal.suite.store.index import Index
from rgal.synthesis.pool_files import load_pool
from tests.helpers.data_builders import image_folder, tiny
from tests.helpers.net_builders import small
from tests.helpers.store_builders import add_trial, grid_png
from tests.helpers.suites import SUITE

NASTY = (
    "", " ", ".", "..", "/", "\x00", "a\x00b", "a\nb", "\x1b[2J", "\ud800", "\u202e", "/dev/zero", "/proc/self/mem",
    "~", "cuda:²", "cpu:0", "nan", "-inf", "1e999", "-1", "0", "1_000", "9" * 5000, "[" * 3000, "{" * 3000,
    "!!python/x y", "&a [*a]", "2001-13-45", "none", "all", "all+rgal", "+rgal", "rgal+rgal", "cmi[", "cmi[a=",
    "cmi[a=1]",
    "x" * 4000,
    "1:30", "kd", "dfq", "necil", "plain+rgal[x]", "torchvision:", "timm:x", "os:system", "a:b:c",
)  # fmt: skip
TEXTS = st.sampled_from(NASTY) | st.text(max_size=20)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.just(10**400) | st.dates()
KEYS = (
    st.sampled_from([*Suite.model_fields, *Budget.model_fields, "smoke", "extends", ""])
    | TEXTS
    | st.integers()
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)
METHOD_PARTS = st.sampled_from(
    ("cmi", "rgal", "fast", "plain", "gdfq", "abd", "+", "+rgal", "[", "]", "=", ",", "k", "k=10",
     "band", "nan", "1e999", " ", "é", "\n")
)  # fmt: skip


def works_or_refuses(call: Callable[[], Any]) -> Any:
    """What a call returns, or None after an error that a user is told in one line of at most 300 characters."""
    try:
        return call()
    except UserError as error:
        line = str(error)
        assert line.isprintable() and 0 < len(line) <= 300
        return None


def spoilt(data: st.DataObject, content: bytes) -> bytes:
    """The content with some bytes replaced, cut out or put in, cut off, or something else in its place."""
    kind = data.draw(st.sampled_from(("replace", "replace", "insert", "cut", "end", "other")))
    if kind == "other":
        return data.draw(st.binary(max_size=40))
    place = data.draw(st.integers(0, max(0, len(content) - 1)) | st.integers(0, min(200, len(content) - 1)))
    some = data.draw(st.binary(min_size=1, max_size=8))
    end = {"replace": place + len(some), "insert": place, "cut": place + 30, "end": len(content)}[kind]
    return content[:place] + (b"" if kind in ("cut", "end") else some) + content[end:]


def suite_texts(data: st.DataObject, folder: Path) -> None:
    path = folder / "suite.yaml"
    text = data.draw(TEXTS.map(lambda text: text.encode("utf-8", "surrogatepass")) | st.just(b""))
    path.write_bytes(text or spoilt(data, SUITE.encode()))
    works_or_refuses(lambda: make_plan(load_suite(path, {})))


def suite_structures(data: st.DataObject, folder: Path) -> None:
    path, content = folder / "suite.yaml", yaml.safe_load(SUITE)
    at = content["budgets"]["smoke"] if data.draw(st.booleans()) else content
    at[data.draw(KEYS)] = data.draw(VALUES)
    path.write_bytes(yaml.dump(content, allow_unicode=True).encode("utf-8", "surrogatepass"))
    works_or_refuses(lambda: make_plan(load_suite(path, {})))


def assignments(data: st.DataObject, folder: Path) -> None:
    path = folder / "suite.yaml"
    path.write_text(SUITE)
    value = data.draw(TEXTS | VALUES.map(str))
    key = ".".join(map(str, data.draw(st.lists(KEYS, min_size=1, max_size=3))))
    works_or_refuses(
        lambda: make_plan(load_suite(path, {}, (data.draw(st.sampled_from((f"{key}={value}", value))),)))
    )


def method_names(data: st.DataObject, folder: Path) -> None:
    parts = data.draw(st.lists(METHOD_PARTS, max_size=7).map("".join) | TEXTS)
    works_or_refuses(lambda: resolve(parts))


def checkpoints(data: st.DataObject, folder: Path) -> None:
    suffix = data.draw(st.sampled_from((".pth", ".safetensors", " legacy.pth")))
    whole, path = folder / f"whole{suffix}", folder / f"net{suffix}"
    if not whole.exists():
        if suffix == ".safetensors":
            save_weights(small(1), whole)
        else:
            torch.save(small(1).state_dict(), whole, _use_new_zipfile_serialization="legacy" not in suffix)
    path.write_bytes(spoilt(data, whole.read_bytes()))
    works_or_refuses(lambda: load_weights(small(2), path, 10))


def parquet_files(data: st.DataObject, folder: Path) -> None:
    root = folder / "parquet"
    if not root.exists():
        tiny(root)
    _one_file_spoilt(data, root, lambda: datasets.load("mine", root, cache=folder / "cache"))


def image_folders(data: st.DataObject, folder: Path) -> None:
    root = folder / "images"
    if not root.exists():
        image_folder(root)
    _one_file_spoilt(data, root, lambda: datasets.load("mine", root, cache=folder / "cache"))


def kept_pools(data: st.DataObject, folder: Path) -> None:
    from safetensors.torch import save

    path = folder / "pool.safetensors"
    images = torch.zeros(3, 1, 4, 4, dtype=torch.uint8)
    path.write_bytes(spoilt(data, save({"images": images, "targets": torch.tensor([0, 1, 2])})))
    works_or_refuses(lambda: load_pool(path, (1, 4, 4), 3))


def _one_file_spoilt(data: st.DataObject, root: Path, call: Callable[[], Any]) -> None:
    path = data.draw(st.sampled_from(sorted(path for path in root.rglob("*") if path.is_file())))
    whole = path.read_bytes()
    path.write_bytes(spoilt(data, whole))
    try:
        works_or_refuses(call)
    finally:
        path.write_bytes(whole)


def records(data: st.DataObject, folder: Path) -> None:
    root = folder / "store"
    if not root.exists():
        trial = add_trial(root, "a" * 12)
        (trial / "samples.png").write_bytes(grid_png())
        for name in ("layers", "phases", "diversity", "export"):
            content = {"layers": [], "phases": [], "schema": 1, "rounds": [], "measured": {"onnx_mb": 1.0}}
            (trial / f"{name}.json").write_text(json.dumps(content))
    path = data.draw(st.sampled_from(sorted(path for path in root.rglob("*") if path.is_file())))
    whole = path.read_bytes()
    if path.suffix == ".json" and data.draw(st.booleans()):
        content = json.loads(whole)
        at = data.draw(
            st.sampled_from([content, *(part for part in content.values() if isinstance(part, dict))])
        )
        at[data.draw(st.sampled_from(sorted(at)) | TEXTS)] = data.draw(
            st.recursive(SCALARS.filter(_is_json), lambda inner: st.lists(inner, max_size=2), max_leaves=3)
        )
        path.write_text(json.dumps(content))
    else:
        path.write_bytes(spoilt(data, whole))
    try:
        works_or_refuses(lambda: _reported(root))
    finally:
        path.write_bytes(whole)


def _is_json(value: Any) -> bool:
    return value is None or isinstance(value, str | bool | int | float)


def _reported(root: Path) -> None:
    """All that a report reads, but for the drawings."""
    entries = Index(root).entries(Store(root).trial_folders())
    for group in grouped(entries).values():
        briefs_of(group)
    make_report(entries, {})
    assert all(reason.isprintable() for entry in entries for reason in entry.damage)


TARGETS = (
    suite_texts, suite_structures, assignments, method_names, checkpoints, parquet_files, image_folders, kept_pools,
    records,
)  # fmt: skip
SHORT, LONG = 12, 556  # cases of each of nine kinds


@pytest.mark.parametrize("cases", [SHORT, pytest.param(LONG, marks=pytest.mark.slow)])
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.__name__)
def test_any_input_is_used_or_refused_in_one_line(
    target: Callable[[st.DataObject, Path], None], cases: int, tmp_path: Path
) -> None:
    @hypothesis_settings(
        max_examples=cases,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(data=st.data())
    def attempt(data: st.DataObject) -> None:
        target(data, tmp_path)

    attempt()
