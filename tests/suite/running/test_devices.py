"""How jobs are spread over devices, with made-up lists of them: no GPU is needed, and none is touched."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from rgal.core.errors import UserError
from rgal.engine.options import Position
from rgal.suite.running.devices import Places, choose_device, chosen_devices
from rgal.suite.running.drive import Memory, ProgressMessage
from rgal.suite.running.jobs import Outcome, TrialJob, WorkJob, on_device
from rgal.suite.running.machine import environment
from rgal.suite.running.scheduler import Assignment, Listener, Scheduler
from rgal.suite.store.claims import Claims
from tests.helpers.suites import SUITE, fails
from tests.helpers.trials import TRIAL

GIB = 2**30


@pytest.fixture
def eight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)


def job(seed: int = 0, method: str = "plain", root: Path = Path()) -> TrialJob:
    return TrialJob(root, replace(TRIAL, seed=seed, method=method, device="cuda"), "f")


@pytest.mark.usefixtures("eight")
def test_cuda_is_all_visible_gpus() -> None:
    assert choose_device("auto") == "cuda"
    assert chosen_devices("cuda", None) == tuple(f"cuda:{number}" for number in range(8))
    assert chosen_devices("cuda", "0,1,3") == ("cuda:0", "cuda:1", "cuda:3")
    assert chosen_devices("cuda", " 3, 03,0") == ("cuda:3", "cuda:0")
    assert chosen_devices("cuda:2", None) == ("cuda:2",)
    assert chosen_devices("cpu", None) == ("cpu",)


@pytest.mark.parametrize("text", ["", "8", "0,,1", "-1", "a", "0-3", "²", "0;1", "9" * 300])
@pytest.mark.usefixtures("eight")
def test_nonsense_for_devices_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="expected numbers from 0 to 7"):
        chosen_devices("cuda", text)


@pytest.mark.parametrize("device", ["cpu", "cuda:1"])
@pytest.mark.usefixtures("eight")
def test_numbers_need_all_gpus_to_choose_from(device: str) -> None:
    with pytest.raises(UserError, match="give --device cuda"):
        chosen_devices(device, "0,1")


def test_the_command_line_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "suite.yaml").write_text(SUITE)
    for arguments, said in (
        (["--devices", "0"], "the device is cpu"),
        (["--per-device", "2"], "trials share GPUs"),
        (["--per-device", "0"], "expected 1 or more"),
    ):
        assert said in fails(tmp_path, capsys, "--device", "cpu", *arguments)


def test_two_share_each_of_three() -> None:
    places = Places(["cuda:0", "cuda:1", "cuda:3"], at_once=100, per_device=2)
    taken = [places.take(job(seed)) for seed in range(7)]
    assert taken == [*("cuda:0", "cuda:1", "cuda:3") * 2, None]
    assert places.give(job(1), "cuda:1")
    assert places.take(job(8)) == "cuda:1"


def test_jobs_limits_all_devices_together() -> None:
    places = Places(["cuda:0", "cuda:1"], at_once=3, per_device=4)
    assert [places.take(job(seed)) for seed in range(4)] == ["cuda:0", "cuda:1", "cuda:0", None]


def test_one_a_gpu_until_it_is_known_what_a_trial_needs() -> None:
    places = Places(["cuda:0", "cuda:1"], at_once=100)
    assert [places.take(job(seed)) for seed in range(3)] == ["cuda:0", "cuda:1", None]
    places.learn(on_device(job(0), "cuda:0"), Memory(20 * GIB, 80 * GIB))  # three fit into 90 % of 80 GiB
    assert [places.take(job(seed)) for seed in range(4)] == ["cuda:0", "cuda:0", None, None]
    places.learn(on_device(job(1), "cuda:1"), Memory(30 * GIB, 80 * GIB))  # it has grown: two fit
    assert [places.take(job(seed)) for seed in range(2)] == ["cuda:1", None]


def test_another_method_is_expected_to_need_the_most_that_any_did() -> None:
    places = Places(["cuda:0"], at_once=100)
    places.take(job())
    places.learn(on_device(job(), "cuda:0"), Memory(35 * GIB, 80 * GIB))
    assert places.take(job(method="cmi")) == "cuda:0"
    assert places.take(job(method="cmi")) is None  # until that one tells what it needs
    places.learn(on_device(job(method="cmi"), "cuda:0"), Memory(5 * GIB, 80 * GIB))
    assert places.take(job(method="cmi")) == "cuda:0"
    assert places.take(job()) is None


def test_five_at_most_share_a_gpu() -> None:
    places = Places(["cuda:0"], at_once=100)
    places.take(job())
    places.learn(on_device(job(), "cuda:0"), Memory(GIB, 80 * GIB))
    assert [places.take(job(seed)) for seed in range(5)] == ["cuda:0"] * 4 + [None]


class Fake:
    """An engine that ends each job at once, or as `ends` says by the number of the job's start."""

    def __init__(self, *ends: Outcome) -> None:
        self.ends, self.started, self.now = list(ends), list[Assignment](), list[Assignment]()
        self.most: Counter[str] = Counter()

    def start(self, assignment: Assignment) -> None:
        self.started.append(assignment)
        self.now.append(assignment)

    def wait(self, seconds: float, report: Any, stopping: Any) -> list[tuple[Assignment, Outcome]]:
        self.most |= Counter(one.device for one in self.now)
        ended, self.now = self.now, []
        for one in ended:
            report(
                one.job, ProgressMessage(Position("x", 1, 1, 0.5, 1.0), None, "", Memory(9 * GIB, 80 * GIB))
            )
            one.claim.release()
        return [(one, self.ends.pop(0) if self.ends else Outcome("finished", result={})) for one in ended]

    def stop(self) -> None: ...

    def close(self) -> None: ...


