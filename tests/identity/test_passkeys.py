"""Passkeys: enrolled at the account page, enough alone, and refused to everybody who tampers (WebAuthn section 7)."""

import ast
import json
import re
from contextlib import closing
from html import unescape
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from identity.test_people import Browser, form_of
from ostiary.foundation.clock import SystemClock
from ostiary.foundation.secret import Secret
from ostiary.identity import account, factors, page, principals
from ostiary.identity.passwords import hash_password
from ostiary.store.tables import SESSION
from provider_twin import Signing, Twin
from soft_authenticator import BE, UP, UV, Authenticator, data, text


class Holder(Browser):
    """A person with a device for passkeys."""

    def __init__(self, world, device=None):
        super().__init__(world)
        self.device = device or Authenticator()

    def options(self, shown):
        return unescape(re.search(r'data-passkey="([^"]*)"', shown.text)[1])

    def enrol_passkey(self, name="my phone", **changed):
        """The page after it."""
        shown = self.act("passkey-new")
        return self.confirm(shown, self.device.create(self.options(shown), **changed), name)

    def confirm(self, shown, told, name="my phone"):
        form = {**form_of(shown, "passkey-confirm"), "passkey": told, "name": name}
        return self.world.ask("POST", "/identity/account", data=form)

    def prove(self, shown):
        """By the passkey where a code is asked for."""
        if 'name="request"' not in shown.text:
            return shown
        shown = self.world.answer(shown)
        return self.use(shown) if 'name="half"' in shown.text else shown

    def use(self, shown=None, **changed):
        """Signs in by it, at this page or at a new one."""
        shown = shown or self.page()
        return self.send(shown, self.device.get(self.options(shown), **changed))

    def send(self, shown, told):
        return self.send_at_once(1, shown, told)[0]

    def send_at_once(self, times, shown, told):
        form = {**self.world.hidden(shown), "decision": "allow", "passkey": told}
        return self.world.ask_at_once(times, "POST", "/identity/sign-in", data=form)

    def noted(self):
        return json.loads(self.world.journal().splitlines()[-1])


@pytest.fixture
def holder(world):
    made = Holder(world)
    made.sign_in()
    assert "Done" in made.enrol_passkey().text
    made.forget()
    return made


@pytest.fixture
def ben(world):
    hashed = hash_password(Secret(world.password), login="ben")
    return world.do(principals.add_user, login="ben", hashed=hashed)


@pytest.mark.standard("B4")
@pytest.mark.parametrize("algorithm", [-7, -8, -257])
def test_a_passkey_alone_is_enough_and_counts_as_more_than_one_factor(world, algorithm):
    holder = Holder(world, Authenticator(algorithm=algorithm))
    holder.sign_in()
    shown = holder.enrol_passkey("Annas Laptop")
    assert len(re.findall(r"<li><code>([\w-]+)</code>", shown.text)) == 10, "recovery codes"
    holder.forget()
    answer = holder.use(world.authorize(acr_values="mfa"))
    tokens = world.redeem(world.sent_back(answer)["code"]).json()
    claims = world.claims(tokens["access_token"])
    assert (claims.subject, claims.acr, claims.amr) == ("user:anna", "mfa", ("hwk", "user", "mfa"))
    shown = holder.page()
    assert "Annas Laptop" in shown.text
    assert "last used 2026-03-03 12:00 UTC" in shown.text
    assert holder.noted()["outcome"] == "issued" or "allowed" in world.journal()


def test_what_is_synced_is_not_said_to_be_bound_to_hardware(world):
    holder = Holder(world, Authenticator(counter=None, flags=UP | UV | BE))
    holder.sign_in()
    holder.enrol_passkey()
    for _ in range(2):  # it does not count, and goes on
        holder.forget()
        tokens = world.redeem(world.sent_back(holder.use(world.authorize()))["code"]).json()
        assert world.claims(tokens["access_token"]).amr == ("swk", "user", "mfa")


def test_the_password_alone_is_not_enough_any_more_and_the_passkey_stands_in_for_the_code(world, holder):
    half = holder.half(world.authorize())
    assert 'name="half"' in half.text
    assert holder.use(half).status_code == 303


