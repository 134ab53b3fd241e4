"""Attacks on signing in by a provider's word, and on signing out by it, on both databases."""

import json
import re
import time
from contextlib import closing
from unittest.mock import ANY

import pyotp
import pytest
from joserfc.jwk import ECKey

from ostiary.audit.log import entries
from ostiary.foundation.clock import SystemClock
from ostiary.foundation.errors import CallerFault, OperatorFault, SystemFault
from ostiary.foundation.secret import Secret
from ostiary.identity import factors, principals, providers, registration
from ostiary.identity import outside as outside_module
from ostiary.identity.published import Published
from provider_twin import CLIENT, SECRET, Signing, Twin

REFUSED = "What came back from there is not accepted"


@pytest.fixture
def outside(world_with, tmp_path, clock_of):
    with closing(Twin(tmp_path, clock_of)) as twin, world_with(upstream_authorities=twin.authorities) as world:
        twin.clock = world.clock
        yield Signing(world, twin)


@pytest.fixture
def clock_of():
    return SystemClock()


def listed(outside):
    with outside.world.store.read() as connection:
        return {row["id"]: row["roles"] for row in principals.users(connection)}


def stops(outside, told=REFUSED, outcome="", **changed):
    """Nobody is signed in, nothing is made."""
    before, answer = listed(outside), outside.back(**changed)
    assert answer.status_code == 400
    assert told in answer.text
    assert "set-cookie" not in answer.headers
    assert listed(outside) == before
    if told == REFUSED and not outcome:
        outcome = "token-refused"
    assert json.loads(outside.world.journal().splitlines()[-1])["outcome"] == (outcome or ANY)


def test_the_account_is_made_with_the_roles_of_its_claims_and_has_these_alone_at_each_sign_in(outside):
    told = outside.tokens()
    claims = outside.world.claims(told["access_token"])
    assert (claims.subject, claims.amr, claims.acr) == ("user:anna@acme", ("fed",), "pwd")
    assert claims.authenticated_at == int(outside.world.clock.now().timestamp())
    assert listed(outside)["user:anna@acme"] == ["clerk"]
    outside.twin.claims["groups"] = ["stock", "others"]
    outside.forget()
    outside.tokens()
    assert listed(outside)["user:anna@acme"] == ["packer"]
    assert outside.world.gone[-1].startswith("gen:user:anna@acme#")
    outside.twin.claims["groups"] = "stock"  # one that is no list
    outside.forget()
    outside.tokens()
    outside.twin.claims["groups"] = []
    outside.forget()
    outside.begin()
    answer = outside.back()
    assert "nothing is allowed to you here" in answer.text
    assert listed(outside)["user:anna@acme"] == []


def test_what_the_provider_is_asked(outside):
    asked = outside.begin()
    assert outside.sent.startswith(f"{outside.twin.issuer}/authorize?tenant=1&")
    assert asked["redirect_uri"] == "https://localhost:8443/identity/provider/acme/callback"
    assert (asked["code_challenge_method"], asked["scope"], asked["max_age"]) == ("S256", "openid profile", "28800")
    assert len({asked[name] for name in ("state", "nonce", "code_challenge")}) == 3
    assert outside.begin(prompt="login")["prompt"] == "login"
    assert outside.begin(max_age="60")["max_age"] == "60"


WRONG = {
    "nonce missing": {"nonce": None},
    "nonce of another": {"nonce": "another"},
    "aud": {"aud": "another"},
    "aud of others too": {"aud": ["ostiary at acme", "another"]},
    "azp": {"azp": "another"},
    "issuer": {"iss": "https://localhost:1"},
    "expired": {"exp": 1_700_000_000},
    "old": {"iat": 1_700_000_000},
    "ahead": {"iat": 1_900_000_000},
    "no iat": {"iat": None},
    "no sub": {"sub": None},
    "empty sub": {"sub": ""},
    "long sub": {"sub": "s" * 256},
    "at_hash": {"at_hash": "another"},
    "a logout token": {"events": {"http://schemas.openid.net/event/backchannel-logout": {}}},
}


@pytest.mark.parametrize("wrong", WRONG)
def test_an_id_token_that_is_not_just_for_this_is_refused(outside, wrong):
    outside.begin()
    outside.twin.changed = WRONG[wrong]
    stops(outside)


