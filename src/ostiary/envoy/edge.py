"""Where the gate listens and who it is: what is fixed when Envoy starts, unlike policy and population."""

import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from ostiary.foundation.home import Home

Json = Any  # what Envoy reads: dicts, lists, texts, numbers, and `msgspec.Raw` for a part that is JSON already
Resources = Mapping[str, Json]  # file name below home/envoy -> a DiscoveryResponse
FIXED: Final[Mapping[str, Json]] = tomllib.loads((resources.files("ostiary.envoy") / "fixed.toml").read_text("utf-8"))
HSTS: Final = "max-age=31536000; includeSubDomains"  # RFC 6797
SYSTEM_AUTHORITIES: Final = Path("/etc/ssl/certs/ca-certificates.crt")


class Edge(Struct, frozen=True, kw_only=True):
    """`start` is new for every start of Envoy, so that decision ids never repeat.

    `connections` is the most that callers may hold open, below half of the file descriptors allowed.
    """

    listen: str
    port: int
    host: str
    certificate: Path
    key: Path
    client_ca: Path | None = None
    any_client_certificate: bool = False
    tls_minimum: str = "1.3"
    node: str = "gate"
    start: str = "0"
    zone: str = "UTC"  # of the clock by which this start of Envoy tells local time
    issuer: str
    home: Home
    plain: bool = False  # for measuring only: no TLS
    upstream_authorities: Path = SYSTEM_AUTHORITIES
    connections: int = 10_000
    geoip: Path | None = None  # a database of countries (MMDB)
    trusted_hops: int = 0  # proxies in front of the gate whose X-Forwarded-For counts

    @property
    def decision(self) -> str:
        """The decision id as Envoy's format string: the same in header, body and log, and there for every request."""
        return f"{self.node}-{self.start}-%CONNECTION_ID%.%START_TIME(%s%9f)%"
