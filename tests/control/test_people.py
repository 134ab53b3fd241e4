"""Clients, users and tokens: what is taken away is refused at once, on connections that are open."""

import re
from itertools import count
from types import SimpleNamespace

import pytest
from joserfc.jwk import ECKey
from tools.caller import sign_in

from ostiary.control import people
from ostiary.control.installation import opened
from ostiary.foundation.errors import CallerFault, OperatorFault, SystemFault
from ostiary.foundation.secret import Secret
from running import RUNNING, STOLEN, until

pytestmark = RUNNING
BACK = "http://127.0.0.1/back"
READ = "openid shop/*:read"
PASSWORD = "a long one, of many words"
number = count()


@pytest.fixture
def name():
    return f"n{next(number)}"


@pytest.fixture
def client(site, name):
    """(its name, an open connection with a token that may read the stock)."""
    caller = site.caller(site.client(name, "visitor"))
    assert caller.send("GET", "/shop/stock").status == 200
    return name, caller


@pytest.fixture
def person(site, name):
    """(the login, an open connection with a token of the person signed in)."""
    site.ask("client.add", client_id=f"{name}-portal", auth="none", redirects=[BACK])
    site.ask("user.add", login=name, password=PASSWORD, roles=["visitor"])
    caller = site.caller(token_of(site, name))
    assert caller.send("GET", "/shop/stock").status == 200
    return name, caller


def token_of(site, login, password=PASSWORD):
    return sign_in(site.caller(), f"{login}-portal", BACK, login, Secret(password), READ)["access_token"]


def refused_soon(caller, reason="token-revoked"):
    """The same connection, the same token."""
    return until(lambda: caller.send("GET", "/shop/stock").reason == reason, patience_s=5)


def last(site, action):
    return site.ask("audit.list", action=action, limit=1)[0]


@pytest.mark.standard("B7")
def test_a_role_change_reaches_tokens_already_out_at_once_and_is_recorded(site, client):
    name, caller = client
    site.ask("principal.roles", principal=f"client:{name}", roles=["elsewhere"])
    assert refused_soon(caller)
    entry = last(site, "principal.roles")
    assert (entry["object"], entry["before"], entry["after"]) == (
        f"client:{name}",
        {"roles": ["visitor"]},
        {"roles": ["elsewhere"]},
    )
    assert site.caller(site.fresh(name)).send("GET", "/shop/stock").reason == "role"


@pytest.mark.standard("B7")
def test_a_role_change_of_a_person_reaches_tokens_already_out_at_once(site, person):
    login, caller = person
    site.ask("principal.roles", principal=f"user:{login}", roles=[])
    assert refused_soon(caller)


@pytest.mark.standard("A5")
def test_disabling_takes_all_away_at_once_and_enabling_gives_back_no_old_token(site, client):
    name, caller = client
    site.ask("principal.disable", principal=f"client:{name}")
    assert refused_soon(caller)
    with pytest.raises(AssertionError, match="invalid_client"):
        site.fresh(name)
    site.ask("principal.enable", principal=f"client:{name}")
    assert caller.send("GET", "/shop/stock").reason == "token-revoked"
    assert site.once("GET", "/shop/stock", token=site.fresh(name)).status == 200


@pytest.mark.standard("A5")
def test_a_disabled_person_is_signed_out_at_once(site, person):
    login, caller = person
    site.ask("principal.disable", principal=f"user:{login}")
    assert refused_soon(caller)


@pytest.mark.standard("A5")
def test_a_client_that_is_disabled_takes_the_tokens_of_its_people_with_it(site, person):
    login, caller = person
    site.ask("principal.disable", principal=f"client:{login}-portal")
    assert refused_soon(caller)


@pytest.mark.standard("A5")
def test_a_new_password_ends_what_the_old_one_gave(site, person):
    login, caller = person
    site.ask("user.password", login=login, password=PASSWORD[::-1])
    assert refused_soon(caller)
    assert site.once("GET", "/shop/stock", token=token_of(site, login, PASSWORD[::-1])).status == 200


@pytest.mark.standard("A5")
def test_every_token_of_a_principal_is_revoked_by_one_command(site, client):
    name, caller = client
    other = site.caller(site.fresh(name))
    assert other.send("GET", "/shop/stock").status == 200
    done = site.ostiary("token", "revoke", "--principal", f"client:{name}", "--reason", "laptop lost")
    assert done.code == 0, done.err
    assert refused_soon(caller)
    assert refused_soon(other)
    assert last(site, "token.revoke")["reason"] == "laptop lost"
    assert site.once("GET", "/shop/stock", token=site.fresh(name)).status == 200