def test_recovery_codes_stand_in_for_a_lost_passkey(world):
    holder = Holder(world)
    holder.sign_in()
    codes = re.findall(r"<li><code>([\w-]+)</code>", holder.enrol_passkey().text)
    holder.forget()
    assert holder.whole(codes[0]).status_code == 303


def test_several_passkeys_are_told_apart_by_name_and_removed_one_by_one(world, holder):
    holder.use()
    first, holder.device = holder.device, first_of(holder, "second & <b>third</b>")
    shown = holder.page()
    assert "second &amp; &lt;b&gt;third" in shown.text
    remove = next(form for form in forms(shown, "remove") if "my phone" in form["before"])
    holder.device, second = first, holder.device
    assert "Done" in holder.prove(world.ask("POST", "/identity/account", data=remove["fields"])).text
    holder.forget()
    assert holder.use().status_code == 200
    holder.device = second
    assert holder.use().status_code == 303


def first_of(holder, name):
    """A second device, added with the first."""
    device = Authenticator()
    shown = holder.act("passkey-new")
    assert len(json.loads(holder.options(shown))["excludeCredentials"]) == 1
    holder.confirm(shown, device.create(holder.options(shown)), name)
    return device


def forms(shown, act):
    parts = re.split(r"(<form.*?</form>)", shown.text, flags=re.DOTALL)
    for before, form in zip(parts[::2], parts[1::2], strict=False):
        if f'value="{act}"' in form:
            fields = dict(re.findall(r'name="(\w+)" value="([^"]*)"', form))
            yield {"before": before, "fields": {**fields, "act": act}}


def test_what_the_browser_is_asked_for(world):
    holder = Holder(world)
    asked = json.loads(holder.options(world.authorize()))
    assert (asked["rpId"], asked["userVerification"]) == ("localhost", "required")
    assert "allowCredentials" not in asked, "else whoever asks would learn who has one"
    holder.sign_in()
    asked = json.loads(holder.options(holder.act("passkey-new")))
    assert asked["attestation"] == "none"
    assert asked["authenticatorSelection"]["residentKey"] == "required"
    assert asked["authenticatorSelection"]["userVerification"] == "required"
    assert b"anna" not in data(asked["user"]["id"])
    assert len(data(asked["user"]["id"])) == 32
    assert len(data(asked["challenge"])) >= 16


TAMPERED = [
    {"client": {"origin": "https://localhost"}},
    {"client": {"origin": "https://localhost:8443.evil.example"}},
    {"client": {"origin": "http://localhost:8443"}},
    {"client": {"type": "webauthn.create"}},
    {"client": {"crossOrigin": True}},
    {"rp": "evil.example"},
    {"rp": "https://localhost:8443"},
    {"flags": UP},
    {"flags": UV},
    {"flags": 0},
]


@pytest.mark.parametrize("changed", [*TAMPERED, {"handle": None}, {"handle": b""}, {"handle": b"x" * 32}])
def test_who_tampers_with_an_answer_is_refused(world, holder, changed):
    answer = holder.use(**changed)
    assert (answer.status_code, answer.headers["ostiary-reason"]) == (200, "credential-invalid")
    assert "That passkey is not accepted" in answer.text
    assert (holder.noted()["outcome"], holder.noted()["account"]) == ("wrong", "user:anna")
    assert holder.use().status_code == 303


@pytest.mark.parametrize("changed", [*TAMPERED[:3], {"client": {"type": "webauthn.get"}}, *TAMPERED[4:]])
def test_who_tampers_with_an_enrolment_has_no_passkey(world, changed):
    holder = Holder(world)
    holder.sign_in()
    assert "That passkey is not accepted" in holder.enrol_passkey(**changed).text
    assert (holder.noted()["outcome"], holder.noted()["act"]) == ("wrong-passkey", "passkey-confirm")
    assert ">Passkey" not in holder.page().text
    holder.forget()
    assert holder.sign_in().status_code == 303, "the password is enough as before"