HEADERS = {
    "alg none": {"alg": "none"},
    "HS256 by the public key": {"alg": "HS256"},
    "another kind": {"typ": "logout+jwt"},
    "an access token": {"typ": "at+jwt"},
    "an unknown key": {"kid": "unknown"},
}


@pytest.mark.parametrize("wrong", HEADERS)
def test_an_id_token_is_signed_by_the_providers_own_key_and_by_nothing_else(outside, wrong):
    outside.begin()
    outside.twin.header = HEADERS[wrong]
    stops(outside)


def test_a_key_that_the_token_brings_along_is_no_key(outside):
    outside.begin()
    mine = ECKey.generate_key("P-256")
    outside.twin.keys["mine"] = mine
    outside.twin.header = {"alg": "ES256", "kid": "mine", "jwk": mine.as_dict(private=False)}
    stops(outside)


@pytest.mark.parametrize("alg", ["ES256", "PS256", "EdDSA", "RS256"])
def test_these_algorithms_count(outside, alg):
    outside.twin.turn(alg)
    assert outside.sign_in().status_code == 303


def test_what_a_client_changes_while_a_person_is_at_the_provider_was_not_agreed_to(outside):
    outside.begin()
    world = outside.world
    wider = {"client_id": "web", "scopes": ["erp/*:write"]}
    world.gone += world.do(registration.change_client, sealer=world.sealer, **wider)
    stops(outside, "has lapsed")


def test_the_answer_of_another_provider_is_refused(outside):
    """Mix-up (RFC 9700 section 4.4): by `iss`, and by the address that each has of its own."""
    facts = {"name": "evil", "issuer": "https://evil.example", "client_id": "x", "accounts": "jit"}
    told = {"sealer": outside.world.sealer, "one": providers.fit(facts), "secret": outside.world.sealer}
    told["secret"] = type("S", (), {"reveal": lambda _: "x"})()
    outside.world.do(providers.add_provider, **told)
    outside.begin()
    stops(outside, "of another provider", iss="https://evil.example")
    outside.begin()
    stops(outside, "of another provider", iss=None)
    outside.begin()
    stops(outside, "begun in another browser", name="evil")
    assert outside.twin.fetched("/token") == 0


def test_a_state_is_good_once_and_in_its_own_browser(outside):
    asked, cookies = outside.begin(), dict(outside.world.cookies)
    outside.world.cookies.clear()
    stops(outside, "begun in another browser")
    outside.world.cookies.update(cookies)
    assert outside.back().status_code == 303  # whoever tried has not spoiled it
    stops(outside, "begun in another browser")
    stops(outside, "begun in another browser", state="another")
    stops(outside, "begun in another browser", state=None)
    assert asked == outside.twin.asked
    outside.forget()
    outside.begin()
    outside.world.later(seconds=601)
    stops(outside, "has lapsed")


def test_a_code_that_was_used_is_none(outside):
    outside.sign_in()
    outside.forget()
    outside.begin()
    stops(outside, code="code-0", outcome="provider-away")


def test_a_provider_that_says_no_is_believed(outside):
    outside.begin()
    stops(outside, "You were not signed in there", code=None, error="access_denied")


def test_nobody_takes_an_account_over_by_what_he_is_called_at_the_provider(outside):
    """Neither a local administrator's, nor one of the same name there; the e-mail counts for nothing."""
    outside.world.do(principals.add_user, login="boss@acme", hashed="x", roles=["admin"])
    outside.twin.claims |= {"sub": "0f-evil", "preferred_username": "boss", "email": "anna@acme.example"}
    outside.tokens()
    (mine,) = [one for one in listed(outside) if one.startswith("user:boss-")]
    assert listed(outside) == {"user:anna": ["clerk"], "user:boss@acme": ["admin"], mine: ["clerk"]}
    outside.twin.claims |= {"sub": "0f-evil-2", "preferred_username": "BOSS"}
    outside.forget()
    outside.tokens()
    assert len([one for one in listed(outside) if one.lower().startswith("user:boss-")]) == 2
    outside.twin.claims |= {"sub": "0f-3", "preferred_username": "../../#:admin\n@x", "name": "A\u202eB\n"}
    outside.forget()
    outside.tokens()
    assert listed(outside)["user:admin@acme"] == ["clerk"]


