"""The native path with everything on, against the same Envoy plainly proxying, and HAProxy doing part of it."""

from collections.abc import Iterator
from contextlib import nullcontext
from http.client import HTTPConnection
from pathlib import Path
from typing import Final

from bench import load, shop, upstream
from bench.envoys import Plain, Running, Site, Start, certificates, pem_of
from bench.figure import Figure, at_least, at_most, plain
from bench.process import NotUp
from bench.rival import Rival
from bench.rounds import Pace, Samples, Say, Subject, costs_against, cpu, errors, interleaved, rate, rates_against

AREA: Final = "gate"
SIZE: Final = shop.Size(operations=40)
LEAST: Final = 0.60  # 0.70 is the wish
OK, UNAUTHORIZED = 200, 401


def measure(folder: Path, pace: Pace, say: Say) -> Iterator[Figure]:
    found = _throughput(folder, pace, say)
    yield plain(AREA, "requests at the upstream alone, no proxy", rate(found["no proxy"]), "1/s")
    for how in ("no TLS", "TLS"):
        native, bare = found[f"native, {how}"], found[f"plain, {how}"]
        yield plain(AREA, f"requests, plain proxy, {how}", rate(bare), "1/s")
        yield plain(AREA, f"requests, native path, {how}", rate(native), "1/s")
        yield at_least(
            AREA, f"native path against plain proxy, {how} (0.7 wished)", rates_against(native, bare), "", LEAST
        )
        yield plain(AREA, f"cpu of one request, plain proxy, {how}", cpu(bare), "µs")
        yield plain(AREA, f"cpu of one request, native against plain, {how}", costs_against(native, bare), "")
    yield plain(AREA, "requests, HAProxy: token, scope, limit, no TLS", rate(found["haproxy"]), "1/s")
    yield plain(AREA, "HAProxy against plain Envoy", rates_against(found["haproxy"], found["plain, no TLS"]), "")
    yield at_most(AREA, "errors under full load", errors(found), "responses", 0)


def _throughput(folder: Path, pace: Pace, say: Say) -> Samples:
    own = certificates(folder / "ca")
    with upstream.answering(folder, pem_of(own, folder)) as erp:
        open_shop, tls_shop = shop.build(SIZE, erp.url), shop.build(SIZE, erp.tls_url)
        requests = load.write(open_shop.lines, folder / "requests")
        tls_requests = load.write(tls_shop.lines, folder / "tls-requests")
        site = Site(folder / "native", open_shop)
        proved(site, open_shop)
        starts: dict[str, tuple[Start, Path]] = {
            "no proxy": (lambda: nullcontext(Running(url=erp.url, pid=erp.pid)), requests),
            "plain, no TLS": (Plain(folder / "plain", erp.url).running, requests),
            "native, no TLS": (site.running, requests),
            "haproxy": (Rival(folder / "rival", open_shop, erp.port).running, requests),
            "plain, TLS": (Plain(folder / "plain-tls", erp.tls_url, own).running, tls_requests),
            "native, TLS": (Site(folder / "native-tls", tls_shop, tls=own).running, tls_requests),
        }
        subjects = [
            Subject(name=name, start=start, host=shop.HOST, requests=lines) for name, (start, lines) in starts.items()
        ]
        return interleaved(subjects, pace, say)


def proved(site: Site, made: shop.Shop) -> None:
    """The gate is a gate: it lets the measured request pass and refuses it without its token."""
    line = made.lines[0]
    with site.running():
        for token, wanted in ((f"Bearer {line.token}", OK), ("", UNAUTHORIZED)):
            connection = HTTPConnection("127.0.0.1", site.edge.port, timeout=5)
            try:
                headers = {"host": shop.HOST, **({"authorization": token} if token else {})}
                connection.request(line.method, line.path, headers=headers)
                if (status := connection.getresponse().status) != wanted:
                    raise NotUp(f"the gate answers {status} instead of {wanted}")
            finally:
                connection.close()