@pytest.mark.standard("A5")
def test_one_grant_is_revoked_by_the_id_that_its_events_carry(site, client):
    name, caller = client
    other = site.caller(site.fresh(name))
    answer = caller.send("GET", "/shop/stock")
    grant = site.ask("explain", decision=answer.decision)["event"]["grant"]
    site.ask("token.revoke", grant=grant)
    assert refused_soon(caller)
    assert other.send("GET", "/shop/stock").status == 200


def test_a_role_that_the_policy_does_not_have_is_refused_with_those_it_has(site, client):
    name, caller = client
    for ask in (
        lambda: site.ask("principal.roles", principal=f"client:{name}", roles=["vistor"]),
        lambda: site.ask("client.add", client_id=f"{name}-2", roles=["vistor"]),
        lambda: site.ask("user.add", login=name, password=PASSWORD, roles=["vistor"]),
    ):
        with pytest.raises(OperatorFault, match="no role vistor") as problem:
            ask()
        assert "clerk, elsewhere, packer, visitor" in problem.value.hint
    assert caller.send("GET", "/shop/stock").status == 200


def test_who_is_not_there_is_a_clear_fault(site):
    for operation in ("principal.disable", "principal.enable", "principal.remove", "principal.show"):
        with pytest.raises(CallerFault) as problem:
            site.ask(operation, principal="client:nobody")
        assert problem.value.code == "no-such-principal"


def test_a_rotated_secret_works_beside_the_one_before(site, client):
    name, _ = client
    old = site.secrets[name]
    site.secrets[name] = Secret(site.ask("client.rotate", client_id=name)["client_secret"])
    assert site.fresh(name)
    site.secrets[name] = old
    assert site.fresh(name)


def test_unknown_parameters_and_operations_are_refused_by_name(site):
    with pytest.raises(CallerFault, match="colour"):
        site.ask("status", colour="green")
    with pytest.raises(CallerFault, match=r"no operation policy\.unapply"):
        site.ask("policy.unapply")
    for operation, told in (
        ("client.add", {"auth": "trust"}),
        ("client.change", {"bound": "ip"}),
        ("client.add", {"x": 1}),
    ):
        with pytest.raises(CallerFault, match=rf"{operation}: .*{next(iter(told))}") as problem:
            site.ask(operation, client_id="odd", **told)
        assert problem.value.code == "parameters"


def test_what_a_client_may_and_where_it_acts_is_shown_without_its_secret(site, name):
    facts = {"scopes": ["shop/stock:read"], "redirects": [BACK], "roles": ["visitor"], "name": "The shop"}
    site.ask("client.add", client_id=name, **facts)
    site.ask("account.set", principal=f"client:{name}", system="shop", login="js", password="erp-key-of-js")
    shown = site.ask("principal.show", principal=f"client:{name}")
    assert shown == {
        **facts, "id": f"client:{name}", "person": f"client:{name}", "active": True, "auth": "client_secret", "profile": "oauth21", "pkce": "required", "id_token_alg": "ES256", "bound": "", "jwks": "", "backchannel_logout_uri": "",
        "exchange": [], "accounts": {"shop": "js"}, "until": shown["until"],
    }  # fmt: skip
    assert shown in site.ask("client.list")


def test_a_changed_client_is_another_one_at_once_and_the_change_is_recorded(site, client):
    name, caller = client
    told = site.ask("client.change", client_id=name, scopes=["shop/order:read"], redirects=[BACK])
    assert (told["scopes"], told["redirects"]) == (["shop/order:read"], [BACK])
    assert refused_soon(caller)
    assert site.caller(site.fresh(name)).send("GET", "/shop/stock").reason == "scope"
    entry = last(site, "client.change")
    assert (entry["object"], entry["before"]) == (f"client:{name}", {"scopes": [], "redirects": []})
    assert entry["after"] == {"scopes": ["shop/order:read"], "redirects": [BACK]}


def test_a_scope_that_no_system_knows_is_noted_as_a_line_of_the_policy_is(site, name):
    done = site.ostiary("client", "add", name, "--scope", "shop/ordr:read", "--scope", "shop/*:read")
    assert "\nnote: scope shop/ordr:read: shop knows no object ordr; did you mean order?\n" in done.out
    told = site.ask("client.change", client_id=name, scopes=["shop/report:execute.rum", "shop/stock:read"])
    known = "shop knows no execute rum of report; did you mean execute run?"
    assert told["warnings"] == [f"scope shop/report:execute.rum: {known}"]


