"""Whatever is handed over works, or is refused in one printable line of at most 300 characters.

A few cases of every kind in each run; 5,000 together with `pytest -m slow`.
"""

from __future__ import annotations

import io
import itertools
import json
import shutil
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from rgal import data, nets
from rgal.core.errors import UserError
from rgal.methods.registry import methods, resolve
from rgal.nets.checkpoint import load_weights
from rgal.reporting.tables.write import all_tables
from rgal.suite.plan.settings import Budget, Suite, load_suite
from rgal.suite.running.runner import make_plan
from rgal.suite.store.checkpoint import Checkpoint
from rgal.suite.store.damaged import damaged_records
from rgal.suite.store.folders import Store
from rgal.suite.store.frames import (
    identified,
    load_diversity,
    load_layers,
    load_phases,
    load_records,
    make_frames,
    newest,
)
from rgal.synthesis.pool_files import load_pool
from tests.helpers.data_builders import encoded, no_shared_cache, pixels
from tests.helpers.diversity_builders import record
from tests.helpers.store_builders import add_trial, grid_png
from tests.helpers.suites import SUITE

LONGEST, QUICK, MANY = 300, 60, 5000
ODD_TEXTS = st.sampled_from(
    [
        *(
            "",
            " ",
            "\0",
            "a\nb",
            "\x1b[2J",
            "→",
            "x" * 5000,
            "9" * 6000,
            "-1",
            "1e999",
            "nan",
            ".inf",
            "1:30",
        ),
        *(
            "/dev/zero",
            "/proc/self/mem",
            "../..",
            "a\0b",
            "cuda:²",
            "cuda:-1",
            "none",
            "w8a8",
            "w0a99",
            "digits",
        ),
        *(
            "{[1]: 2}",
            "[[",
            "&a [*a]",
            "!!python/object:os.system x",
            "2001-13-45",
            "!!int ''",
            "<<: 3",
            "? x",
        ),
        *(
            "[" * 3000,
            "{a: " * 300,
            "rgal[",
            "cmi[adv=1e999]",
            "+rgal",
            "wrn40_999999",
            "1x" + "9" * 12 + "x8",
        ),
    ]
)
KEYS = st.sampled_from([*Suite.model_fields, *Budget.model_fields, "smoke", "extends", "cmi", "plain+rgal"])
HUGE = st.sampled_from([10**30, -(10**30), 2**53, 2**63, 2**64, 10**4000])
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | HUGE | st.text(max_size=8) | ODD_TEXTS | KEYS
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.integers() | ODD_TEXTS, inner, max_size=4)
    ),
    max_leaves=8,
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)
PATHS = st.sampled_from(["suite.yaml", "/dev/zero", "/proc/self/mem", "a\0b", "x" * 5000, "", "/"])


def works_or_says_why(call: Callable[[], object]) -> None:
    """Anything else than `UserError`, or a message that is no short printable line, fails."""
    try:
        call()
    except UserError as error:
        line = f"error: {error}"
        assert 7 < len(line) <= LONGEST and line.isprintable(), line


def spoilt(case: st.DataObject, content: bytes) -> bytes:
    """Return the content cut off, with other bytes in places, or as it is."""
    if case.draw(st.booleans()):
        content = content[: case.draw(st.integers(0, len(content)))]
    for _ in range(case.draw(st.integers(0, 3))):
        place = case.draw(st.integers(0, len(content)))
        odd = st.binary(max_size=8) | st.sampled_from([b"\0" * 8, b"\xff" * 8, b"[" * 5000, b'"', b"}"])
        content = content[:place] + case.draw(odd) + content[place + case.draw(st.integers(0, 16)) :]
    return content


# Each kind of thing that is handed over ------------------------------------------------------------------------------


def plan_of(path: Path, *assignments: str) -> None:
    suite = load_suite(path, {}, assignments)
    if suite.data_root is None and len(suite.seeds) < 50:  # folders of images are a kind of their own
        make_plan(suite)


def suite_files(case: st.DataObject, folder: Path) -> None:
    path = folder / "suite.yaml"
    if case.draw(st.booleans()):
        content = yaml.safe_load(SUITE)
        place = case.draw(st.sampled_from([content, content["budgets"], content["budgets"]["smoke"]]))
        place.update(case.draw(st.dictionaries(KEYS | ODD_TEXTS, VALUES, max_size=3)))
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
    else:
        text = SUITE + case.draw(KEYS) + ": " + case.draw(ODD_TEXTS | st.text(max_size=30)) + "\n"
        path.write_bytes(spoilt(case, text.encode("utf-8", "surrogatepass")))
    works_or_says_why(lambda: plan_of(path))
    other = case.draw(PATHS)
    works_or_says_why(lambda: plan_of(folder / other))


