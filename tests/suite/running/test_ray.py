"""Ray as the engine: two nodes on this machine, one of which dies; a cluster that `ray start` made."""

from __future__ import annotations

import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rgal import cli
from rgal.core.errors import UserError
from rgal.suite.running.ray_cluster import Node, RayCluster
from rgal.suite.running.ray_engine import RayEngine
from rgal.suite.running.resources import BIG_IMAGE, HowToRun, share_cores_of_teachers
from tests.helpers.runners import numbers, runner
from tests.helpers.suites import SUITE

BIG, SMALL, HEAD = Node("a", "big", 32, 4), Node("b", "small", 8, 1), Node("c", "head", 4, 0)


def cluster_of(*nodes: Node, **how: Any) -> RayCluster:
    cluster = RayCluster(HowToRun(engine="ray", **how), nodes)
    cluster.device = cluster.choose_device("auto")
    return cluster


def test_the_cluster_is_asked_and_not_this_machine() -> None:
    assert cluster_of(HEAD, BIG).device == "cuda" and cluster_of(HEAD).device == "cpu"
    with pytest.raises(UserError, match="no node declares a GPU"):
        cluster_of(HEAD).choose_device("cuda")
    with pytest.raises(UserError, match="expected auto, cpu or cuda"):
        cluster_of(HEAD).choose_device("cuda:1")


@pytest.mark.parametrize(
    ("nodes", "how", "expected"),
    [
        ((HEAD, BIG, SMALL), {}, (5, 8)),  # a task a GPU, with its share of the cores
        ((HEAD, BIG, SMALL), {"per_device": 2}, (10, 4)),
        ((HEAD, BIG, SMALL), {"threads": 16}, (2, 16)),  # cores are the narrower
        ((HEAD, BIG, SMALL), {"slots": 3}, (3, 8)),
        ((HEAD,), {}, (4, 1)),
        ((HEAD,), {"threads": 3}, (1, 3)),
    ],
)
def test_as_many_tasks_as_there_is_room_for(
    nodes: tuple[Node, ...], how: dict[str, Any], expected: tuple[int, int]
) -> None:
    cluster = cluster_of(*nodes, **how)
    assert cluster.share(100) == expected
    assert cluster.share(1) == (1, expected[1])


def test_teachers_of_small_images_have_one_thread_as_on_one_machine() -> None:
    """Other threads round otherwise: the teacher would be another one."""
    how = HowToRun(engine="ray", threads=3)
    for pixels in (64, BIG_IMAGE):
        assert (
            cluster_of(HEAD, threads=3).share_of_teachers(4, 2, pixels)[1]
            == share_cores_of_teachers(how, 4, 2, pixels)[1]
        )


class LostRay:
    """What the engine calls of a Ray whose cluster went away."""

    class exceptions:  # noqa: N801
        class RayError(Exception):
            pass

    def wait(self, references: list[Any], **_: Any) -> tuple[list[Any], list[Any]]:
        return [], references

    def get(self, reference: Any) -> Any:
        raise self.exceptions.RayError("the actor died\nbecause its node did")

    def cancel(self, reference: Any, force: bool = False) -> None:
        self.get(reference)

    kill = get