def test_what_is_missing_or_dangerous_is_noted_where_a_client_is_made(site, name):
    told = site.ask("client.add", client_id=f"{name}-bank", auth="tls_client_auth")
    assert told["warnings"] == [f"`ostiary client certificate {name}-bank` prints what it proves itself by"]
    assert site.ask("client.change", client_id=f"{name}-bank", name="Bank")["warnings"] == []
    made = site.ask("client.add", client_id=name, redirects=[BACK], pkce="off")
    assert made["warnings"] == [people.WITHOUT_PKCE]
    never = SimpleNamespace(on=SimpleNamespace(settings=SimpleNamespace(ask_client_certificate=False)))
    (note,) = people._warned(never, "bank", {"auth": "tls_client_auth"})
    assert (
        note
        == "the gate asks nobody for a certificate: set ask_client_certificate = true in settings.toml and start again"
    )


@pytest.mark.parametrize(
    ("jwks", "why"),
    [
        ("-----BEGIN PUBLIC KEY-----", "this is no JWKS"),
        ('{"keys": [{"kty": "EC", "crv": "P-256", "x": "%s", "y": "%s", "d": "%s"}]}', "the key is private"),
    ],
)
def test_keys_that_are_none_are_told_once_with_what_to_give(site, name, jwks, why):
    key = ECKey.generate_key("P-256").as_dict(private=True)
    jwks = jwks % (key["x"], key["y"], key["d"]) if "%" in jwks else jwks
    with pytest.raises(CallerFault, match=why) as problem:
        site.ask("client.add", client_id=name, auth="private_key_jwt", jwks=jwks)
    assert problem.value.code == "keys-unfit"
    assert str(problem.value).count("what to do") == 1
    assert "[token-refused]" not in str(problem.value)


def test_a_provider_without_a_secret_is_asked_for_one(site):
    told = ("acme", "--issuer", "https://localhost:1", "--client-id", "x", "--secret-file", "-")
    empty = site.ostiary("provider", "add", *told, given="")
    assert (empty.code, "no secret is given, or the file holds none [secret-missing]" in empty.err) == (2, True)


def test_another_name_takes_nothing_away(site, client):
    name, caller = client
    site.ask("client.change", client_id=name, name="Another")
    assert site.ask("principal.show", principal=f"client:{name}")["name"] == "Another"
    assert caller.send("GET", "/shop/stock").status == 200


def test_an_account_that_was_taken_back_is_shown_no_more_and_was_recorded(site, name):
    site.ask("client.add", client_id=name)
    with pytest.raises(CallerFault, match="no account") as problem:
        site.ask("account.remove", principal=f"client:{name}", system="shop")
    assert f"ostiary client show {name}" in problem.value.hint
    site.ask("account.set", principal=f"client:{name}", system="shop", login="js", password="erp-key-of-js")
    site.ask("account.remove", principal=f"client:{name}", system="shop")
    assert site.ask("principal.show", principal=f"client:{name}")["accounts"] == {}
    entry = last(site, "account.remove")
    assert (entry["object"], entry["before"]) == (f"client:{name}", {"system": "shop", "login": "js"})


def test_a_client_made_public_has_no_secret_and_made_confidential_gets_one_anew(site, client):
    name, caller = client
    site.ask("client.change", client_id=name, auth="none", redirects=[BACK])
    assert refused_soon(caller)
    site.ask("client.change", client_id=name, auth="client_secret")
    with pytest.raises(AssertionError, match="invalid_client"):
        site.fresh(name)
    site.secrets[name] = Secret(site.ask("client.rotate", client_id=name)["client_secret"])
    assert site.fresh(name)


@pytest.mark.standard("A5")
def test_a_removed_client_is_refused_at_once_and_its_name_can_be_given_again(site, client):
    name, caller = client
    site.ask("principal.remove", principal=f"client:{name}")
    assert refused_soon(caller)
    with pytest.raises(AssertionError, match="invalid_client"):
        site.fresh(name)
    assert last(site, "principal.remove")["before"]["roles"] == ["visitor"]
    again = site.client(name, "visitor")
    assert site.once("GET", "/shop/stock", token=again).status == 200
    assert caller.send("GET", "/shop/stock").reason == "token-revoked"


@pytest.mark.standard("A5")
def test_a_removed_person_is_signed_out_at_once_and_known_no_more(site, person):
    login, caller = person
    site.ask("principal.remove", principal=f"user:{login}")
    assert refused_soon(caller)
    assert f"user:{login}" not in [one["id"] for one in site.ask("user.list")]
    with pytest.raises(SystemFault, match="could not sign in"):
        token_of(site, login)