def schedule(engine: Fake, places: Places, jobs: list[WorkJob], root: Path) -> list[Outcome]:
    outcomes: list[Outcome] = []
    listener = Listener(lambda *_: None, lambda _, outcome: outcomes.append(outcome), print)
    assert Scheduler(Claims(root), engine, places, 1, listener).run(jobs) == 0
    return outcomes


def test_twenty_trials_on_four_gpus(tmp_path: Path) -> None:
    engine = Fake()
    places = Places([f"cuda:{number}" for number in range(4)], at_once=100)
    outcomes = schedule(engine, places, [job(seed, root=tmp_path) for seed in range(20)], tmp_path)
    assert len(outcomes) == 20
    assert sorted(one.job.trial.seed for one in engine.started) == list(range(20))
    assert [one.device for one in engine.started[:4]] == ["cuda:0", "cuda:1", "cuda:2", "cuda:3"]
    assert set(engine.most.values()) == {4}  # sixteen were left when it was known that five would fit
    keys = {one.job.trial.key for one in engine.started}
    assert keys == {job(seed).trial.key for seed in range(20)}  # which GPU it is changes no key


def test_memory_that_was_too_little_for_two_is_given_to_one(tmp_path: Path) -> None:
    full = Outcome("failed", "OutOfMemoryError", "memory")
    engine, places = Fake(full), Places(["cuda:0"], at_once=100, per_device=2)
    outcomes = schedule(engine, places, [job(seed, root=tmp_path) for seed in range(3)], tmp_path)
    assert [one.status for one in outcomes] == ["finished"] * 3
    assert [one.job.trial.seed for one in engine.started].count(0) == 2
    alone = schedule(Fake(full), Places(["cuda:0"], 100, 2), [job(7, root=tmp_path)], tmp_path)
    assert alone == [full]


def test_the_record_names_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: f"Made-up {'AB'[number]}")
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    assert environment(torch.device("cuda:1"))["gpu"] == "Made-up B (cuda:1)"
    assert environment(torch.device("cuda"))["gpu"] == "Made-up A (cuda:0)"
    assert environment(torch.device("cpu"))["gpu"] is None
    assert on_device(job(), "cuda:1").trial.settings()["device"] == "cuda:1"
