"""The home folder of one Ostiary: every path it uses, named once."""

import os
from dataclasses import dataclass
from pathlib import Path

from ostiary.foundation.errors import OperatorFault

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
        for folder in (self.root, self.keys, self.run, self.envoy, self.plans, self.events):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in (self.audit_head.parent, self.root / "catalogue", self.specs):
            folder.mkdir(mode=0o700, exist_ok=True)
