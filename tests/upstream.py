"""An upstream that answers with what it was asked, so that a test sees what reached it."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import AF_UNIX
from typing import Any


class Echo(BaseHTTPRequestHandler):
    """`server.reply(seen)` says how: status, headers, and a text or None for what was seen."""

    protocol_version = "HTTP/1.1"
    server: Any

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        names = [name.lower() for name in self.headers]
        seen = {"method": self.command, "path": self.path, "headers": dict(self.headers.items()), "names": names}
        seen["headers"] = {name.lower(): value for name, value in seen["headers"].items()}
        seen["body"] = body.decode("latin-1")
        self.server.seen.append(seen)
        status, headers, text = self.server.reply(seen)
        data = json.dumps(seen).encode() if text is None else text.encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer  # noqa: N815  the names http.server calls

    def log_message(self, *_: Any) -> None:
        pass

    def address_string(self) -> str:
        return "-"


class Server(ThreadingHTTPServer):
    """`seen` holds every request, the oldest first."""

    daemon_threads = True
    seen: list[Any]

    def start(self, reply: Any) -> "Server":
        self.seen, self.reply = [], reply
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def stop(self) -> None:
        self.shutdown()
        self.server_close()


class UnixServer(Server):
    address_family = AF_UNIX

    def server_bind(self) -> None:
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = "stub", 0
