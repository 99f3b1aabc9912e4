"""A web hook on this machine, for what apprise sends to `json://` addresses."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class WebHook:
    """Remembers what it was sent and answers with `status`; with `files_status` where files came along."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.status = 200
        self.files_status = 200
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                hook.sent.append(json.loads(self.rfile.read(length)))
                self.send_response(hook.files_status if hook.sent[-1]["attachments"] else hook.status)
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"json://ada:s3cret@127.0.0.1:{self.server.server_port}/hook-t0ken"

    @property
    def bodies(self) -> list[str]:
        return [entry["message"] for entry in self.sent]


@contextmanager
def open_web_hook() -> Iterator[WebHook]:
    hook = WebHook()
    thread = threading.Thread(target=hook.server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield hook
    finally:
        hook.server.shutdown()
        hook.server.server_close()
        thread.join()
