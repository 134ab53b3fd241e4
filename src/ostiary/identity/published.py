"""What providers publish, and what they answer: asked at the issuer's own address alone, bounded in time and size.

What was fetched is used while it is renewed beside the requests that use it; what is an hour old is used no more.
"""

import asyncio
import ssl
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from threading import Lock, Thread
from typing import Annotated, Any, Final
from urllib.parse import quote

import httpx
import msgspec
from msgspec import Meta, Struct

from ostiary.foundation.clock import Clock
from ostiary.foundation.errors import SystemFault

TIMEOUT_S: Final = 5.0  # for a whole answer
ANSWER_MAX_BYTES: Final = 262_144
KEYS_MAX: Final = 100
FRESH_S: Final = 300
STALE_S: Final = 3600  # a key that the provider takes back counts no longer, even where nobody has asked for long
AGAIN_S: Final = 60  # whoever shows unknown keys makes us ask no more often
RETRY_S: Final = 5  # where there is nothing to go by
HEADERS: Final = {"accept": "application/json", "accept-encoding": "identity", "user-agent": "ostiary"}

Read = Callable[[bytes], Any]


class Metadata(Struct, frozen=True, kw_only=True):
    """The provider's discovery document, as far as it matters here."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    authorization_response_iss_parameter_supported: bool = False


class _Keys(Struct, frozen=True):
    keys: Annotated[list[dict[str, Any]], Meta(max_length=KEYS_MAX)]


class Tokens(Struct, frozen=True):
    """What a code is exchanged for."""

    id_token: str
    access_token: str = ""


@dataclass(slots=True)
class _Kept:
    value: Any = None
    at_s: float = float("-inf")
    tried_s: float = float("-inf")
    turn: Lock = field(default_factory=Lock)


class Published:
    """One for a process, whichever threads ask; `authorities`: a PEM file of those who vouch, "" for the system's."""

    def __init__(self, authorities: str, clock: Clock) -> None:
        self._trust, self._clock = ssl.create_default_context(cafile=authorities or None), clock
        self._kept: dict[str, _Kept] = {}  # by address, of which there are two for each issuer

    def metadata(self, issuer: str) -> Metadata:
        """Raises SystemFault where the provider is away, or is not the one it is taken for."""
        place = f"{issuer.rstrip('/')}/.well-known/openid-configuration"
        found: Metadata = self._cached(place, partial(_metadata, issuer))
        return found

    def keys(self, issuer: str, kid: str) -> Sequence[Mapping[str, Any]]:
        """Those with this id, or all for "": asked for again where there is none, at most once a minute."""
        place = self.metadata(issuer).jwks_uri
        for oldest_s in (STALE_S, 0):
            keys: list[dict[str, Any]] = self._cached(place, _keys, oldest_s)
            if fitting := [key for key in keys if kid in ("", key.get("kid"))]:
                return fitting
        return []

    def redeem(self, issuer: str, client: str, secret: str, form: Mapping[str, str]) -> Tokens:
        """The tokens for a code; every provider lets a client prove itself so (RFC 6749 section 2.3.1)."""
        auth, told = (quote(client, safe=""), quote(secret, safe="")), {**form, "grant_type": "authorization_code"}
        found: Tokens = self._asked(self.metadata(issuer).token_endpoint, _tokens, told, auth)
        return found

    def _cached(self, place: str, read: Read, oldest_s: float = STALE_S) -> Any:
        kept, now_s = self._kept.setdefault(place, _Kept()), self._clock.now().timestamp()
        age_s, pause_s = now_s - kept.at_s, AGAIN_S if kept.value else RETRY_S
        if age_s >= oldest_s:
            with kept.turn:  # one asks, the others wait for what it gets
                if now_s - kept.tried_s >= pause_s:
                    self._renew(kept, place, read)
        elif age_s >= FRESH_S and now_s - kept.tried_s >= pause_s and kept.turn.acquire(blocking=False):
            Thread(target=self._beside, args=(kept, place, read), daemon=True).start()
        if kept.value is None or now_s - kept.at_s >= STALE_S:
            raise _away(place, "it gave none a moment ago")
        return kept.value

    def _beside(self, kept: _Kept, place: str, read: Read) -> None:
        try:
            with suppress(SystemFault):  # what is kept serves on; then it is told
                self._renew(kept, place, read)
        finally:
            kept.turn.release()

    def _renew(self, kept: _Kept, place: str, read: Read) -> None:
        first, now_s = kept.value is None, self._clock.now().timestamp()
        kept.tried_s = now_s
        kept.value, kept.at_s = self._asked(place, read), now_s
        kept.tried_s = float("-inf") if first else now_s  # the first unknown key is looked for at once

    def _asked(self, place: str, read: Read, form: Any = None, auth: Any = None) -> Any:
        """What the answer says; every way in which it can fail is one error. Not for the event loop's own thread."""
        try:
            return read(asyncio.run(self._answer(place, form, auth)))
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError, RecursionError) as problem:
            raise _away(place, str(problem) or type(problem).__name__) from problem

    async def _answer(self, place: str, form: Any, auth: Any) -> bytes:
        async with (
            asyncio.timeout(TIMEOUT_S),
            httpx.AsyncClient(verify=self._trust, follow_redirects=False, trust_env=False) as client,
            client.stream("POST" if form else "GET", place, data=form, auth=auth, headers=HEADERS) as answer,
        ):
            body = b""
            async for part in answer.aiter_raw():
                body += part
                if len(body) > ANSWER_MAX_BYTES:
                    raise ValueError("the answer is too long")
            if answer.status_code != httpx.codes.OK:
                raise ValueError(f"status {answer.status_code}")
            return body


def _metadata(issuer: str, body: bytes) -> Metadata:
    """Of this issuer and no other (Discovery section 4.3); every address in it is the issuer's own."""
    found = msgspec.json.decode(body, type=Metadata)
    if found.issuer != issuer:
        raise ValueError("its discovery document is of another issuer; where that has a {tenant}, name yours")
    own = "/".join([*issuer.split("/")[:3], ""])
    places = (found.authorization_endpoint, found.token_endpoint, found.jwks_uri)
    if odd := [place for place in places if not place.startswith(own)]:
        raise ValueError(f"{odd[0]!r} is not below {own}")
    return found


def _keys(body: bytes) -> list[dict[str, Any]]:
    return msgspec.json.decode(body, type=_Keys).keys


def _tokens(body: bytes) -> Tokens:
    return msgspec.json.decode(body, type=Tokens)


def _away(place: str, why: str) -> SystemFault:
    hint = "see that it runs, and that `upstream_authorities` has who vouches for it"
    return SystemFault("provider-away", f"{place} gives no answer that can be used: {why}", hint=hint)
