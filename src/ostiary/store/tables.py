"""All tables; importing this module registers them all. What they hold stands in tables.toml, table by table."""

from collections.abc import Mapping
from typing import Any, Final

import sqlalchemy
from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, String, Table
from sqlalchemy.schema import SchemaItem

from ostiary.foundation.data import beside
from ostiary.store.database import METADATA

_TOLD: Final = beside(__file__)


def _table(name: str) -> Table:
    return Table(name, METADATA, *(_part(part, told) for part, told in _TOLD[name].items()))


def _part(name: str, told: Mapping[str, Any]) -> SchemaItem:
    kind: Any
    match told:
        case {"index_over": columns}:
            return Index(name, *columns)
        case {"chars": most, **more}:
            kind = String(most)
        case {"references": column, **more}:
            kind = ForeignKey(column)
        case {"type": "RowNumber", **more}:  # by which SQLite itself keeps its rows
            kind = BigInteger().with_variant(Integer, "sqlite")
        case {"type": word, **more}:
            kind = getattr(sqlalchemy, word)()
    return Column(name, kind, **{"nullable": False, **more})


PRINCIPAL: Final = _table("principal")
ASSIGNMENT: Final = _table("assignment")
ROLE_SET: Final = _table("role_set")
ERP_ACCOUNT: Final = _table("erp_account")
ERP_PAST: Final = _table("erp_past")
DEVICE: Final = _table("device")
REVOCATION: Final = _table("revocation")
SIGNING_KEY: Final = _table("signing_key")
CLIENT: Final = _table("oauth_client")
CLIENT_SECRET: Final = _table("oauth_client_secret")
REGISTERED: Final = _table("registered_client")
PROVISIONER: Final = _table("provisioner")
PROVISIONED: Final = _table("provisioned")
PASSWORD: Final = _table("password")
FACTOR: Final = _table("factor")
PEPPER: Final = _table("identity_pepper")
SESSION: Final = _table("identity_session")
PROVIDER: Final = _table("identity_provider")
OUTSIDE: Final = _table("outside_account")
KNOWN_BROWSER: Final = _table("known_browser")
GRANT: Final = _table("oauth_grant")
ONE_TIME: Final = _table("one_time")
REFRESH: Final = _table("oauth_refresh")
THROTTLE: Final = _table("sign_in_throttle")
OUTBOX: Final = _table("outbox")
GUARD_HISTORY: Final = _table("guard_history")
GUARD_KEY: Final = _table("guard_key")
REVISION: Final = _table("revision")
PROPOSAL: Final = _table("proposal")
AUDIT_LEAF: Final = _table("audit_leaf")
AUDIT_TREE: Final = _table("audit_tree")
ALERT: Final = _table("alert")
MEASURE: Final = _table("measure")
WATCH_STATE: Final = _table("watch_state")

REASON_MAX_CHARS: Final[int] = _TOLD["revocation"]["reason"]["chars"]
FAILED_MAX_CHARS: Final[int] = _TOLD["revision"]["failed"]["chars"]
