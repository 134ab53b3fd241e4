"""What every resource of Envoy is made of: the edge that the gate stands at, fixed when Envoy starts, unlike policy and
population, and a few shapes.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from ostiary.foundation.data import beside
from ostiary.foundation.home import Home
from ostiary.foundation.ids import content_hash

Json = Any  # what Envoy reads: dicts, lists, texts, numbers, and `msgspec.Raw` for a part that is JSON already
Resources = Mapping[str, Json]  # file name below home/envoy -> a DiscoveryResponse
FIXED: Final[Mapping[str, Json]] = beside(__file__)
SYSTEM_AUTHORITIES: Final = Path("/etc/ssl/certs/ca-certificates.crt")
TYPES: Final = "type.googleapis.com/"
_EXTENSION: Final = "envoy.config.core.v3.TypedExtensionConfig"
CALL_HEADER: Final = "x-gw-call"  # "/shop/orders GET": path without query and method in one, for one map
CLASS_HEADER: Final = "x-gw-class"  # the route's name, "system:class operation", and the words of `clock`
DECISION_HEADER: Final = "x-gw-decision"  # there where our own servers are told of a request
SUBJECT_HEADER: Final = "x-gw-sub"  # there where a token was verified, and only there
_OBSERVED: Final = "~"  # no class begins so otherwise


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


def typed(message: str, **fields: Any) -> Json:
    """A message that travels as `Any`."""
    return {"@type": TYPES + message, **fields}


def extension(extension_name: str, message: str, **fields: Any) -> Json:
    """A named extension with its configuration."""
    return {"name": extension_name, "typed_config": typed(message, **fields)}


def place(system: str, *, observed: bool = False) -> str:
    """What the class header begins with on every route of `system`; on those of a plan that has it observed."""
    return f"{system}:{_OBSERVED if observed else ''}"


def versioned(resources: list[Json]) -> Json:
    """What a watched file holds; its version is a hash of its content, so an unchanged one stays unchanged."""
    version = content_hash(msgspec.json.encode(resources, order="deterministic"))
    return {"version_info": version, "resources": resources}


def changeable(name: str, message: str, **fields: Any) -> tuple[str, Json]:
    """The file of a filter that changes on open connections (ECDS), by its name below the folder."""
    return f"ecds/{name}.json", versioned([typed(_EXTENSION, name=name, typed_config=typed(message, **fields))])


def header(name: str, value: str) -> Json:
    """Sets a header, whatever was there before."""
    return {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