def test_a_lost_cluster_is_one_line_and_claims_are_given_back() -> None:
    engine = object.__new__(RayEngine)
    released: list[str] = []
    claim = SimpleNamespace(owner=SimpleNamespace(token="t"), release=lambda: released.append("t"))
    board = SimpleNamespace(take=SimpleNamespace(remote=lambda: None))
    engine.__dict__.update(
        _ray=LostRay(), _board=board, _begun=set(), _running={"a": SimpleNamespace(claim=claim)}
    )
    with pytest.raises(
        UserError, match=r"--engine ray: the cluster is gone \(the actor died\); the same command"
    ):
        engine.wait(0.0, lambda *_: None, lambda: 0)
    engine.close()
    assert released == ["t"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--engine", "rai"], "did you mean 'ray'?"),
        (["--engine", "ray", "--jobs", "0"], "--jobs 0: on this machine alone"),
        (["--engine", "ray", "--devices", "0,1"], "--devices 0,1: on this machine alone"),
    ],
)
def test_nonsense_is_refused(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(arguments) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1:99999999", "no.such.host.invalid:6379"])
def test_an_address_where_nothing_listens_is_one_line(
    address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ray")
    assert cli.main(["--task", "kd", "--budget", "smoke", "--engine", "ray", "--address", address]) == 2
    assert f"--address {address}: no Ray cluster answers" in capsys.readouterr().err


def test_without_ray_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("rgal.suite.running.sites.find_spec", lambda name: None)
    assert cli.main(["--budget", "smoke", "--engine", "ray"]) == 2
    assert "pip install 'rgal[ray]'" in capsys.readouterr().err


PLUGIN = """
from rgal.baselines.plain import plain
from rgal.methods.registry import method

@method("shipped", reference="a plug-in", tasks=("kd",))
def shipped():
    return plain()
"""


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head that takes no trial, and two nodes of a core each."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        yield cluster, [cluster.add_node(num_cpus=1), cluster.add_node(num_cpus=1)]
    finally:
        cluster.shutdown()


def suite_of(folder: Path, seeds: int, rounds: int, methods: str = "plain") -> None:
    text = SUITE.replace("rounds: 1", f"rounds: {rounds}").replace("[plain]", f"[{methods}]")
    (folder / "suite.yaml").write_text(text.replace("seeds: [0]", f"seeds: {list(range(seeds))}"))


def local(folder: Path, *more: str) -> dict[str, str]:
    """The numbers of the engine of this machine."""
    arguments = ["--suite", str(folder / "suite.yaml"), "--results", str(folder / "here")]
    assert cli.main([*arguments, "--jobs", "0", "--threads", "1", *more]) == 0
    return numbers(folder / "here")


@pytest.mark.slow
def test_a_node_dies_in_the_middle_of_a_trial(tmp_path: Path, nodes: Any) -> None:
    cluster, (_, victim) = nodes
    suite_of(tmp_path, seeds=2, rounds=300)
    run = runner(tmp_path, "r", "--engine", "ray", "--address", cluster.address)
    try:
        while len(list((tmp_path / "r").glob("trials/*/metrics.jsonl"))) < 2:
            assert run.poll() is None, run.communicate()[0]
            time.sleep(0.1)
        time.sleep(2)
        assert not list((tmp_path / "r").glob("trials/*/result.json")), "make the trials longer"
        cluster.remove_node(victim, allow_graceful=False)
        said, _ = run.communicate(timeout=400)
    finally:
        run.kill()
    assert run.returncode == 0, said
    assert numbers(tmp_path / "r") == local(tmp_path)


@pytest.mark.slow
def test_plug_ins_are_shipped_and_what_is_not_shared_is_said(tmp_path: Path, nodes: Any) -> None:
    cluster, _ = nodes
    suite_of(tmp_path, seeds=1, rounds=1, methods="plain, shipped")
    (tmp_path / "own.py").write_text(PLUGIN)
    there = ("--engine", "ray", "--address", cluster.address)
    run = runner(tmp_path, "r", *there, "--plugin", str(tmp_path / "own.py"))
    said, _ = run.communicate(timeout=400)
    assert run.returncode == 0, said
    assert numbers(tmp_path / "r") == local(tmp_path, "--plugin", str(tmp_path / "own.py"))
    for arguments, expected in (
        (("--threads", "2"), "a trial takes 2 CPUs of a node, which none has"),
        (("--device", "cuda"), "no node declares a GPU"),
    ):
        run = runner(tmp_path, "r", *there, "--methods", "plain", *arguments)
        said, _ = run.communicate(timeout=400)
        assert run.returncode == 2 and expected in said, said


@pytest.mark.slow
def test_a_cluster_that_ray_start_made_is_stopped_cleanly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that asks for a token, which the runner finds in its environment."""
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    script = str(Path(sys.executable).parent / "ray")
    start = [
        "start",
        "--head",
        "--node-ip-address=127.0.0.1",
        "--port=6399",
        "--num-cpus=1",
        "--include-dashboard=false",
    ]
    subprocess.run([script, *start, "--disable-usage-stats"], check=True, capture_output=True, timeout=120)
    try:
        suite_of(tmp_path, seeds=1, rounds=4000)
        there = ("--engine", "ray", "--address", "127.0.0.1:6399")
        run = runner(tmp_path, "r", *there)
        while not list((tmp_path / "r").glob("trials/*/metrics.jsonl")):
            assert run.poll() is None, run.communicate()[0]
            time.sleep(0.1)
        run.terminate()
        said, _ = run.communicate(timeout=120)
        assert run.returncode == 143, said
        assert list((tmp_path / "r").glob("trials/*/checkpoint.pt"))
        assert not list((tmp_path / "r" / ".claims").iterdir())
        suite_of(tmp_path, seeds=1, rounds=2)
        run = runner(tmp_path, "again", *there)
        said, _ = run.communicate(timeout=400)
        assert run.returncode == 0, said
        assert numbers(tmp_path / "again") == local(tmp_path)
    finally:
        subprocess.run([script, "stop", "--force"], check=False, capture_output=True, timeout=120)