def assignments(case: st.DataObject, folder: Path) -> None:
    (folder / "suite.yaml").write_text(SUITE)
    keys = st.lists(KEYS | ODD_TEXTS, min_size=1, max_size=4).map(".".join)
    values = ODD_TEXTS | VALUES.map(lambda value: yaml.safe_dump(value)) | st.text(max_size=20)
    given_ = [f"{case.draw(keys)}={case.draw(values)}" for _ in range(case.draw(st.integers(1, 3)))]
    works_or_says_why(lambda: plan_of(folder / "suite.yaml", *given_))


def method_names(case: st.DataObject, folder: Path) -> None:
    name = case.draw(st.sampled_from(sorted(methods())))
    declared = sorted(methods()[name].parameters) or ["k"]
    parameter = st.tuples(
        st.sampled_from(declared) | ODD_TEXTS, ODD_TEXTS | SCALARS.map(str) | st.text(max_size=9)
    ).map("=".join)
    parts = st.lists(parameter | ODD_TEXTS, max_size=3).map(",".join)
    form = case.draw(
        st.sampled_from(["{0}[{1}]", "{0}+rgal[{1}]", "{0}[{1}]+rgal", "{1}", "{0}+{1}", "{0}{1}"])
    )
    text = form.format(name, case.draw(parts))
    works_or_says_why(lambda: resolve(text))


def checkpoints(case: st.DataObject, folder: Path) -> None:
    net, tensors = lenet(), dict(lenet().state_dict())
    name = case.draw(st.sampled_from(sorted(tensors)))
    odd: list[Any] = [torch.zeros(0), torch.tensor(1e38), torch.full((2, 2), float("nan")), "x", None]
    odd += [tensors[name], tensors[name].double(), tensors[name].to(torch.int8)]
    tensors[name] = odd[case.draw(st.integers(0, len(odd) - 1))]
    if case.draw(st.booleans()):
        tensors[case.draw(st.text(max_size=8) | ODD_TEXTS)] = tensors.pop(name)
    if case.draw(st.booleans()):
        content = save({key: value for key, value in tensors.items() if isinstance(value, torch.Tensor)})
    else:
        buffer = io.BytesIO()
        torch.save(([tensors], tensors, {"model": tensors}, 3)[case.draw(st.integers(0, 3))], buffer)
        content = buffer.getvalue()
    path = folder / case.draw(st.sampled_from(["w.pth", "w.safetensors", "w.onnx", "w"]))
    path.write_bytes(spoilt(case, content))
    works_or_says_why(lambda: load_weights(net, path, 10))
    works_or_says_why(lambda: Checkpoint(path).load(torch.device("cpu")))
    works_or_says_why(lambda: load_pool(path, (1, 8, 8), 10))


@cache
def lenet() -> torch.nn.Module:
    return nets.build("lenet5", 10, 1, 32)


@cache
def pictures() -> list[bytes]:
    kinds = [pixels(0), pixels(1, 1, 1), pixels(2, 8, 8, 1), pixels(3, 40, 2)]
    return [encoded(kinds[0], "JPEG"), encoded(kinds[0], "GIF"), *(encoded(kind) for kind in kinds)]


def parquet_shards(case: st.DataObject, folder: Path) -> None:
    for split in case.draw(st.lists(st.sampled_from(["train", "test", "val", "x"]), max_size=3, unique=True)):
        count = case.draw(st.integers(0, 4))
        images = [spoilt(case, case.draw(st.sampled_from(pictures()))) for _ in range(count)]
        struct = [{"bytes": image, "path": None} for image in images]
        labels = st.integers(-2, 3) | st.integers(0, 2**63 - 1) | st.none()
        kinds = [
            pa.array([case.draw(labels) for _ in range(count)], pa.int64()),
            pa.array([case.draw(st.integers(0, 2**64 - 1)) for _ in range(count)], pa.uint64()),
            pa.array([case.draw(st.text(max_size=4)) for _ in range(count)]),
            pa.array([case.draw(st.floats()) for _ in range(count)]),
            pa.array([[1]] * count),
        ]
        table = pa.table(
            {
                case.draw(st.sampled_from(["image", "img", "", "\0"])): case.draw(
                    st.sampled_from([pa.array(struct), pa.array(images), pa.array([1] * count)])
                ),
                case.draw(st.sampled_from(["label", "y", "image"])): case.draw(st.sampled_from(kinds)),
            }
        )
        about = json.dumps({"info": {"features": {"label": case.draw(JSON)}}})
        buffer = io.BytesIO()
        pq.write_table(table.replace_schema_metadata({"huggingface": about}), buffer)
        (folder / f"{split}.parquet").write_bytes(spoilt(case, buffer.getvalue()))
    works_or_says_why(lambda: data.load("mine", folder, case.draw(st.sampled_from([None, 8, 0]))))


