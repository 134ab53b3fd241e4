"""Country, device and sign-in on a running installation: said in the policy, judged by gate and guard, explained."""

import json
import ssl
import time
from http.client import HTTPSConnection
from itertools import count

import pytest
from sqlalchemy import update
from tools.caller import sign_in

from ostiary.control.installation import open_installation
from ostiary.foundation.errors import OperatorFault
from ostiary.foundation.secret import Secret
from ostiary.store.tables import GRANT
from running import RUNNING, installed

pytestmark = RUNNING
NEVER_OPEN = "never-open: {networks: [198.51.100.0/24]}"
MAY = 'may: ["invoice: read"], when: never-open'
LOOKED_INTO = 'may: ["order: write"], when: never-open'
INVOICES = "/shop/invoices"
BACK = "http://127.0.0.1/back"
PASSWORD = "a long one, of many words"
AGO_S = 1_000
number = count()


def asking(site, context, may=MAY):
    site.apply(site.policy((NEVER_OPEN, f"never-open: {context}"), (MAY, may)))


@pytest.mark.standard("B4")
def test_a_grant_holds_in_its_countries_by_the_callers_address(site):
    token = site.token("elsewhere")
    asking(site, "{countries: [DE, AT]}")
    told = [site.once("GET", INVOICES, token=token, x_forwarded_for=one).reason for one in ("203.0.113.7", "192.0.2.1")]
    assert told == ["", "context"]
    asking(site, "{not: here}\n  here: {countries: DE}")
    told = [site.once("GET", INVOICES, token=token, x_forwarded_for=one).reason for one in ("203.0.113.7", "192.0.2.1")]
    assert told == ["context", "context"]  # where it is unknown, it is not known to be elsewhere


def test_a_refusal_by_country_is_explained_by_where_the_caller_was(site):
    asking(site, "{countries: AT}")
    refused = site.once("GET", INVOICES, token=site.token("elsewhere"), x_forwarded_for="203.0.113.7")
    told = site.ostiary("explain", refused.decision, "--json").json
    assert (told["event"]["country"], "from AT" in told["explanation"]["would_allow"][0]) == ("DE", True)


@pytest.fixture
def person(site):
    """Signs in, and makes that sign-in older than it is."""
    login = f"mara{next(number)}"
    site.ask("client.add", client_id=f"{login}-portal", auth="none", redirects=[BACK])
    site.ask("user.add", login=login, password=PASSWORD, roles=["elsewhere"])

    def token(ago_s=0):
        told = sign_in(
            site.caller(), f"{login}-portal", BACK, login, Secret(PASSWORD), "openid shop/*:read shop/*:write"
        )
        if not ago_s:
            return told["access_token"]
        on = open_installation(site.home)
        with on.store.begin() as connection:
            mine = update(GRANT).where(GRANT.c.principal == f"user:{login}")
            connection.execute(mine.values(authenticated_at_s=int(time.time()) - ago_s))
        on.store.close()
        fields = {"client_id": f"{login}-portal", "refresh_token": told["refresh_token"]}
        return site.caller().form("/identity/token", grant_type="refresh_token", **fields).json()["access_token"]

    return token


@pytest.mark.standard("B4")
@pytest.mark.parametrize(
    ("may", "ask"), [(MAY, ("GET", INVOICES)), (LOOKED_INTO, ("POST", "/shop/orders", b'{"lines": []}'))]
)
def test_a_sign_in_of_long_ago_is_asked_for_anew_and_a_new_one_passes(site, person, may, ask):
    """RFC 9470, by the gate alone, and where the guard looks into the request."""
    asking(site, "{within: 15 minutes}", may)
    refused = site.once(*ask, token=person(AGO_S))
    assert (refused.status, refused.reason) == (401, "step-up")
    assert refused.headers["www-authenticate"] == (
        'Bearer realm="ostiary", error="insufficient_user_authentication", max_age="900"'
    )
    assert site.once(*ask, token=person()).status == 200
    told = site.ostiary("explain", refused.decision, "--json").json["explanation"]
    assert told["would_allow"][0].startswith("the same request within 15 minutes of the sign-in")
    machine = site.once(*ask, token=site.token("elsewhere"))
    assert (machine.status, machine.reason) == (403, "context")  # a machine can't sign in


@pytest.mark.standard("B4")
def test_a_password_alone_is_not_enough_where_more_is_asked_for(site, person):
    asking(site, "{assurance: mfa}")
    refused = site.once("GET", INVOICES, token=person())
    assert (refused.status, refused.reason, 'acr_values="mfa"' in refused.headers["www-authenticate"]) == (401, "step-up", True)  # fmt: skip
    ways = site.ostiary("policy", "who-can", "shop/invoice:read", "--json").json
    holders = {one for way in ways if way["role"] == "elsewhere" for one in way["holders"]}
    assert "client:elsewhere" not in holders  # no machine can


