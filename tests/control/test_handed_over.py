"""The ERP's credential is the gate's: what reaches an ERP that checks it, and what becomes of one that it refuses."""

import base64
import json
import os
import signal
from contextlib import contextmanager

import pytest
from joserfc import jwt
from joserfc.jwk import KeySet

from ostiary.foundation.errors import OperatorFault, SystemFault
from running import APART, RUNNING, installed, until

KEY, SECRET = "planted-key-5f1c", "planted-secret-77aa"
CARRIERS = {
    "cookie": "sid=planted-own; session_id=planted-own", "x-api-key": "planted-own", "api-key": "planted-own", "apikey": "planted-own",
    "x-odoo-database": "planted-own", "x-frappe-site-name": "planted-own", "x-frappe-csrf-token": "planted-own",
    "x-auth-token": "planted-own", "proxy-authorization": "Basic planted-own", "dolapikey": "planted-own",
}  # fmt: skip
DESCRIBED = """
  /described:
    get:
      tags: [Stock]
      parameters:
        - {name: X-Odoo-Database, in: header, schema: {type: string}}
        - {name: X-API-Key, in: header, schema: {type: string}}
        - {name: X-Tenant, in: header, schema: {type: string}}
        - {name: api_key, in: query, schema: {type: string}}
        - {name: sid, in: query, schema: {type: string}}
        - {name: page, in: query, schema: {type: string}}
components:"""


def handed(site, way):
    return site.policy(("at: localhost/shop,", f"at: localhost/shop, {way},"))


def give(site, name, key, login="one"):
    site.ask("account.set", principal=f"client:{name}", system="shop", login=login, password=key)


def reached(site):
    """What the ERP saw last."""
    return site.upstream.seen[-1]


FORMS = {
    "odoo": (
        'hand-over: key, sends: ["Authorization: bearer {key}", "X-Odoo-Database: acme"]',
        {"authorization": f"bearer {KEY}", "x-odoo-database": "acme"},
    ),
    "frappe": ('hand-over: key, sends: "Authorization: token {login}:{key}"', {"authorization": f"token one:{KEY}"}),
    "sap": (
        'hand-over: key, sends: ["Authorization: Basic {basic}", "sap-client: 100"]',
        {"authorization": f"Basic {base64.b64encode(f'one:{KEY}'.encode()).decode()}", "sap-client": "100"},
    ),
    "dolibarr": ('hand-over: key, sends: "DOLAPIKEY: {key}"', {"dolapikey": KEY}),
    "plain": ("hand-over: key", {"authorization": f"Bearer {KEY}"}),
}


@RUNNING
@pytest.mark.parametrize("erp", FORMS)
def test_the_erp_gets_its_key_as_its_manual_writes_it_and_nothing_of_the_callers(site, erp):
    way, wanted = FORMS[erp]
    site.apply(handed(site, way))
    name = f"handed-{erp}"
    token = site.client(name, "visitor")
    assert site.once("GET", "/shop/stock", token=token).status == 503
    give(site, name, KEY)
    site.upstream.reply = lambda _: (200, {"set-cookie": "sid=1"}, None)
    answer = until(lambda: (one := site.once("GET", "/shop/stock", token=token, **CARRIERS)).status == 200 and one)
    seen = reached(site)
    for header, value in wanted.items():
        assert (seen["headers"][header], seen["names"].count(header)) == (value, 1)
    assert "planted-own" not in json.dumps(seen)
    assert token not in json.dumps(seen)
    assert not {"cookie", *CARRIERS} & set(seen["names"]) - set(wanted)
    assert "set-cookie" not in answer.headers
    site.ask("account.remove", principal=f"client:{name}", system="shop")
    assert until(lambda: site.once("GET", "/shop/stock", token=token).status == 503)


@RUNNING
def test_a_document_that_describes_a_credential_opens_no_way_for_the_callers_own(site):
    before = site.spec.read_text()
    try:
        site.spec.write_text(before.replace("\ncomponents:", DESCRIBED))
        site.apply(handed(site, 'hand-over: key, sends: ["Authorization: bearer {key}", "X-Tenant: acme"]'))
        token = site.client("described", "visitor")
        give(site, "described", KEY)
        told = {**CARRIERS, "x-tenant": "planted-own"}
        until(lambda: site.once("GET", "/shop/described?page=2", token=token, **told).status == 200)
        assert "planted-own" not in json.dumps(reached(site))
        assert reached(site)["headers"]["x-tenant"] == "acme"
        for query in ("api_key=x", "sid=x", "page=1&api_key=x"):
            assert site.once("GET", f"/shop/described?{query}", token=token).reason == "invalid"
    finally:
        site.spec.write_text(before)
        site.apply(site.policy())


@RUNNING
def test_a_key_is_nowhere_but_in_one_private_file_and_a_new_one_takes_its_place_at_once(site):
    site.apply(handed(site, "hand-over: key"))
    token = site.client("rotated", "visitor")
    caller = site.caller(token)  # opened before any key is there
    assert caller.send("GET", "/shop/stock").status == 503
    for key in ("planted-first-01", "planted-second-02"):
        give(site, "rotated", key)
        until(lambda: caller.send("GET", "/shop/stock").status == 200)
        until(
            lambda wanted=key: caller.send("GET", "/shop/stock") and wanted in reached(site)["headers"]["authorization"]
        )
    (path,) = holding(site, "planted-first-01") | holding(site, "planted-second-02")
    assert path.parent == site.home.envoy / "keys"
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert b"planted-second-02" in path.read_bytes()
    site.apply(site.policy())
    assert not holding(site, "planted-second-02")


