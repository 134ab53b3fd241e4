"""An access token is verified in full, or it is refused."""

import base64
import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import OctKey
from joserfc.jws import JWSRegistry

from ostiary.foundation.jose import (
    Claims,
    SigningKey,
    TokenRefused,
    revocation_keys,
    sign_access_token,
    verify_access_token,
    verify_hint,
)

KEY = SigningKey.generate()
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
CLAIMS = Claims(
    issuer="https://gate/identity",
    audience="https://erp",
    subject="client:shop",
    client="shop",
    jti="j1",
    grant="g1",
    session="s1",
    generation="client:shop#1",
    client_generation="shop#1",
    role_set="abc",
    scopes=frozenset({"erp/*:read"}),
    expires_at=int(NOW.timestamp()) + 3600,
    issued_at=int(NOW.timestamp()),
)
TOKEN = sign_access_token(KEY, CLAIMS)
JWKS = {"keys": [KEY.public()]}


def verify(token=TOKEN, *, jwks=JWKS, issuer=CLAIMS.issuer, audience=CLAIMS.audience, now=NOW):
    return verify_access_token(token, jwks, issuer=issuer, audience=audience, now=now)


def encode(part):
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


def test_what_was_signed_comes_back():
    assert verify() == CLAIMS


def test_the_empty_session_of_a_client_is_neither_told_nor_a_revocation_key():
    own = msgspec.structs.replace(CLAIMS, session="", client_generation="")
    assert verify(sign_access_token(KEY, own)) == own
    assert revocation_keys(CLAIMS) == ("jti:j1", "grant:g1", "sid:s1", "gen:client:shop#1", "cgen:shop#1")
    assert revocation_keys(own) == ("jti:j1", "grant:g1", "gen:client:shop#1")


@pytest.mark.parametrize(
    "changed",
    [
        {"issuer": "https://other"},
        {"audience": "https://other"},
        {"now": NOW + timedelta(hours=1, seconds=2)},
        {"now": NOW - timedelta(seconds=2)},
        {"jwks": {"keys": [SigningKey.generate().public()]}},
        {"token": KEY.sign({"iss": CLAIMS.issuer}, type_="at+jwt")},
        {"token": KEY.sign({}, type_="JWT")},
        {"token": TOKEN + "A" * 5000},
        {"token": TOKEN[:-4] + "AAAA"},
        {"token": f"{encode({'alg': 'none', 'typ': 'at+jwt', 'kid': KEY.kid})}.{TOKEN.split('.')[1]}."},
    ],
)
def test_anything_else_is_refused(changed):
    with pytest.raises(TokenRefused):
        verify(**changed)


OF_PEOPLE = ("sid", "cgen")  # a client that acts for itself has neither
WIRE = json.loads(base64.urlsafe_b64decode(TOKEN.split(".")[1] + "=="))


def test_the_claims_go_by_their_registered_names():
    """RFC 9068 section 2.2; `grant`, `gen`, `cgen`, `rs` and `sc` are our own."""
    own = {"grant", "gen", "cgen", "rs", "sc"}
    assert set(WIRE) == {"iss", "aud", "sub", "client_id", "jti", "sid", "scope", "exp", "iat"} | own
    assert WIRE["scope"] == "erp/*:read"


@pytest.mark.parametrize("claim", WIRE)
def test_a_token_of_ours_without_one_of_its_claims_or_with_another_type_is_refused(claim):
    less = {name: value for name, value in WIRE.items() if name != claim}
    for told in ({**WIRE, claim: ["x"]}, *([] if claim in OF_PEOPLE else [less])):
        with pytest.raises(TokenRefused, match="form"):
            verify(KEY.sign(told, type_="at+jwt"))


def test_a_token_whose_two_lists_of_scopes_differ_is_refused():
    """The gate reads one, everybody else the other."""
    for scopes in (" erp/*:write ", " erp/*:read erp/*:write ", "erp/*:read", ""):
        with pytest.raises(TokenRefused, match="form"):
            verify(KEY.sign({**WIRE, "sc": scopes}, type_="at+jwt"))


def test_a_claim_that_nobody_knows_is_refused():
    with pytest.raises(TokenRefused, match="form"):
        verify(KEY.sign({**WIRE, "may": "all"}, type_="at+jwt"))


def test_a_public_key_used_as_a_shared_secret_opens_nothing():
    """RFC 8725 section 2.1: HS256 with the text of the public key."""
    secret = OctKey.import_key(json.dumps(KEY.public()).encode())
    forged = jwt.encode({"alg": "HS256", "typ": "at+jwt", "kid": KEY.kid}, {"iss": CLAIMS.issuer}, secret)
    with pytest.raises(TokenRefused):
        verify(forged)


def test_an_access_token_is_never_by_rs256_and_a_key_never_by_another_algorithm_than_its_own():
    rsa = SigningKey.generate("RS256")
    hint = rsa.sign({"iss": "i", "aud": "shop", "sub": "user:anna", "sid": "s1"}, type_="JWT")
    assert verify_hint(hint, {"keys": [rsa.public()]}, issuer="i").session == "s1"
    with pytest.raises(TokenRefused, match="header"):
        verify(sign_access_token(rsa, CLAIMS), jwks={"keys": [rsa.public()]})
    checks = ((KEY, lambda jwks: verify(jwks=jwks)), (rsa, lambda jwks: verify_hint(hint, jwks, issuer="i")))
    for key, check in checks:
        for other in {"ES256", "RS256", "HS256", "none"} - {key.algorithm}:
            with pytest.raises(TokenRefused, match="not ours"):
                check({"keys": [{**key.public(), "alg": other}]})
    again = SigningKey.load(rsa.private())
    assert (again.algorithm, again.kid, again.public()) == ("RS256", rsa.kid, rsa.public())


@pytest.mark.parametrize("name", ["jku", "x5u", "jwk", "crit", "x5c", "cty"])
def test_no_other_name_stands_in_the_header_whoever_signed(name):
    """RFC 8725 section 3.10: nothing that a token names is fetched, followed or believed."""
    other = SigningKey.generate()
    place = "https://elsewhere.example/keys"
    told = {"jwk": other.public(), "crit": ["alg"], "x5c": ["MAo="], "cty": "JWT"}.get(name, place)
    plain = {"alg": "ES256", "typ": "at+jwt", "kid": KEY.kid}
    for key in (KEY, other):
        with pytest.raises(TokenRefused):
            verify(by_hand(key, {**plain, name: told}))
    assert verify(by_hand(KEY, plain)) == CLAIMS


def by_hand(key, header):
    """The claims, signed with this header and whatever stands in it."""
    told = f"{encode(header)}.{TOKEN.split('.')[1]}"
    made = JWSRegistry.algorithms["ES256"].sign(told.encode(), key._key)
    return f"{told}.{base64.urlsafe_b64encode(made).rstrip(b'=').decode()}"


@given(st.text(max_size=300) | st.binary(max_size=300).map(lambda b: b.decode("latin1")))
def test_no_text_makes_it_raise_anything_else(text):
    with pytest.raises(TokenRefused):
        verify(text)


@given(st.integers(0, len(TOKEN) - 1), st.sampled_from("AZaz09-_."))
def test_no_character_can_be_changed(at, char):
    forged = TOKEN[:at] + char + TOKEN[at + 1 :]
    if forged.rstrip("=") == TOKEN:
        return
    with suppress(TokenRefused):
        assert verify(forged) == CLAIMS  # the last character of a part has bits that mean nothing