def test_without_jit_only_those_come_in_who_are_linked(outside):
    outside.change(accounts="existing")
    outside.begin()
    stops(outside, "have no account here yet")
    outside.world.do(providers.link, name="acme", subject="0f-a1", principal="user:anna")
    with outside.world.store.read() as connection:
        assert list(principals.one(connection, "user:anna")["outside"].values()) == ["0f-a1"]
    told = outside.tokens()
    assert outside.world.claims(told["access_token"]).subject == "user:anna"
    outside.world.do(providers.unlink, name="acme", subject="0f-a1")
    with pytest.raises(CallerFault, match="nobody here"):
        outside.world.do(providers.unlink, name="acme", subject="0f-a1")
    assert outside.world.refresh(told["refresh_token"]).status_code == 400
    outside.begin()
    stops(outside, "have no account here yet")


def test_where_accounts_are_made_at_the_first_sign_in_nobody_is_kept_out_by_unlinking(outside):
    """He would have another account, by which duties are not kept apart from the first: disabling keeps him out."""
    outside.tokens()
    (mine,) = set(listed(outside)) - {"user:anna"}
    with pytest.raises(CallerFault, match="would get a new one") as problem:
        outside.world.do(providers.unlink, name="acme", subject="0f-a1")
    assert "user disable" in problem.value.hint
    outside.world.do(principals.disable, principal=mine)
    outside.forget()
    outside.begin()
    stops(outside, "is switched off")


def test_who_is_unlinked_while_his_answer_is_looked_at_is_not_signed_in(outside, monkeypatch):
    outside.change(accounts="existing")
    outside.world.do(providers.link, name="acme", subject="0f-a1", principal="user:anna")
    outside.tokens()
    outside.forget()
    outside.begin()
    account = outside_module._account

    def unlinked_then(*told):
        found = account(*told)
        outside.world.do(providers.unlink, name="acme", subject="0f-a1")
        return found

    monkeypatch.setattr(outside_module, "_account", unlinked_then)
    stops(outside, "is switched off", "access_denied")


def test_a_claim_without_a_mapped_role_makes_no_account(outside):
    outside.twin.claims["groups"] = ["nobody"]
    outside.begin()
    stops(outside, "nothing is allowed to you here")


@pytest.mark.parametrize(
    ("problem", "told", "outcome"),
    [
        (OperatorFault("roles-apart", "kept apart"), "The roles that you would get", "access_denied"),
        (SystemFault("guard-silent", "the guard does not answer"), REFUSED, "guard-silent"),
    ],
    ids=str,
)
def test_who_is_given_no_roles_is_told_whether_that_passes(outside, monkeypatch, problem, told, outcome):
    def fails(**_):
        raise problem

    monkeypatch.setattr(outside.world, "arrive", fails)
    outside.begin()
    stops(outside, told, outcome)


def test_groups_that_the_token_left_out_take_nothing_away(outside):
    outside.tokens()
    del outside.twin.claims["groups"]
    outside.twin.claims["_claim_names"] = {"groups": "src1"}
    outside.forget()
    outside.begin()
    stops(outside, "in more groups than")


@pytest.fixture
def with_app(outside):
    """Anna's account, by the provider's word and her app; the form with her code, for the page that asks for it."""
    outside.change(accounts="existing", mfa="trusted", acrs="gold")
    outside.world.do(providers.link, name="acme", subject="0f-a1", principal="user:anna")
    secret, server = factors.new_secret(), outside.world.app.state.server
    outside.world.do(lambda change: factors.add(server, change, "user:anna", factors.TOTP, secret, name="", counter=0))

    def form(page):
        hidden = dict(re.findall(r'name="(request|csrf|half)" value="([^"]*)"', page.text))
        return {**hidden, "code": pyotp.TOTP(secret.reveal()).at(outside.world.clock.now()), "decision": "allow"}

    return form


def test_a_provider_that_is_removed_before_the_code_signs_nobody_in(outside, with_app):
    form = with_app(outside.sign_in())
    outside.world.do(providers.remove_provider, name="acme")
    answer = outside.world.ask("POST", "/identity/sign-in", data=form)
    assert (answer.status_code, "the session has ended" in answer.text) == (400, True)
    assert "__Host-ostiary-session" not in answer.headers.get("set-cookie", "")