@pytest.mark.parametrize(
    "attestation", [{"fmt": "packed"}, {"fmt": "tpm"}, {"fmt": "x"}, {"attStmt": {"sig": b"x"}}, {"authData": b""}]
)
def test_an_attestation_that_holds_not_is_refused(world, attestation):
    holder = Holder(world)
    holder.sign_in()
    assert "That passkey is not accepted" in holder.enrol_passkey(attestation=attestation).text


def test_another_key_under_the_same_id_signs_nobody_in(world, holder):
    thief = Authenticator()
    thief.credential, thief.handle, thief.counter = holder.device.credential, holder.device.handle, 99
    answer = holder.send(shown := holder.page(), thief.get(holder.options(shown)))
    assert (answer.status_code, holder.noted()["outcome"]) == (200, "wrong")


def test_an_answer_is_good_once_and_only_for_the_page_it_was_made_for(world, holder):
    shown = holder.page()
    told = holder.device.get(holder.options(shown))
    assert holder.send(shown, told).status_code == 303
    holder.forget()
    fresh = holder.page()
    for again in (fresh, shown):
        answer = holder.send(again, told)
        assert answer.status_code == 400 if again is shown else "Try again" in answer.text
    world.later(seconds=901)
    late = holder.use(fresh)
    assert "open for too long" in late.text
    assert "ostiary-reason" not in late.headers, "who came too late has guessed nothing"
    assert holder.noted()["outcome"] == "late"
    assert holder.use(late).status_code == 303


def test_an_answer_of_another_browser_is_refused(world, holder):
    """Whoever got the person to answer his own page (a login that he then takes over) has nothing of it."""
    theirs = holder.page()
    told = holder.device.get(holder.options(theirs))
    holder.forget()
    answer = holder.send(holder.page(), told)
    assert (answer.status_code, holder.noted()["outcome"]) == (200, "late")


@pytest.mark.parametrize("challenge", ["", "x", "1.2", "1.2.3", "99999999999.x.", "é", "a" * 2000])
def test_a_challenge_that_nobody_gave_is_none(world, holder, challenge):
    answer = holder.use(client={"challenge": text(challenge.encode())})
    assert (answer.status_code, holder.noted()["outcome"]) == (200, "late")


def test_of_many_answers_at_once_one_is_taken(world, holder):
    shown = holder.page()
    answers = holder.send_at_once(5, shown, holder.device.get(holder.options(shown)))
    assert sorted(one.status_code for one in answers) == [200, 200, 200, 200, 303]


def test_a_copy_of_a_passkey_is_noticed_by_its_counter(world, holder):
    copy = holder.device.copy()
    assert holder.use().status_code == 303
    for counter in (None, 1, 0):
        holder.forget()
        shown = holder.page()
        more = {} if counter is None else {"counter": counter}
        answer = holder.send(shown, copy.get(holder.options(shown), **more))
        noted = holder.noted()
        assert (answer.status_code, noted["outcome"], noted["account"]) == (200, "cloned", "user:anna")
        assert "copy" in noted["why"]
    assert holder.use().status_code == 303, "its owner goes on"


def test_a_passkey_is_one_account_s(world, holder, ben):
    """Whoever got at the id of another's passkey cannot enrol it as his own, with his own key or hers."""
    thief = Authenticator()
    thief.credential = holder.device.credential
    his = Holder(world, thief)
    his.sign_in = lambda: world.answer(his.page(), username="ben")
    his.sign_in()
    shown = world.answer(his.begin("passkey-new"), username="ben")
    answer = his.confirm(shown, thief.create(his.options(shown)))
    assert "That passkey is not accepted" in answer.text
    his.forget()
    assert holder.use(world.authorize()).status_code == 303


def test_the_same_passkey_is_not_enrolled_twice(world, holder):
    holder.use()
    assert "not accepted" in holder.enrol_passkey().text
    assert holder.page().text.count("my phone") == 1


