"""The same duty on HAProxy: token (ES256, issuer, audience, expiry), scope and a limit for each caller."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc.jwk import ECKey

from bench.envoys import Running
from bench.process import CORES, free_port
from bench.shop import HOST, ISSUER, Shop
from bench.upstream import DEFAULTS, haproxy

METHODS: Final = {"read": "GET HEAD", "write": "POST PUT PATCH", "delete": "DELETE"}
LIMIT: Final = 10_000_000


class Rival:
    """HAProxy of this machine's Debian, one thread; it verifies every signature, and writes no access log."""

    def __init__(self, folder: Path, shop: Shop, upstream_port: int) -> None:
        self._folder, self._port = folder, free_port()
        folder.mkdir(exist_ok=True)
        (folder / "public.pem").write_bytes(_pem(shop.jwks["keys"][0]))
        families = sorted({route.object.split(".")[0] for route in shop.plan.routes})
        self._config = _config(self._port, upstream_port, folder / "public.pem", families)

    @contextmanager
    def running(self) -> Iterator[Running]:
        with haproxy(self._folder / "run", self._config, self._port, CORES.tested) as pid:
            yield Running(url=f"http://127.0.0.1:{self._port}", pid=pid)


def _pem(jwk: dict[str, Any]) -> bytes:
    key = ECKey.import_key(jwk).public_key
    return bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def _config(port: int, upstream_port: int, key: Path, families: list[str]) -> str:
    scopes = "".join(
        f"    http-request deny deny_status 403 if {{ path_beg /{family}/ }} {{ method {methods} }} "
        f"!{{ var(txn.scope) -m sub shop/{family}.*:{verb} }}\n"
        for family in families
        for verb, methods in METHODS.items()
    )
    return f"""{DEFAULTS}
frontend gate
    bind 127.0.0.1:{port}
    stick-table type string len 64 size 100k expire 1h store http_req_rate(3600s)
    http-request set-var(txn.bearer) http_auth_bearer
    http-request set-var(txn.alg) var(txn.bearer),jwt_header_query('$.alg')
    http-request deny deny_status 401 unless {{ var(txn.alg) -m str ES256 }}
    http-request deny deny_status 401 unless {{ var(txn.bearer),jwt_verify(txn.alg,"{key}") -m int 1 }}
    http-request set-var(txn.exp) var(txn.bearer),jwt_payload_query('$.exp','int')
    http-request set-var(txn.now) date()
    http-request deny deny_status 401 unless {{ var(txn.exp),sub(txn.now) -m int gt 0 }}
    http-request deny deny_status 401 unless {{ var(txn.bearer),jwt_payload_query('$.iss') -m str {ISSUER} }}
    http-request deny deny_status 401 unless {{ var(txn.bearer),jwt_payload_query('$.aud') -m str https://{HOST} }}
    http-request set-var(txn.scope) var(txn.bearer),jwt_payload_query('$.scope')
    http-request set-var(txn.sub) var(txn.bearer),jwt_payload_query('$.sub')
{scopes}    http-request track-sc0 var(txn.sub)
    http-request deny deny_status 429 if {{ sc_http_req_rate(0) gt {LIMIT} }}
    http-request del-header authorization
    default_backend erp
backend erp
    http-reuse always
    server erp 127.0.0.1:{upstream_port}
"""