@pytest.mark.parametrize(("sid", "ended"), [("up-1", True), ("up-2", False), (None, True)])
def test_a_session_that_ended_there_before_the_code_is_none_here(outside, with_app, sid, ended):
    form = with_app(outside.sign_in())
    assert outside.say_logout(sid=sid).status_code == 200
    answer = outside.world.ask("POST", "/identity/sign-in", data=form)
    assert ("the session has ended" in answer.text, answer.status_code) == (ended, 400 if ended else 303)


@pytest.mark.parametrize(("facts", "ended"), [({"mfa": "trusted"}, True), ({"title": "Acme"}, False)])
def test_who_is_signed_in_by_what_a_provider_was_before_is_so_no_longer(outside, facts, ended):
    told = outside.tokens()
    outside.change(accounts="jit")  # as it was said before: nothing changes
    told = outside.world.refresh(told["refresh_token"]).json()
    outside.change(**facts)
    assert outside.world.refresh(told["refresh_token"]).status_code == (400 if ended else 200)


def test_half_a_sign_in_by_what_a_provider_was_before_it_changed_is_none(outside, with_app):
    form = with_app(outside.sign_in())
    outside.change(mfa="no", client_id="another")
    answer = outside.world.ask("POST", "/identity/sign-in", data=form)
    assert ("the session has ended" in answer.text, answer.status_code) == (True, 400)


def test_a_second_factor_of_the_account_is_asked_for_unless_the_providers_counts(outside, with_app):
    answer = outside.world.ask("POST", "/identity/sign-in", data=with_app(outside.sign_in()))
    told = outside.world.redeem(outside.world.sent_back(answer)["code"]).json()
    assert outside.world.claims(told["access_token"]).amr == ("fed", "otp", "mfa"), "no password was shown here"
    assert outside.say_logout().status_code == 200
    assert [key for key in outside.world.gone if key.startswith("sid:")]
    for claims in ({"amr": ["mfa"]}, {"acr": "gold"}):
        outside.twin.changed = {"sid": "up-2", **claims}
        outside.forget()
        assert outside.world.claims(outside.tokens()["access_token"]).acr == "mfa"


def test_a_fresh_sign_in_is_one_there_too(outside):
    now = int(outside.world.clock.now().timestamp())
    for changed in ({"auth_time": now - 600}, {"auth_time": None}):
        outside.twin.changed = changed
        outside.begin(prompt="login")
        assert "unmet_authentication_requirements" in outside.back().headers["location"]
    outside.twin.changed = {"auth_time": None}
    claims = outside.world.claims(outside.tokens()["access_token"])
    assert claims.authenticated_at is None  # nobody knows: what asks for a recent one is refused
    outside.forget()
    outside.twin.changed = {"auth_time": now + 1_000_000}
    assert outside.world.claims(outside.tokens()["access_token"]).authenticated_at == now


NO_LOGOUT = {
    "nonce": {"nonce": "n"},
    "an id token": {"events": None, "nonce": "n"},
    "no event": {"events": {}},
    "another event": {"events": {"http://schemas.openid.net/event/other": {}}},
    "neither sub nor sid": {"sub": None, "sid": None},
    "no jti": {"jti": None},
    "aud": {"aud": "another"},
    "issuer": {"iss": "https://evil.example"},
    "expired": {"exp": 1_700_000_000},
    "no exp": {"exp": None},
}


@pytest.mark.parametrize("wrong", NO_LOGOUT)
def test_a_logout_token_that_is_none_ends_nothing(outside, wrong):
    outside.tokens()
    assert outside.say_logout(**NO_LOGOUT[wrong]).status_code == 400
    assert outside.world.gone == ["gen:user:anna@acme#1"]


@pytest.mark.parametrize("header", [{"alg": "none"}, {"alg": "HS256"}, {"typ": "at+jwt"}])
def test_a_logout_token_is_signed_too(outside, header):
    outside.tokens()
    outside.twin.header = header
    assert outside.say_logout().status_code == 400


@pytest.mark.parametrize("whose", [{"sid": "up-1", "sub": None}, {"sub": "0f-a1", "sid": None}, {}])
def test_a_session_that_ended_there_ends_here_and_all_that_was_given_in_it(outside, whose):
    told = outside.tokens()
    outside.world.later(hours=9)  # the session has lapsed, what was given in it has not
    outside.twin.claims["sub"] = "0f-b2"
    outside.twin.claims["preferred_username"] = "berta"
    outside.twin.changed = {"sid": "up-2"}
    outside.forget()
    other = outside.tokens()
    answer = outside.say_logout(**whose)
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    sid = outside.world.claims(other["access_token"]).session
    assert outside.world.gone[-1].startswith("sid:")
    assert outside.world.gone[-1] != f"sid:{sid}"
    assert outside.world.refresh(told["refresh_token"]).status_code == 400
    assert outside.world.refresh(other["refresh_token"]).status_code == 200


