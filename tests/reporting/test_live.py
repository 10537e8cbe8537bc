"""`--watch`: the live page, what it is told, who is served, and that results are rendered as trials finish."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from rgal import cli
from rgal.core.errors import UserError
from rgal.reporting.live import server as module
from rgal.reporting.live.server import Watched, open_server, serve
from rgal.suite.store.claims import Claims
from tests.helpers.store_builders import add_trial, change, settings

Answer = tuple[int, bytes, str]


class Renderer:
    """Counts how often the page was rendered, and writes one."""

    def __init__(self, root: Path) -> None:
        self.root, self.times = root, 0

    def __call__(self) -> None:
        self.times += 1
        if not (self.root / "trials").exists():
            raise UserError("no trial in it")
        (self.root / "report.html").write_text(f"<p>rendered {self.times} times")


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    add_trial(tmp_path, "aa", settings(seed=0))
    return Watched(tmp_path, Renderer(tmp_path))


@pytest.fixture
def address(watched: Watched) -> Iterator[int]:
    """The port at which `watched` is served."""
    with open_server(watched, 0) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def get(port: int, path: str, host: str = "", method: str = "GET") -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path, headers={"Host": host or f"127.0.0.1:{port}"})
    answer = connection.getresponse()
    return answer.status, answer.read(), answer.getheader("Content-Security-Policy") or ""


def test_it_renders_when_a_trial_has_finished_and_only_then(watched: Watched) -> None:
    renderer = watched.render
    assert isinstance(renderer, Renderer)
    for _ in range(3):
        watched.look()
    assert (renderer.times, watched.rendered) == (1, 1)
    folder = add_trial(watched.root, "bb", settings(seed=1))
    change(folder / "result.json", status="failed", reason="too hot")
    watched.look()
    assert renderer.times == 1 and [one["text"] for one in watched.told()["failed"]] == ["too hot"]
    add_trial(watched.root, "cc", settings(seed=2))
    watched.look()
    assert (renderer.times, watched.rendered) == (2, 2)


def test_it_tells_what_runs_and_how_far(watched: Watched, address: int) -> None:
    folder = add_trial(watched.root, "bb", settings(seed=1))
    (folder / "result.json").unlink()
    claim = Claims(watched.root).try_to_claim("trial-bb", "cmi seed 1")
    assert claim is not None
    claim.beat(0.25, "round 1/4", now=True)
    watched.look()
    told = json.loads(get(address, "/live.json")[1])
    assert told["counts"] == "2 trials: 1 finished, 1 running" and told["rendered"] == 1
    (running,) = told["running"]
    assert running["done"] == 0.25 and running["text"].startswith("round 1/4 | process ")


def test_the_live_page_holds_the_page_of_results(watched: Watched, address: int) -> None:
    status, page, policy = get(address, "/?again")
    assert status == 200 and b'src="/report.html"' in page and "default-src 'none'" in policy
    assert b"No trial has finished yet" in get(address, "/report.html")[1]
    watched.look()
    assert get(address, "/report.html")[1] == b"<p>rendered 1 times"
    for path in ("/live.css", "/live.js"):
        assert get(address, path)[0] == 200
    record = get(address, "/trials/kd-cmi-s0-aa/result.json")
    assert record[0] == 200 and json.loads(record[1])["status"] == "finished"
    assert get(address, "/live.json", method="HEAD")[0] == 200


@pytest.mark.parametrize(
    "path", ["/trials/", "/trials", "/.claims/trial-bb.1", "/../secret", "/%2e%2e/secret", "/nothing.png"]
)
def test_only_files_of_the_results_are_served(watched: Watched, address: int, path: str) -> None:
    (watched.root.parent / "secret").write_text("secret")
    status, content, _ = get(address, path)
    assert status in (301, 404) and b"secret" not in content.replace(b"/secret", b"")


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example:80", "[::1]:80", " "]
)
def test_other_names_are_refused(address: int, host: str) -> None:
    assert get(address, "/live.json", host)[0] == 403


def test_a_store_without_a_trial_is_waited_for(tmp_path: Path) -> None:
    watched = Watched(tmp_path, Renderer(tmp_path))
    watched.look()
    assert watched.told() == {"counts": "0 trials", "running": [], "failed": [], "rendered": 0}
    with pytest.raises(UserError, match="no such folder"):
        Watched(tmp_path / "no", Renderer(tmp_path))


def test_a_taken_port_is_said(watched: Watched, address: int) -> None:
    with pytest.raises(UserError, match=f"--watch {address}: .*; choose another"):
        open_server(watched, address)
    with pytest.raises(UserError, match="--watch 70000"):
        open_server(watched, 70000)


def test_serving_ends_with_the_process(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(self: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module.ThreadingHTTPServer, "serve_forever", stop)
    with pytest.raises(KeyboardInterrupt):
        serve(watched.root, watched.render, print)
    assert f"results of {watched.root}: http://127.0.0.1:" in capsys.readouterr().out
    assert cli.main(["--watch", "--results", str(watched.root / "no")]) == 2
    assert "no such folder" in capsys.readouterr().err
