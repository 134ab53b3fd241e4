"""Whether who calls has proved who he is: signed this very request with the key of his DPoP-bound token (RFC 9449 section
7.1); or, while a system is observed, shown only the ERP's own credential, which nobody here has proved.
"""

import base64
from collections import deque
from collections.abc import Collection, Mapping
from typing import Final
from urllib.parse import quote

from ostiary.erp.operation import Verb
from ostiary.foundation.clock import Clock
from ostiary.foundation.ids import role_set_id
from ostiary.foundation.jose import Claims, TokenRefused
from ostiary.foundation.proof import AHEAD_S, PROOF_LIFE_S, USE_NONCE, Nonces, verify_proof
from ostiary.guard.knowledge import Caller

SEEN_MAX: Final = 500_000  # some 100 MB: more at once than a guard looks at while a proof is good
KEPT_S: Final = PROOF_LIFE_S + AHEAD_S + 1
UNPROVED: Final = 421  # `envoy.listener` knows them too
WITHOUT_NONCE: Final = 428
LOGIN_MAX_CHARS: Final = 60


class Proofs:
    """Remembers what it has seen for as long as it would be good; a proof that may be from before its time is not."""

    def __init__(self, port: int, clock: Clock, nonces: Nonces) -> None:
        self._port, self._clock, self._nonces = port, clock, nonces
        self._began_s = clock.now().timestamp()
        self._seen: set[str] = set()
        self._order: deque[tuple[float, str]] = deque()

    def answer(self, method: str, path: str, headers: Mapping[str, str]) -> tuple[int, dict[str, str]]:
        """The status for the gate, and the nonce that the proof is to bear instead."""
        refused = self.refused(method, path, headers)
        if refused == USE_NONCE:
            return WITHOUT_NONCE, {"dpop-nonce": self._nonces.at(self._clock.now())[0]}
        return UNPROVED if refused else 200, {}

    def refused(self, method: str, path: str, headers: Mapping[str, str]) -> str:
        """Why the request is not its token holder's; "" where it is."""
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "dpop":
            return "the token is bound to a key: send it as DPoP, with a proof"
        now, host = self._clock.now(), headers.get("host", "")  # by which the gate has found the system
        urls = [f"https://{host}{path}", f"https://{host}:{self._port}{path}"]
        shown = headers.get("dpop", "")
        try:
            proof = verify_proof(shown, method=method, urls=urls, now=now, token=token)
        except TokenRefused as refused:
            return refused.message
        if f"jkt:{proof.key}" != headers.get("x-gw-bound"):
            return "the proof is signed with another key than the token is bound to"
        if self._nonces.lacks(proof, now):
            return USE_NONCE
        return "" if self._first(f"{proof.key} {proof.jti}", proof.issued_at, now.timestamp()) else "used before"

    def _first(self, name: str, issued_at: float, now_s: float) -> bool:
        while self._order and self._order[0][0] <= now_s:
            self._seen.discard(self._order.popleft()[1])
        if name in self._seen or issued_at <= self._began_s + AHEAD_S or len(self._seen) >= SEEN_MAX:
            return False
        self._seen.add(name)
        self._order.append((now_s + KEPT_S, name))
        return True


def unproved_login(authorization: str) -> str:
    """The login in it; "" where it names none. What stands alone may be the secret itself."""
    scheme, _, text = authorization.partition(" ")
    if scheme.lower() not in {"basic", "session"}:
        return ""
    try:
        name, _, secret = base64.b64decode(text).decode().partition(":")
    except ValueError:
        return ""
    return name if secret else ""


def unproved_caller(system: str, name: str, roles: Collection[str]) -> Caller:
    """With the roles of whoever is mapped to this ERP user, and a token's widest scopes: for a judgement without effect."""
    return Caller(
        claims=Claims(
            issuer="", audience="", subject=f"unproved:{quote(name[:LOGIN_MAX_CHARS], safe='@+') or '-'}", client="", jti="",
            grant="", generation="", role_set=role_set_id(roles) if roles else "", expires_at=0, issued_at=0,
            scopes=frozenset(f"{system}/*:{verb}" for verb in Verb),
        ),
        keys=frozenset(),
    )  # fmt: skip
