"""A small web site on the loopback interface that can be told to misbehave."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Site:
    """What the server holds and does; tests change it between, or for, requests."""

    content: bytes
    etag: str | None = '"one"'
    faults: list[dict[str, Any]] = field(default_factory=list)
    """One entry is used up by each request; after the last one the server behaves."""
    ranges: bool = True
    """False: answers every request with the whole file."""
    checks_if_range: bool = True
    """False: sends the range of a changed file, as some servers do."""
    requests: list[dict[str, str]] = field(default_factory=list)
    """Headers of the requests so far, keys in lower case, with the path under ``path``."""
    port: int = 0
    released: threading.Event = field(default_factory=threading.Event)

    def url(self, name: str = "speech.tar.gz") -> str:
        return f"http://127.0.0.1:{self.port}/{name}"


@contextmanager
def serve(site: Site) -> Iterator[Site]:
    """Run `site` on a free port of 127.0.0.1 until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            headers = {key.lower(): value for key, value in self.headers.items()}
            site.requests.append({**headers, "path": self.path})
            fault = site.faults.pop(0) if site.faults else {}
            if fault.get("hang"):
                site.released.wait(10)
                return
            if "status" in fault:
                self.send_response(fault["status"])
                for key, value in fault.get("headers", {}).items():
                    self.send_header(key, value)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            body, start = site.content, 0
            asked = re.fullmatch(r"bytes=(\d+)-", headers.get("range", ""))
            same = not site.checks_if_range or headers.get("if-range") in (None, site.etag)
            if asked and site.ranges and same:
                start = int(asked[1])
                if start >= len(body):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(body)}")
                    self.end_headers()
                    return
                start += fault.get("shift", 0)
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
            else:
                self.send_response(200)
            if site.etag is not None:
                self.send_header("ETag", site.etag)
            body = body[start:]
            if not fault.get("no_length"):
                self.send_header("Content-Length", str(fault.get("length", len(body))))
            self.end_headers()
            self.wfile.write(body[: fault.get("break_after", len(body))])

        def log_message(self, *arguments: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass  # clients hang up in the middle; that is what is being tested

    server = Server(("127.0.0.1", 0), Handler)
    site.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield site
    finally:
        site.released.set()
        server.shutdown()
        thread.join()
        server.server_close()