def test_who_is_disabled_removed_or_reset_has_no_passkey(world, holder):
    world.do(principals.disable, principal="user:anna")
    answer = holder.use()
    assert (answer.status_code, holder.noted()["why"]) == (200, "the right passkey, and disabled,")
    world.do(principals.enable, sealer=world.sealer, principal="user:anna")
    assert holder.use().status_code == 303
    holder.forget()
    world.do(principals.forget_factors, login="anna")
    assert (holder.use().status_code, holder.noted()["why"]) == (200, "a passkey that nobody has")
    assert holder.sign_in().status_code == 303
    holder.enrol_passkey()
    world.do(principals.remove, principal="user:anna")
    hashed = hash_password(Secret(world.password), login="anna")
    world.do(principals.add_user, login="anna", hashed=hashed)
    holder.forget()
    assert holder.use().status_code == 200, "somebody else of the same name"


def test_tries_are_counted_as_those_of_passwords_and_lock_nobody_elsewhere(world, holder):
    for _ in range(5):
        assert holder.use(flags=UP).status_code == 200
    assert (holder.use().status_code, holder.noted()["outcome"]) == (200, "locked")
    assert 'name="half"' in holder.half().text, "the password is counted by itself"
    elsewhere = holder.page()
    form = {**world.hidden(elsewhere), "decision": "allow", "passkey": holder.device.get(holder.options(elsewhere))}
    headers = {"x-gw-source": "192.0.2.9"}
    assert world.ask("POST", "/identity/sign-in", data=form, headers=headers).status_code == 303
    holder.forget()
    world.later(seconds=301)
    assert holder.use().status_code == 303


def test_tries_with_what_nobody_has_lock_nobody_who_has_one(world, holder):
    stranger = Authenticator()
    for _ in range(7):
        shown = holder.page()
        assert holder.send(shown, stranger.get(holder.options(shown))).status_code == 200
    assert holder.noted()["outcome"] == "locked"
    assert holder.use().status_code == 303


@pytest.mark.standard("A5")
def test_who_adds_a_factor_ends_what_was_given_for_less(world):
    before = world.signed_in(scope="openid erp/sale.*:read")
    holder = Holder(world)
    holder.sign_in()
    here = world.redeem(world.sent_back(world.answer(world.authorize()))["code"]).json()  # in the very session
    holder.enrol_passkey()
    for tokens in (before, here):
        assert world.refresh(tokens["refresh_token"]).json()["error"] == "invalid_grant"
        assert world.userinfo(tokens["access_token"]).status_code == 401
    assert len([key for key in world.gone if key.startswith("gen:user:anna#")]) == 1
    holder.forget()
    after = world.redeem(world.sent_back(holder.use(world.authorize()))["code"]).json()
    assert world.userinfo(after["access_token"]).status_code == 200


def test_a_session_that_proved_more_goes_on_when_another_factor_comes(world, holder):
    holder.use()
    kept = world.cookies["__Host-ostiary-session"]
    holder.forget()
    holder.use()
    first_of(holder, "other")
    assert "Your account" in holder.page().text
    world.cookies.set("__Host-ostiary-session", kept, domain="localhost.local", path="/")
    assert 'name="username"' in holder.page().text, "the other one has ended"


@pytest.mark.parametrize("act", [*account.PROVED])
def test_nothing_is_changed_without_a_new_proof_however_young_the_session(world, holder, act):
    """Whoever finds the browser open, a minute after the sign-in, may look and sign out."""
    holder.use()
    page = holder.page()
    asked = holder.begin(act, page)
    assert 'name="username"' in asked.text
    assert "Show once more" in asked.text
    assert world.answer(asked, password="guess guess guess").status_code == 200
    assert ">Passkey <strong>my phone" in holder.page().text
    for name in ("app-confirm", "passkey-confirm"):
        form = {**form_of(page, act), "act": name, "id": "x", "passkey": "{}", "code": "000000"}
        assert "took too long" in world.ask("POST", "/identity/account", data=form).text


def test_another_s_proof_changes_nothing_here(world, holder, ben):
    holder.use()
    asked = holder.begin("remove")
    answer = world.answer(asked, username="ben")
    assert (answer.status_code, "somebody else" in answer.text) == (400, True)
    assert "my phone" in holder.page().text