def test_a_person_behind_a_client_is_not_removed_before_it(site, person):
    login, caller = person
    site.ask("client.add", client_id=f"{login}-bot", person=f"user:{login}")
    with pytest.raises(CallerFault, match=f"client:{login}-bot") as problem:
        site.ask("principal.remove", principal=f"user:{login}")
    assert problem.value.code == "person-behind"
    assert caller.send("GET", "/shop/stock").status == 200


def test_a_password_is_looked_at_while_others_write(site, name):
    """Its hash takes too long for anybody to wait for: here somebody else has the store, and it is refused all the same."""
    with opened(site.home) as on, on.store.begin() as other:
        if other.dialect.name == "postgresql":
            other.exec_driver_sql("LOCK TABLE principal, audit_leaf IN EXCLUSIVE MODE")  # as SQLite does of itself
        with pytest.raises(CallerFault, match="easily guessed"):
            site.ask("user.add", login=name, password="password1234")
        with pytest.raises(CallerFault, match="easily guessed"):
            site.ask("user.password", login=name, password="password1234")


def test_an_account_that_the_erp_does_not_let_in_is_asked_for_again_by_the_same_command():
    def refused(*_):
        raise OperatorFault("erp-refuses", "the ERP does not let clerk in", hint="ostiary system account erp")

    board = SimpleNamespace(reconciler=SimpleNamespace(erp_user=refused))
    with pytest.raises(OperatorFault, match="does not let clerk in") as problem:
        people._erp_user(board, "client:shop", "erp", "clerk", Secret("x"))
    assert problem.value.hint.endswith("ostiary client account shop --system erp --login clerk")


def test_a_key_is_put_on_the_calls_of_its_caller_alone(site, name):
    """As the guide says: `hand-over: key`, and the key by `client account`."""
    site.apply(site.policy(("at: localhost/shop,", "at: localhost/shop, hand-over: key,")))
    next_ = f"its calls reach shop with an account there: `ostiary client account {name}-x --system shop --login LOGIN`"
    assert site.ask("client.add", client_id=f"{name}-x", roles=["visitor"])["warnings"] == [next_]
    assert site.ask("client.add", client_id=f"{name}-y")["warnings"] == []
    made = site.ask("user.add", login=f"{name}-x", password=PASSWORD, roles=["visitor"])
    assert made["warnings"] == [next_.replace("client", "user")]
    token = site.client(name, "visitor")
    refused = site.once("GET", "/shop/stock", token=token)
    assert (refused.status, refused.reason) == (503, "unavailable")
    assert "has no account for this caller; an administrator" in refused.json()["detail"]
    text = site.ask("explain", decision=refused.decision)["text"]
    assert f"client:{name} had no account in shop\n" in text
    assert f"an account: `ostiary client account {name} --system shop --login LOGIN`\n" in text
    before = without_account(site)
    assert before > 0
    done = site.ostiary(
        "client", "account", name, "--system", "shop", "--login", "key", "--password-file", "-", given="KEY\n"
    )
    assert done.code == 0, done
    answer = until(lambda: (one := site.once("GET", "/shop/stock", token=token)).status == 200 and one)
    assert answer.json()["headers"]["authorization"] == "Bearer KEY"
    text = site.ask("explain", decision=refused.decision)["text"]
    assert f"client:{name} had no account in shop\n" in text
    assert "an account, which was given since" in text
    assert without_account(site) == before - 1
    assert site.once("GET", "/shop/stock", token=site.client(f"{name}-other", "visitor")).reason == "unavailable"
    site.apply(site.policy())
    assert without_account(site) == 0


def without_account(site):
    """How many hold a role in vain, by `status`, which is well all the same, and notes it."""
    (part,) = (one for one in site.ask("status")["parts"] if one["name"] == "system shop")
    assert part["ok"]
    told = re.search(
        r" answers; (\d+) holders? of a role without an account there, for whom nothing passes: .*`ostiary client account ",
        part["text"],
    )
    assert part["note"] is bool(told)
    return int(told[1]) if told else 0


def test_a_password_that_was_stolen_elsewhere_is_nobodys_here(site):
    site.ask("user.add", login="stella", password=f"{STOLEN}!")
    for operation, login in (("user.add", "sven"), ("user.password", "stella")):
        with pytest.raises(CallerFault, match="stolen elsewhere") as refused:
            site.ask(operation, login=login, password=STOLEN)
        assert refused.value.code == "password-breached"
