"""A web server on this machine that serves, withholds or breaks off files, and a clean place to download to."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest


@dataclass
class Server:
    """What is served, and what was asked for.

    Attributes:
        files: Path in the URL, with its leading slash → body.
        missing: Bytes to promise in Content-Length beyond those that are sent.
        requests: The paths asked for so far.
    """

    http: ThreadingHTTPServer
    files: dict[str, bytes] = field(default_factory=dict)
    missing: int = 0
    requests: list[str] = field(default_factory=list)

    def serve(self, name: str, body: bytes) -> str:
        """Serves `body`; returns its URL."""
        self.files[f"/{name}"] = body
        return self.url(name)

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.http.server_address[1]}/{name}"

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    """A running web server, closed at the end."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            running.requests.append(self.path)
            body = running.files.get(self.path)
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Length", str(len(body or b"") + running.missing))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *args: object) -> None:
            pass

    running = Server(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
    # shutdown() waits for the next poll, half a second by default
    thread = threading.Thread(target=running.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield running
    running.close()
    thread.join()
    gc.collect()  # a connection that was left open warns here, in the test that left it


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache and no `$VBAYES_DATA`; loopback is reached directly, whatever proxy is set."""
    monkeypatch.delenv("VBAYES_DATA", raising=False)
    monkeypatch.setenv("VBAYES_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / "cache"