def test_a_logout_token_is_good_once(outside):
    outside.tokens()
    token = outside.twin.logout_token()
    assert outside.post(token).status_code == 200
    assert outside.post(token).status_code == 400
    assert outside.say_logout(sid="unknown").status_code == 200


def test_a_session_of_the_same_name_elsewhere_stays(outside):
    """What the provider calls its session is nobody else's; sub and sid must both fit."""
    outside.tokens()
    assert outside.say_logout(sub="0f-b2").status_code == 200
    assert not [key for key in outside.world.gone if key.startswith("sid:")]


def test_a_removed_provider_signs_out_whom_it_had_signed_in(outside):
    told = outside.tokens()
    gone = outside.world.do(providers.remove_provider, name="acme")
    assert gone == (f"sid:{outside.world.claims(told['access_token']).session}",)
    assert "formaction" not in outside.world.authorize().text
    assert outside.say_logout().status_code == 400
    with outside.world.store.read() as connection:
        assert next(entries(connection))["action"] == "provider.remove"


def test_the_links_of_a_removed_provider_do_not_come_back_with_one_of_the_same_issuer(outside):
    world, facts = outside.world, {"name": "acme", "issuer": outside.twin.issuer, "client_id": CLIENT}
    world.do(providers.link, name="acme", subject="0f-a1", principal="user:anna")
    world.do(providers.remove_provider, name="acme")
    with world.store.read() as connection:
        assert principals.one(connection, "user:anna")["outside"] == {}
        assert providers.account(connection, facts["issuer"], "0f-a1") is None
    one = providers.fit(facts)
    world.do(providers.add_provider, sealer=world.sealer, one=one, secret=Secret(SECRET))
    outside.begin()
    stops(outside, "have no account here yet")


def test_keys_are_kept_renewed_beside_and_looked_for_again_once_a_minute(outside):
    twin = outside.twin
    outside.tokens()
    outside.forget()
    outside.tokens()
    assert twin.fetched("/jwks") == 1
    twin.turn("ES256")
    outside.forget()
    outside.tokens()
    assert twin.fetched("/jwks") == 2
    for _ in range(3):
        twin.header = {"kid": "unknown"}
        outside.forget()
        outside.begin()
        stops(outside)
    assert twin.fetched("/jwks") == 2
    twin.header = {}
    outside.world.later(seconds=301)
    twin.instead["/jwks"] = (500, {}, "")
    outside.forget()
    outside.tokens()  # by what is kept
    last = time.monotonic() + 10
    while twin.fetched("/jwks") < 3 and time.monotonic() < last:
        time.sleep(0.01)
    assert twin.fetched("/jwks") == 3
    outside.world.later(seconds=3601)
    outside.forget()
    outside.begin()
    stops(outside, outcome="provider-away")


def test_what_a_provider_answers_is_bounded(tmp_path):
    clock = SystemClock()
    with closing(Twin(tmp_path, clock)) as twin:
        huge = '{"keys": [' + ", ".join(["{}"] * 200) + "]}"
        wrong = {
            "huge": (200, {}, '{"keys": ["' + "x" * 300_000 + '"]}'),
            "many": (200, {}, huge),
            "deep": (200, {}, "[" * 100_000),
            "no JSON": (200, {}, "keys"),
            "sent elsewhere": (302, {"location": f"{twin.issuer}/elsewhere"}, ""),
            "fails": (500, {}, ""),
        }
        for answer in wrong.values():
            twin.instead["/jwks"] = answer
            with pytest.raises(SystemFault, match="gives no answer that can be used"):
                Published(twin.authorities, clock).keys(twin.issuer, "key-0")
        assert twin.fetched("/elsewhere") == 0
        twin.server.endless["/jwks"] = b" " * 1000
        with pytest.raises(SystemFault, match="too long"):
            Published(twin.authorities, clock).keys(twin.issuer, "key-0")
        twin.server.endless["/jwks"] = b""  # it keeps silent
        began = time.monotonic()
        with pytest.raises(SystemFault, match="gives no answer"):
            Published(twin.authorities, clock).keys(twin.issuer, "key-0")
        assert time.monotonic() - began < 8
        with pytest.raises(SystemFault, match="certificate"):
            Published("", clock).metadata(twin.issuer)