def test_no_link_makes_a_person_who_signs_in_change_something(world, holder):
    """The sign-in page says what it is for, but it is not made for what another page asks."""
    holder.use()
    own = form_of(holder.page(), "remove")
    holder.forget()
    for csrf in ("", own["csrf"]):
        query = f"account?act=remove&id={own['id']}&csrf={csrf}"
        shown = world.ask("GET", f"/identity/authorize?{query}")
        assert (shown.status_code, "data-passkey" in shown.text) == (400, False)
    assert holder.use().status_code == 303
    assert "my phone" in holder.page().text


def test_an_enrolment_goes_on_in_its_own_session_alone_and_not_for_ever(world, holder):
    holder.use()
    shown = holder.act("passkey-new")
    told = Authenticator().create(holder.options(shown))
    holder.forget()
    holder.use()
    stale = {
        **form_of(shown, "passkey-confirm"),
        "passkey": told,
        "csrf": form_of(holder.page(), "passkey-new")["csrf"],
    }
    assert "took too long" in world.ask("POST", "/identity/account", data=stale).text
    shown = holder.act("passkey-new")
    world.later(seconds=901)
    assert "took too long" in holder.confirm(shown, Authenticator().create(holder.options(shown))).text


def test_nobody_keeps_more_than_is_enough(world, holder, monkeypatch):
    monkeypatch.setattr("ostiary.identity.factors.FACTORS_MAX", 2)
    holder.use()
    first_of(holder, "second")
    assert "You have enough" in holder.act("passkey-new").text
    assert "You have enough" in holder.act("app-new").text


@pytest.mark.parametrize(
    "told",
    ["", "x", "{}", "[]", "null", '{"id": 1}', "[" * 4000, '{"a":1,"a":2}', "\ud800".encode("utf-8", "surrogatepass")],
)
def test_what_is_no_answer_is_told_so(world, holder, told):
    form = {**world.hidden(holder.page()), "decision": "allow", "passkey": told}
    answer = world.ask("POST", "/identity/sign-in", data=form)
    assert answer.status_code in {200, 400}
    assert "location" not in answer.headers


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=20), lambda x: st.lists(x, max_size=3) | st.dictionaries(st.sampled_from(["type", "challenge", "origin", "crossOrigin", "tokenBinding", "status", "id"]), x, max_size=5))  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(client=JSON, more=JSON, cut=st.integers(0, 300), noise=st.binary(max_size=40))
def test_strange_answers_are_no_fault_of_ours(sqlite_world, client, more, cut, noise):
    """503 is what `app` says of what nobody thought of."""
    holder = Holder(sqlite_world)
    shown = sqlite_world.authorize()
    told = json.loads(
        holder.device.get(holder.options(shown), **({"client": client} if isinstance(client, dict) else {}))
    )
    for name in ("authenticatorData", "signature", "clientDataJSON"):
        changed = {**told, "response": {**told["response"], name: text(data(told["response"][name])[:cut] + noise)}}
        assert holder.send(shown, json.dumps(changed)).status_code in {200, 400}
    for changed in (
        {**told, "response": more},
        {**told, "type": more},
        {**told, "authenticatorAttachment": more},
        {**told, "id": more},
    ):
        assert holder.send(shown, json.dumps(changed)).status_code in {200, 400}
    with sqlite_world.store.begin() as connection:
        from ostiary.audit.log import Change

        change = Change(connection, "user:anna", sqlite_world.clock.now())
        made = json.loads(holder.device.create('{"user": {"id": "eA"}, "rp": {"id": "localhost"}, "challenge": "eA"}'))
        for name in ("attestationObject", "clientDataJSON"):
            bad = {**made, "response": {**made["response"], name: text(data(made["response"][name])[:cut] + noise)}}
            told = json.dumps(bad)
            assert not factors.add_passkey(sqlite_world.app.state.server, change, "user:anna", "y", told, "")