def holding(site, text):
    """Every file of the installation, and its output, that has the text in it."""
    files = [path for path in site.root.rglob("*") if path.is_file()]
    return {path for path in files if text.encode() in path.read_bytes()}


@RUNNING
@pytest.mark.parametrize("key", ["two\nlines", "carriage\rreturn", "schl\u00fcssel", "nul\x00"])
def test_a_key_that_no_header_may_hold_is_refused_when_it_is_given(site, key):
    site.apply(handed(site, "hand-over: key"))
    site.client(f"unfit-{len(key)}-{ord(key[3])}", "visitor")
    with pytest.raises(OperatorFault, match="no header may") as problem:
        give(site, f"unfit-{len(key)}-{ord(key[3])}", key)
    assert key not in str(problem.value)


@RUNNING
def test_a_key_that_the_erp_refuses_is_the_administrators_to_mend_and_is_told_once(site):
    site.apply(handed(site, "hand-over: key"))
    token = site.client("withdrawn", "visitor")
    give(site, "withdrawn", KEY)
    site.upstream.reply = lambda seen: (401, {"www-authenticate": "Bearer", "set-cookie": "sid=1"}, KEY)
    try:
        refused = [
            until(lambda: (one := site.once("GET", "/shop/stock", token=token)).status == 502 and one) for _ in range(3)
        ]
        assert {one.reason for one in refused} == {"erp-refuses"}
        assert not {"www-authenticate", "set-cookie"} & set(refused[0].headers)
        assert KEY not in refused[0].body.decode()
        (alert,) = until(lambda: [one for one in site.ask("alert.list") if one["rule"] == "erp-refuses"])
        assert alert["key"] == "shop client:withdrawn"
        text = site.ask("explain", decision=refused[0].decision)["text"]
        assert "`ostiary client account withdrawn --system shop --login LOGIN`" in text
    finally:
        site.upstream.reply = lambda _: (200, {}, None)
    assert site.once("GET", "/shop/stock", token=token).status == 200
    site.ask("alert.resolve", alert=alert["id"])


# --- OAuth: a second Ostiary is the authorization server that the ERP believes


@contextmanager
def believing(server, site):
    """The shop takes the second one's tokens for it, and nobody else's."""

    keys = KeySet.import_key_set(server.once("GET", "/identity/jwks").json())

    def judged(seen):
        scheme, _, text = seen["headers"].get("authorization", "").partition(" ")
        try:
            claims = jwt.decode(text, keys, algorithms=["ES256"]).claims
            jwt.JWTClaimsRegistry(aud={"essential": True, "value": "https://localhost/shop"}, leeway=0).validate(claims)
        except Exception as problem:  # noqa: BLE001  whatever is wrong with it
            return 401, {"www-authenticate": "Bearer"}, f"{scheme}: {type(problem).__name__}"
        return 200, {}, claims["sub"]

    site.upstream.reply = judged
    yield
    site.upstream.reply = lambda _: (200, {}, None)


@APART
def test_tokens_of_the_erps_own_authorization_server_are_fetched_renewed_and_never_passed_without():
    with installed() as server, installed(upstream_authorities=str(server.authority)) as site:
        server.start()
        secret = server.ask("client.add", client_id="erp-user", roles=["visitor"])["client_secret"]
        site.start()
        with believing(server, site):
            site.apply(
                handed(
                    site, f'hand-over: oauth, token-from: "{server.origin}/identity/token", token-scope: "shop/*:read"'
                )
            )
            token = site.client("caller", "visitor")
            assert site.once("GET", "/shop/stock", token=token).reason == "unavailable"
            with pytest.raises(OperatorFault, match="gives erp-user no token: invalid_client") as problem:
                give(site, "caller", SECRET, "erp-user")
            assert SECRET not in str(problem.value)
            give(site, "caller", secret, "erp-user")
            answer = until(
                lambda: (one := site.once("GET", "/shop/stock", token=token, **CARRIERS)).status == 200 and one
            )
            assert answer.body.decode() == "client:erp-user"
            assert "planted-own" not in json.dumps(reached(site))
            first = reached(site)["headers"]["authorization"]
            assert site.once("GET", "/shop/stock", token=token).status == 200
            assert reached(site)["headers"]["authorization"] == first  # one token serves many calls
            assert site.once("GET", "/shop/stock", token=site.client("unmapped", "visitor")).status == 503
            assert not holding(site, secret)
            assert not holding(site, first.partition(" ")[2])
            server.stop()
            assert site.once("GET", "/shop/stock", token=token).status == 200  # what was given is good until it ends
            with pytest.raises(SystemFault, match="the token endpoint does not answer"):
                give(site, "caller", SECRET, "erp-user")
            os.kill(site.children()["guard"], signal.SIGKILL)  # what it held is gone, and nobody gives another
            site.wait_until_up(without=["watch"])
            site.upstream.seen.clear()
            refused = until(
                lambda: (one := site.once("GET", "/shop/stock", token=token)).reason == "unavailable" and one
            )
            assert (refused.status, site.upstream.seen) == (503, [])
            assert "the token endpoint does not answer" in refused.json()["detail"]