@pytest.mark.parametrize(
    "changed",
    [
        {"issuer": "https://evil.example"},
        {"issuer": "https://localhost/{tenantid}/v2.0"},
        {"jwks_uri": "http://169.254.169.254/latest/meta-data"},
        {"jwks_uri": "https://localhost:1/jwks"},
        {"token_endpoint": "https://evil.example/token"},
        {"authorization_endpoint": "javascript:alert(1)"},
    ],
)
def test_a_discovery_document_is_the_issuers_own(tmp_path, changed):
    with closing(Twin(tmp_path, SystemClock())) as twin:
        twin.metadata |= changed
        with pytest.raises(SystemFault, match=r"another issuer|is not below"):
            Published(twin.authorities, SystemClock()).metadata(twin.issuer)


@pytest.mark.parametrize(
    "facts",
    [
        {"issuer": "http://localhost:8080"},
        {"issuer": "https://login.microsoftonline.com/{tenantid}/v2.0"},
        {"issuer": "https://user@acme.example"},
        {"issuer": "https://acme.example/?x"},
        {"issuer": "https://acme.example\n"},
        {"name": "a/b"},
        {"accounts": "all"},
        {"mfa": "always"},
        {"strange": 1},
    ],
)
def test_what_is_no_provider_is_told(facts):
    with pytest.raises(CallerFault, match="no provider"):
        providers.fit({"name": "acme", "issuer": "https://acme.example", "client_id": "x", **facts})


def test_an_issuer_without_https_is_told_in_words():
    with pytest.raises(CallerFault) as problem:
        providers.fit({"name": "acme", "issuer": "http://acme.example", "client_id": "x"})
    assert problem.value.message == "this is no provider: the issuer 'http://acme.example' is no https address"


@pytest.mark.parametrize(
    ("claim", "told"),
    [
        ("groups", {"groups": ["a", "admin"]}),
        ("realm_access.roles", {"realm_access": {"roles": ["admin"]}}),
        ("resource_access.my.app.roles", {"resource_access": {"my.app": {"roles": ["admin"]}}}),
        ("https://acme.example/roles", {"https://acme.example/roles": ["admin"]}),
        ("role", {"role": "admin"}),
    ],
)
def test_a_claim_is_found_by_its_name_or_by_the_way_into_it(claim, told):
    facts = {"name": "acme", "issuer": "https://acme.example", "client_id": "x", "maps": [(claim, "admin", "chief")]}
    one = providers.fit(facts)
    assert providers.mapped(one, told) == ["chief"]
    for other in (
        {},
        {claim: ["administrator"]},
        {claim: {"admin": True}},
        {claim: [["admin"]]},
        {claim: "admin other"},
    ):
        assert providers.mapped(one, other) == []


@pytest.mark.parametrize("claim", ["sub", "sid"])
def test_a_claim_that_nobody_can_see_or_keep_is_refused_on_both_databases(outside, claim):
    for text in ("a\0", "a\x1b[2J"):
        outside.begin()
        outside.twin.changed = {claim: text}
        stops(outside)
        outside.twin.changed = {}
        assert outside.say_logout(**{claim: text}).status_code == 400


def test_who_arrives_while_his_provider_is_removed_is_linked_to_nothing(outside):
    world = outside.world
    one = world.store.ask(providers.find, "acme")
    world.do(providers.remove_provider, name="acme")
    with pytest.raises(CallerFault, match="no provider acme"):
        world.do(providers.add_account, provider=one, subject="0f-new", login="new", name="New")
    assert world.store.ask(providers.account, one.issuer, "0f-new") is None


def test_who_comes_by_a_provider_that_was_removed_and_added_again_gets_an_account_each_time(outside):
    world = outside.world
    one = world.store.ask(providers.find, "acme")
    made = []
    for _ in range(3):
        made.append(world.do(providers.add_account, provider=one, subject="0f-new", login="new", name="New"))
        world.do(providers.remove_provider, name="acme")
        world.do(providers.add_provider, sealer=world.sealer, one=one, secret=Secret(SECRET))
    assert len({*made}) == 3