def test_the_script_is_ours_alone_and_only_where_it_is_needed(world, holder):
    served = world.ask("GET", "/identity/passkey.js")
    assert served.headers["content-type"].startswith("text/javascript")
    assert served.headers["x-content-type-options"] == "nosniff"
    assert served.text == page.SCRIPT
    for word in ("innerHTML", "eval", "document.write", "http:", "https:"):
        assert word not in served.text
    scripted = world.authorize().headers["content-security-policy"]
    assert f"script-src {world.settings.issuer}/passkey.js;" in scripted
    assert "unsafe" not in scripted
    assert "require-trusted-types-for 'script'; trusted-types 'none'" in scripted
    holder.use()
    for plain in (holder.page(), world.ask("GET", "/identity/device"), world.authorize()):
        assert "script" not in plain.headers["content-security-policy"]
        assert "<script" not in plain.text


def sentences(language):
    return {text for text in page.TEXTS[language] if " " in text}


def test_both_languages_say_the_same_things():
    assert set(page.TEXTS["en"]) == set(page.TEXTS["de"]) - sentences("de")


def refusals(name, *functions):
    """What these functions of a module raise as Refused, or show as a page that stops; all of them where none is named."""
    tree = ast.parse((Path(page.__file__).parent / name).read_text("utf-8"))
    chosen = [one for one in tree.body if not functions or getattr(one, "name", "") in functions]
    calls = [one for part in chosen for one in ast.walk(part) if isinstance(one, ast.Call)]
    named = [one for one in calls if getattr(one.func, "id", "") in {"Refused", "_stopped", "page"}]
    texts = [each for one in named for each in (*one.args, *(given.value for given in one.keywords))]
    return {one.value for one in texts if isinstance(one, ast.Constant) and " " in str(one.value)}


def test_whatever_stops_a_person_is_said_in_his_language():
    silent = {"the session has ended", "there is no such act"}  # caught where it is raised; no page of ours asks for it
    told = refusals("request.py", "parse", "refuse_foreign") | refusals("session.py") | refusals("factors.py")
    told |= refusals("asked.py", "read", "_of_device", "_pushed") | refusals("sign_in.py")
    assert sentences("de") == told - silent


def by_provider(outside, shown):
    """The page that it leads to from this one."""
    place = unescape(re.search(r'formaction="([^"]*)"', shown.text)[1])
    answer = outside.world.ask("POST", urlsplit(place).path, data=outside.world.hidden(shown))
    outside.twin.asked = dict(parse_qsl(urlsplit(answer.headers["location"]).query))
    return outside.back()


def test_who_comes_by_his_provider_needs_its_word_beside_his_passkey_each_time(world_with, tmp_path):
    """Else whoever left the company comes on by the passkey, with the roles of his last claims, however often it ends him."""
    with closing(Twin(tmp_path, SystemClock())) as twin, world_with(upstream_authorities=twin.authorities) as world:
        twin.clock, outside, holder = world.clock, Signing(world, twin), Holder(world)
        assert by_provider(outside, holder.page()).status_code == 303
        new = by_provider(outside, holder.begin("passkey-new"))
        assert "Done" in holder.confirm(new, holder.device.create(holder.options(new))).text
        holder.forget()
        alone = holder.use()
        assert alone.status_code == 200
        assert holder.noted()["why"] == "a passkey without the provider's word"
        half = by_provider(outside, holder.page())
        (secret,) = set(re.findall('name="half" value="([^"]*)"', half.text))
        form = {**world.hidden(half), "half": secret, "decision": "allow"}
        form["passkey"] = holder.device.get(holder.options(half))
        assert world.ask("POST", "/identity/sign-in", data=form).status_code == 303
        assert "user:anna@acme" in world.journal()
        assert "You are signed in as Anna" in holder.page().text
        with world.store.read() as connection:
            (amr,) = connection.scalars(select(SESSION.c.amr).where(SESSION.c.provider == "acme")).all()[-1:]
        assert amr == "fed hwk user mfa"  # whose word it was, too
        assert outside.say_logout().status_code == 200
        assert "You are signed in as Anna" not in holder.page().text
