"""An OpenAI-compatible server in this process that answers as it is told, and remembers what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = tuple[int, Any, dict[str, str]]
"""Status, JSON body, headers; a status of 0 breaks the connection off."""


def completion(text: str, finish: str = "stop") -> Reply:
    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": finish}
    return 200, {"choices": [choice], "usage": {"prompt_tokens": 11, "completion_tokens": 7}}, {}


def problem(status: int, message: str = "no", **headers: str) -> Reply:
    return status, {"error": {"message": message}}, {name.replace("_", "-"): value for name, value in headers.items()}


class FakeServer:
    """``reply(body, number)`` answers the number-th completion request; ``asked`` keeps bodies and headers."""

    def __init__(
        self, reply: Callable[[dict[str, Any], int], Reply], models: list[dict[str, Any]] | None = None
    ) -> None:
        self.asked: list[tuple[dict[str, Any], dict[str, str]]] = []
        self.most_at_once = 0
        lock, now = threading.Lock(), [0]
        listed = [{"id": "m", "owned_by": "vllm", "root": "/srv/models/m-folder"}] if models is None else models
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send((200, {"data": listed}, {}) if self.path == "/v1/models" else problem(404))

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    server.asked.append((body, dict(self.headers)))
                    number = len(server.asked)
                    now[0] += 1
                    server.most_at_once = max(server.most_at_once, now[0])
                made = reply(body, number)
                with lock:
                    now[0] -= 1
                self.send(made)

            def send(self, made: Reply) -> None:
                status, value, headers = made
                if status == 0:
                    self.close_connection = True
                    return
                content = json.dumps(value).encode()
                self.send_response(status)
                for name, text in {"Content-Length": str(len(content)), **headers}.items():
                    self.send_header(name, text)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def __enter__(self) -> FakeServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
