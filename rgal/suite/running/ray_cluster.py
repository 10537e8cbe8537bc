"""A Ray cluster as the site of a run: what it declares, what its nodes share, and how this process connects to it."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import signal
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rgal
from rgal.core.errors import UserError, first_line
from rgal.suite.plan.trial import Trial, file_hash
from rgal.suite.running.devices import Places
from rgal.suite.running.jobs import WorkJob
from rgal.suite.running.ray_engine import PATHS, RayEngine
from rgal.suite.running.resources import BIG_IMAGE, HowToRun
from rgal.suite.running.runner import Plan
from rgal.suite.store.folders import Store

CONNECT_SECONDS = 10.0
PROBE_SECONDS = 120.0  # until every node has answered: a first one builds the environment there


def unseen(paths: Mapping[str, str]) -> list[str]:
    """Return which of some paths this node does not see as the driver does; the values are what that saw."""
    return [path for path, seen in paths.items() if seen_at(Path(path)) != seen]


def seen_at(path: Path) -> str:
    """Describe what is at a path, so that two machines can compare: names in a folder, or a file's size."""
    try:
        return " ".join(sorted(os.listdir(path))[:50]) if path.is_dir() else str(path.stat().st_size)
    except OSError as error:
        return f"nothing ({error.strerror})"


@dataclass(frozen=True)
class Node:
    """A node of the cluster and what it declares."""

    id: str
    name: str
    cpus: float
    gpus: float


class Pool(Places):
    """Room for so many tasks anywhere in the cluster: Ray finds the node and the GPU."""

    def __init__(self, device: str, at_once: int) -> None:
        super().__init__([device], at_once, at_once)

    def give(self, job: WorkJob, device: str) -> bool:
        super().give(job, device)
        return False  # who shares a GPU with whom is not known here


