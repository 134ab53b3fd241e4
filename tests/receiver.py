"""A real web server that takes alerts, and answers as told."""

import json
import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        with self.server.arrived:
            self.server.seen.append((dict(self.headers.items()), body))
            self.server.arrived.notify_all()
        answer = self.server.answers.popleft() if self.server.answers else 204
        self.send_response(answer)
        if answer == 302:
            self.send_header("location", self.server.elsewhere)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


class Receiver(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen, self.answers, self.elsewhere = [], deque(), ""
        self.arrived = threading.Condition()
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/alerts"

    @property
    def notices(self):
        return [json.loads(body) for _, body in self.seen]

    def wait_for(self, count):
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.seen) >= count, timeout=10), self.notices

    def close(self):
        self.shutdown()
        self.server_close()
