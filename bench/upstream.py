"""What stands behind the proxies: HAProxy answering by itself, several times as fast as any proxy in front of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from msgspec import Struct

from bench import tools
from bench.process import CORES, free_port, running, wait_for_port

ANSWER: Final = '{"id":17,"state":"confirmed","party":{"id":4,"name":"Best Office Ltd"},"total":"4999.99"}'
LOGIN: Final = '{"id":1,"result":[2,"5f1c0d7f8e6b4a39a1b2c3d4e5f60718",null]}'
DEFAULTS: Final = """
global
    nbthread 1
    maxconn 8192
defaults
    mode http
    timeout client 300s
    timeout server 300s
    timeout connect 5s
"""


class Upstream(Struct, frozen=True, kw_only=True):
    port: int
    tls_port: int  # 0 where none was asked for
    pid: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def tls_url(self) -> str:
        return f"https://127.0.0.1:{self.tls_port}"


@contextmanager
def answering(folder: Path, pem: Path | None = None) -> Iterator[Upstream]:
    """Answers 200 to everything; `pem` holds certificate and key for the second port."""
    port, tls_port = free_port(), free_port() if pem else 0
    secure = f"    bind 127.0.0.1:{tls_port} ssl crt {pem} alpn http/1.1\n" if pem else ""
    config = f"{DEFAULTS}frontend erp\n    bind 127.0.0.1:{port}\n{secure}    {_return(ANSWER)}\n"
    with haproxy(folder / "upstream", config, port, CORES.upstream) as pid:
        yield Upstream(port=port, tls_port=tls_port, pid=pid)


@contextmanager
def tryton_stub(folder: Path) -> Iterator[Upstream]:
    """Answers a login with a session and every other call with a result, as a Tryton without work to do would."""
    port = free_port()
    rules = [
        "option http-buffer-request",
        f"{_return(LOGIN)} if {{ req.body -m sub common.db.login }}",
        _return('{"id":1,"result":[{"id":1,"name":"Best Office Ltd"}]}'),
    ]
    config = f"{DEFAULTS}frontend erp\n    bind 127.0.0.1:{port}\n" + "".join(f"    {rule}\n" for rule in rules)
    with haproxy(folder / "tryton", config, port, CORES.upstream) as pid:
        yield Upstream(port=port, tls_port=0, pid=pid)


@contextmanager
def haproxy(folder: Path, config: str, port: int, cores: set[int]) -> Iterator[int]:
    """A HAProxy with this configuration; gives its process id."""
    folder.mkdir(exist_ok=True)
    path, log = folder / "haproxy.cfg", folder / "haproxy.log"
    path.write_text(config, "utf-8")
    with running([tools.path("haproxy"), "-db", "-f", path], log, cores=cores) as process:
        wait_for_port(port, process, log)
        yield process.pid


def _return(body: str) -> str:
    quoted = body.replace('"', '\\"')
    return f'http-request return status 200 content-type application/json string "{quoted}"'