def image_folders(case: st.DataObject, folder: Path) -> None:
    names = st.sampled_from(["train", "test", "val", "0", "1", "cat", "a b", "é", "-1", "9" * 30])
    for number in range(case.draw(st.integers(0, 5))):
        place = folder.joinpath(*case.draw(st.lists(names, max_size=3)))
        ending = case.draw(st.sampled_from([".png", ".jpg", ".JPEG", ".txt", "", ".npy"]))
        if not any(parent.is_file() for parent in (place, *place.parents)):
            place.mkdir(parents=True, exist_ok=True)
            picture = spoilt(case, case.draw(st.sampled_from(pictures())))
            (place / f"i{number}{ending}").write_bytes(picture)
    works_or_says_why(lambda: data.load("mine", folder))
    works_or_says_why(lambda: load_pool(folder, (3, 8, 8), 10))
    works_or_says_why(lambda: data.unlabelled.read_unlabelled(folder, (3, 8, 8)))


RECORDS: Mapping[str, tuple[str, ...]] = {
    "trial.json": ("schema", "key", "settings", "environment", "fingerprint"),
    "result.json": ("schema", "status", "reason", "last", "best", "images", "data_free", "image_note"),
    "export.json": ("measured",),
    "phases.json": ("phases",),
    "layers.json": ("layers",),
    "diversity.json": ("schema", "bins", "rounds", "embedding", "histograms", "after_warmup"),
}


def stored_records(case: st.DataObject, folder: Path) -> None:
    trial = add_trial(folder, "a" * 12)
    (trial / "diversity.json").write_text(json.dumps(record()))
    (trial / "samples.png").write_bytes(spoilt(case, grid_png()))
    for _ in range(case.draw(st.integers(1, 3))):
        path = trial / case.draw(st.sampled_from(sorted(RECORDS)))
        content: Any = {"schema": 1}
        if path.exists() and isinstance(stored := parsed(path), dict):
            content = stored
        inside = content.get("settings") if case.draw(st.booleans()) else content
        inside = inside if isinstance(inside, dict) else content
        inside[case.draw(st.sampled_from(RECORDS[path.name]) | st.sampled_from(sorted(inside) or ["x"]))] = (
            case.draw(JSON)
        )
        path.write_bytes(spoilt(case, json.dumps(content).encode()))
    (trial / "metrics.jsonl").write_bytes(spoilt(case, (trial / "metrics.jsonl").read_bytes()))
    works_or_says_why(lambda: tables_of(Store(folder)))


def parsed(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return None


def tables_of(store: Store) -> None:
    records = load_records(store)
    assert all(record.reason.isprintable() for record in (*records, *damaged_records(records)))
    results = newest(identified(make_frames(records)[0]))
    for load in (load_layers, load_phases, load_diversity):
        load(store, results)
    for table in itertools.chain.from_iterable(all_tables(results).values()):
        assert table.text("md")


# Running them --------------------------------------------------------------------------------------------------------

KINDS = (
    suite_files,
    assignments,
    method_names,
    checkpoints,
    parquet_shards,
    image_folders,
    stored_records,
)


@pytest.mark.parametrize(
    "examples",
    [
        pytest.param(QUICK // len(KINDS), id="quick"),
        pytest.param(-(-MANY // len(KINDS)), id="many", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_it_works_or_one_line_says_why(
    kind: Callable[[st.DataObject, Path], None],
    examples: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    no_shared_cache(tmp_path, monkeypatch)
    folder = tmp_path / "given"

    @settings(max_examples=examples, suppress_health_check=list(HealthCheck))
    @given(case=st.data())
    def check(case: st.DataObject) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        kind(case, folder)

    check()