class RayCluster:
    """A cluster that this process is connected to.

    Args:
        how: what the user says about running.
        nodes: those that live.
    """

    def __init__(self, how: HowToRun, nodes: Sequence[Node]) -> None:
        self.how, self.nodes = how, nodes
        self.device, self.plugins = "cpu", dict[str, str]()

    def choose_device(self, text: str) -> str:
        """As `devices.choose_device`, of the cluster: the machine of the driver may have no GPU."""
        has_gpu = any(node.gpus for node in self.nodes)
        if text not in ("auto", "cpu", "cuda"):
            raise UserError(f"--engine ray: device '{text}': expected auto, cpu or cuda; Ray chooses the GPU")
        if text == "cuda" and not has_gpu:
            raise UserError(f"--engine ray: --device cuda: no node declares a GPU ({self._declared()})")
        return text if text != "auto" else "cuda" if has_gpu else "cpu"

    def prepare(self, plan: Plan, store: Store) -> None:
        """Say at once what can never be scheduled and what nodes do not share; copy plug-ins to where all see them."""
        self.device = plan.device
        self.how.check_sharing(self.device)
        if not self._room():
            cpus, gpus = self._needs()
            wanted = f"{cpus} CPUs" + (f" and {gpus:g} GPU" if gpus else "")
            raise UserError(
                f"--engine ray: a trial takes {wanted} of a node, which none has ({self._declared()}); --threads N"
            )
        self.plugins = {name: _shipped(Path(name), store.root) for name in plan.suite.plugins}
        self._probe(plan.trials[0], store.root)

    def share(self, jobs: int) -> tuple[int, int]:
        slots = self._room() if self.how.slots is None else self.how.slots
        return max(1, min(slots, jobs)), self._needs()[0]

    def share_of_teachers(self, slots: int, teachers: int, pixels: int) -> tuple[int, int]:
        """As on one machine: teachers of small images have one thread, so that they are the same ones."""
        return max(1, min(slots, teachers)), self._needs()[0] if pixels >= BIG_IMAGE else 1

    def places(self, at_once: int) -> Places:
        return Pool(self.device, at_once)

    def engine(self) -> RayEngine:
        return RayEngine(*self._needs(), self.plugins)

    def _needs(self) -> tuple[int, float]:
        """CPUs and GPUs of a task. A GPU's trials share its node's cores out; else a trial has one."""
        if self.device == "cpu":
            return self.how.threads or 1, 0.0
        share = self.how.per_device or 1
        cores = [int(node.cpus // (node.gpus * share)) for node in self.nodes if node.gpus]
        return self.how.threads or max(1, min(cores)), 1 / share

    def _room(self) -> int:
        """How many tasks all nodes together take at a time."""
        cpus, gpus = self._needs()
        by_cpus = [int(node.cpus // cpus) for node in self.nodes]
        by_gpus = [int(node.gpus / gpus + 1e-6) for node in self.nodes] if gpus else by_cpus
        return sum(map(min, by_cpus, by_gpus))

    def _declared(self) -> str:
        shown = [f"{node.name}: {node.cpus:g} CPUs, {node.gpus:g} GPUs" for node in self.nodes[:4]]
        return "; ".join([*shown, "..."] if len(self.nodes) > 4 else shown)

    def _probe(self, trial: Trial, root: Path) -> None:
        """Let every node look at the folders. UserError for one that does not see what is here."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        probe = root / f".probe-{secrets.token_hex(8)}"
        probe.write_text("seen")
        given = [Path(str(getattr(trial, name))).resolve() for name in PATHS if getattr(trial, name)]
        paths = {str(path): seen_at(path) for path in (probe, *given)}
        task: Any = ray.remote(num_cpus=0, max_retries=0)(unseen)
        asked: dict[Any, Node] = {}
        try:
            for node in self.nodes:
                there = NodeAffinitySchedulingStrategy(node.id, soft=False)
                asked[task.options(scheduling_strategy=there).remote(paths)] = node
            done, late = ray.wait(list(asked), num_returns=len(asked), timeout=PROBE_SECONDS)
            if late:
                raise UserError(
                    f"--engine ray: node {asked[late[0]].name} did not answer in {PROBE_SECONDS:g} s"
                )
            for answer in done:
                if missing := _answer(answer, asked[answer]):
                    what = root if missing[0] == str(probe) else missing[0]
                    raise UserError(
                        f"--engine ray: node {asked[answer].name} does not see {what} as this machine does: results "
                        "and data must lie in folders that all nodes share, under the same path"
                    )
        finally:
            probe.unlink(missing_ok=True)


def _answer(reference: Any, node: Node) -> list[str]:
    import ray

    try:
        missing: list[str] = ray.get(reference)
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None) or error
        raise UserError(
            f"--engine ray: node {node.name} cannot run rgal: {first_line(cause)[:200]}"
        ) from error
    return missing


def _shipped(plugin: Path, root: Path) -> str:
    """Copy a plug-in's file into the results directory, which all nodes see. Return the copy's path."""
    copy = root / "plugins" / file_hash(plugin) / plugin.name
    copy.parent.mkdir(parents=True, exist_ok=True)
    if not copy.exists():
        shutil.copy(plugin, copy)
    return str(copy)


def _check_address(address: str) -> None:
    """Refuse HOST:PORT where nothing listens: Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if "/" in address or not host or not port.isdecimal():
        return  # "auto", or a form that Ray judges at once
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, OverflowError, ValueError) as error:
        raise _no_cluster(address, first_line(error)[:120]) from error


def _no_cluster(address: str, reason: str) -> UserError:
    return UserError(f"--address {address}: no Ray cluster answers ({reason}); `ray start --head` starts one")


@contextmanager
def connected(how: HowToRun) -> Iterator[RayCluster]:
    """Connect to the cluster at `how.address` during the block; its nodes get the code of this rgal.

    Raises:
        UserError: no cluster answers there.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    _check_address(how.address)
    import ray

    before = signal.getsignal(signal.SIGTERM)
    code = {"py_modules": [str(Path(rgal.__file__).parent)], "excludes": ["**/__pycache__"]}
    try:
        ray.init(address=how.address, log_to_driver=False, logging_level=logging.ERROR, runtime_env=code)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise _no_cluster(how.address, first_line(error)[:120]) from error
    finally:
        signal.signal(signal.SIGTERM, before)  # Ray puts a handler of its own there
    try:
        yield RayCluster(how, living_nodes())
    finally:
        ray.shutdown()


def living_nodes() -> list[Node]:
    """List the nodes of the cluster that is connected."""
    import ray

    nodes = []
    for one in ray.nodes():
        if one["Alive"]:
            cpus, gpus = (float(one["Resources"].get(name, 0)) for name in ("CPU", "GPU"))
            nodes.append(Node(one["NodeID"], one["NodeManagerHostname"], cpus, gpus))
    return sorted(nodes, key=lambda node: node.name)