def shown(site, pair, method, path, body=b"", **headers):
    """On a connection that shows this certificate, or none."""
    tls = ssl.create_default_context(cafile=str(site.authority))
    if pair:
        tls.load_cert_chain(pair)
    connection = HTTPSConnection("localhost", site.port, timeout=10, context=tls)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@pytest.mark.standard("B4")
def test_a_device_is_registered_used_and_taken_back_at_once(site, tmp_path):
    pair, name = tmp_path / "pair.pem", f"till-{next(number)}"
    token = site.client(f"{name}-client", "elsewhere")
    asking(site, "{devices: registered}")
    made = site.ostiary("device", "add", name, "--for", f"client:{name}-client")
    assert made.code == 0, made.err
    pair.write_text(made.out)
    bearer = {"authorization": f"Bearer {token}"}
    assert [shown(site, one, "GET", INVOICES, **bearer)[0] for one in (pair, None)] == [200, 403]
    others = {"authorization": f"Bearer {site.token('elsewhere')}"}
    assert shown(site, pair, "GET", INVOICES, **others)[0] == 403  # it is another's
    form = (
        f"grant_type=client_credentials&client_id={name}-client&client_secret={site.secrets[f'{name}-client'].reveal()}"
    )
    status, body = shown(site, pair, "POST", "/identity/token", form, **{"content-type": "application/x-www-form-urlencoded"})  # fmt: skip
    assert status == 200
    issued = {"authorization": f"Bearer {json.loads(body)['access_token']}"}
    assert shown(site, None, "GET", INVOICES, **issued)[0] == 200
    assert name in site.ostiary("device", "list").out
    assert site.ostiary("device", "remove", name).code == 0
    told = [shown(site, one, "GET", INVOICES, **by)[0] for one, by in ((pair, bearer), (None, issued))]
    assert told == [403, 403]
    noted = [one["action"] for one in site.ask("audit.list", limit=2)]
    assert noted == ["device.remove", "device.add"] or "device.remove" in noted


def test_what_the_installation_never_gets_to_know_is_refused_with_what_to_do():
    with installed() as site:
        for context, hint in [
            ("{countries: DE}", "geoip_database"),
            ("{devices: registered}", "ask_client_certificate"),
        ]:
            file = site.home.policy
            file.write_text(site.policy((NEVER_OPEN, f"never-open: {context}")))
            told = site.ostiary("policy", "check", str(file))
            assert (told.code, hint in told.err) == (2, True), told


def test_no_system_has_the_audience_of_the_identity_server_s_own_tokens():
    """A token that a role gave for an ERP would open what a directory's does."""
    with installed() as site:
        for taken in ("/identity", "/identity/scim/v2"):
            file = site.home.policy
            file.write_text(site.policy(("{kind: openapi,", f'{{kind: openapi, audience: "{site.origin}{taken}",')))
            told = site.ostiary("policy", "check", str(file))
            assert (told.code, "that of the identity server itself" in told.err) == (2, True), told


def test_a_setting_that_names_no_database_stops_the_start():
    with installed(geoip_database="/nowhere/places.mmdb") as site:
        assert site.begin().wait(30) == 2
        assert "is no MMDB file" in site.tail()


@pytest.mark.parametrize("text", [None, "", "no certificate"])
def test_a_setting_that_names_no_authorities_stops_the_start(tmp_path, text):
    file = tmp_path / "nope.pem"
    if text is not None:
        file.write_text(text)
    with installed(upstream_authorities=str(file)) as site:
        assert site.begin().wait(30) == 2
        assert f"upstream_authorities in settings.toml names {file}: " in site.tail()


def test_an_example_says_country_device_and_sign_in_and_may_expect_to_be_asked_to_sign_in(site):
    context = "{countries: DE, devices: registered, assurance: mfa, within: 15 minutes}"
    does = 'who: elsewhere, does: "invoice: read", at: "2026-03-03T10:00Z"'
    right = "country: DE, device: registered"
    tests = f"""
tests:
  - {{{does}, {right}, assurance: mfa, signed-in: 15 minutes, expect: allow}}
  - {{{does}, {right}, assurance: mfa, signed-in: 16 minutes, expect: step-up}}
  - {{{does}, {right}, signed-in: 1 minute, expect: deny}}
  - {{{does}, country: DE, assurance: mfa, signed-in: 1 minute, expect: deny}}
  - {{{does}, expect: deny}}
"""
    site.apply(site.policy((NEVER_OPEN, f"never-open: {context}")) + tests)
    with pytest.raises(OperatorFault, match="step-up"):
        site.apply(site.policy((NEVER_OPEN, f"never-open: {context}")) + tests.replace("16 minutes, expect: step-up", "16 minutes, expect: allow"))  # fmt: skip
