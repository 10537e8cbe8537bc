"""`--watch`: serves the page of a results directory on this machine, with what is running now above it.

Nobody but this machine is served: the socket is that of the loopback address, and requests under another name, which a
foreign page could make through a name of its own, are refused. Trials are only looked at; the page is rendered again
when one has finished.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from typing import Any

from rgal.core.errors import UserError
from rgal.suite.running.status import Standing, check_results, counts, standings
from rgal.suite.store.records import printable

HOST = "127.0.0.1"
PORT = 8765  # the first that is tried
PORTS = 20
LOOK_SECONDS = 2.0  # between two looks at the store; longer where one takes long
OWN = {"/": "live.html", "/live.css": "live.css", "/live.js": "live.js"}
POLICY = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; frame-src 'self'; img-src data:"
NOTHING_YET = b"<!DOCTYPE html><title>Results</title><p>No trial has finished yet.</p>"


class Watched:
    """A results directory that somebody works on: where its trials stand, and a page that follows them.

    Args:
        root: the results directory.
        render: writes the page of all that has finished; UserError if nothing has.
    """

    def __init__(self, root: Path, render: Callable[[], object]) -> None:
        check_results(root)
        self.root, self.render = root, render
        self.standings: list[Standing] = []
        self.rendered = 0
        self.trouble = ""
        self._finished: set[str] | None = None

    def look(self) -> None:
        """See where the trials stand, and render the page if others have finished than at the last look."""
        self.standings = standings(self.root)
        finished = {one.name for one in self.standings if one.state == "finished"}
        if finished == self._finished:
            return
        self._finished = finished
        try:
            self.render()
        except UserError as error:
            self.trouble = str(error) if finished else ""
        else:
            self.rendered, self.trouble = self.rendered + 1, ""

    def follow(self, over: threading.Event) -> None:
        """Look again and again until it is over, most of the time waiting."""
        while True:
            began = time.monotonic()
            try:
                self.look()
            except OSError as error:  # the directory is away for a while
                self.trouble = printable(str(error))
            if over.wait(max(LOOK_SECONDS, 5 * (time.monotonic() - began))):
                return

    def told(self) -> dict[str, Any]:
        """Return what the live page shows."""
        work = [one.__dict__ for one in self.standings if one.state == "running"]
        failed = [one.__dict__ for one in self.standings if one.state == "failed"]
        said = f"{counts(self.standings)}{f'; {self.trouble}' if self.trouble else ''}"
        return {"counts": said, "running": work, "failed": failed, "rendered": self.rendered}


class Handler(SimpleHTTPRequestHandler):
    """Answers with the live page, where trials stand, and the files that the page of results links to."""

    server_version = "rgal"

    def __init__(self, *about: Any, watched: Watched) -> None:
        self.watched = watched
        super().__init__(*about, directory=str(watched.root))

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        name = self.headers.get("Host", "").rpartition(":")[0]
        if name not in (HOST, "localhost"):
            self.send_error(HTTPStatus.FORBIDDEN, "asked for under another name than this machine's")
        elif path in OWN:
            content = files("rgal.reporting.live").joinpath(OWN[path]).read_bytes()
            self._answer(content, self.guess_type(OWN[path]), POLICY)
        elif path == "/live.json":
            self._answer(json.dumps(self.watched.told()).encode(), "application/json")
        elif path == "/report.html" and not (self.watched.root / "report.html").is_file():
            self._answer(NOTHING_YET, "text/html")
        elif "/." in path or path.endswith("/"):
            self.send_error(HTTPStatus.NOT_FOUND)
        else:
            super().do_GET()

    do_HEAD = do_GET  # answered whole: nobody asks so but to see whether something is there

    def _answer(self, content: bytes, kind: str, policy: str = "") -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        if policy:
            self.send_header("Content-Security-Policy", policy)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing of what is asked."""


def open_server(watched: Watched, port: int = 0) -> ThreadingHTTPServer:
    """Open a server for this machine alone.

    Args:
        watched: what is served.
        port: the one to use; 0 for the first free one from `PORT` on.

    Raises:
        UserError: the port is taken, or no port is free.
    """
    wanted = (port,) if port else range(PORT, PORT + PORTS)
    for number in wanted:
        try:
            return ThreadingHTTPServer((HOST, number), partial(Handler, watched=watched))
        except (OSError, OverflowError) as error:
            trouble = error
    raise UserError(f"--watch {wanted[0]}: {getattr(trouble, 'strerror', None) or trouble}; choose another")


def serve(root: Path, render: Callable[[], object], say: Callable[[str], None], port: int = 0) -> None:
    """Serve a results directory until this process is told to stop."""
    watched = Watched(root, render)
    over = threading.Event()
    with open_server(watched, port) as server:
        follower = threading.Thread(target=watched.follow, args=(over,), name="follower", daemon=True)
        follower.start()
        say(f"results of {printable(str(root))}: http://{HOST}:{server.server_address[1]}/  (Ctrl-C ends)")
        try:
            server.serve_forever()
        finally:
            over.set()
