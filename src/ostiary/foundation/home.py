"""The home folder of one Ostiary: every path it uses, named once."""

import os
from dataclasses import dataclass
from pathlib import Path

from ostiary.foundation.errors import OperatorFault

SOCKET_PATH_MAX_BYTES = 100  # sockaddr_un holds 108; Envoy and Python need the final zero and some room


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """Paths below `root`; `create()` makes the folders, private to their owner."""

    root: Path

    @property
    def settings(self) -> Path:
        return self.root / "settings.toml"

    @property
    def policy(self) -> Path:
        return self.root / "policy.yaml"

    @property
    def specs(self) -> Path:
        """OpenAPI documents that the policy names."""
        return self.root / "specs"

    @property
    def database(self) -> Path:
        return self.root / "ostiary.db"

    @property
    def keys(self) -> Path:
        return self.root / "keys"

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def envoy(self) -> Path:
        return self.root / "envoy"

    @property
    def plans(self) -> Path:
        return self.root / "plans"

    @property
    def events(self) -> Path:
        return self.root / "events"

    @property
    def access_log(self) -> Path:
        return self.events / "access.jsonl"

    @property
    def guard_log(self) -> Path:
        return self.events / "guard.jsonl"

    @property
    def identity_log(self) -> Path:
        return self.events / "identity.jsonl"

    @property
    def audit_head(self) -> Path:
        return self.root / "audit" / "head.json"

    def catalogue(self, system: str) -> Path:
        return self.root / "catalogue" / f"{system}.json"

    def socket(self, name: str) -> Path:
        """The UNIX socket of `name` (control, guard, identity, envoy); refuses a path no socket can have."""
        path = self.run / f"{name}.sock"
        if len(os.fsencode(path)) > SOCKET_PATH_MAX_BYTES:
            raise OperatorFault(
                "home-path-too-long",
                f"{path} is longer than the {SOCKET_PATH_MAX_BYTES} bytes a UNIX socket's path may have",
                hint="choose a shorter folder with --home or OSTIARY_HOME",
            )
        return path

    def create(self) -> None:
        for folder in (self.root, self.keys, self.run, self.envoy, self.plans, self.events):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in (self.audit_head.parent, self.root / "catalogue", self.specs):
            folder.mkdir(mode=0o700, exist_ok=True)
