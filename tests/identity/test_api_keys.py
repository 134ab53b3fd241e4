"""An API key: shown to a system with every request, good for nothing else, and gone with its client."""

import json
from itertools import count

import pytest

from ostiary.foundation.errors import OstiaryError
from running import RUNNING, site, until  # noqa: F401

pytestmark = RUNNING
ORDER = json.dumps({"lines": [{"qty": 1}]}).encode()
NUMBERS = count()


@pytest.fixture
def keyed(site):  # noqa: F811
    """(name, key) of a new client, a clerk."""
    name = f"scale-{next(NUMBERS)}"
    return name, site.ask("client.add", client_id=name, auth="api_key", roles=["clerk"])["client_secret"]


def answered(site, key, method="GET", path="/shop/stock", body=b"", **headers):  # noqa: F811
    answer = site.once(method, path, body, token=key, **headers)
    return answer.reason or answer.status


def noted(site, decision):  # noqa: F811
    lines = map(json.loads, site.home.identity_log.read_text().splitlines())
    return [line for line in lines if line["decision"] == decision]


@pytest.mark.standard("A9")
def test_a_key_opens_what_its_client_may_do_and_no_more(site, keyed):  # noqa: F811
    _, key = keyed
    assert answered(site, key) == 200
    assert answered(site, key, "POST", "/shop/orders", ORDER, **{"content-type": "application/json"}) == 200
    assert answered(site, key, path="/shop/invoices") == "role"
    assert answered(site, key, path="/shop/nothing") == "unknown-operation"


def test_it_is_good_for_the_scopes_that_its_client_was_given(site, keyed):  # noqa: F811
    name, key = keyed
    site.ask("client.change", client_id=name, scopes=["shop/order:read"])
    assert answered(site, key, path="/shop/orders") == 200
    assert answered(site, key) == "scope"


def test_what_is_no_key_is_refused_as_a_guess(site, keyed):  # noqa: F811
    name, key = keyed
    other = site.ask("client.add", client_id=f"{name}-b", roles=["clerk"])["client_secret"]
    end = "A" if key[-1] != "A" else "B"
    wrong = [
        key[:-1] + end, key[:-1], f"{key}A", f"ostiary_key_nobody.{key.rpartition('.')[2]}", "ostiary_key_", f"ostiary_key_{name}",
        f"ostiary_key_{name}-b.{other}", f"{key}.", f"{key},{key}", f"ostiary_key_{name}.\u00e9",
    ]  # fmt: skip
    for text in wrong:
        answer = site.once("GET", "/shop/stock", token=text)
        assert (answer.status, answer.reason) == (401, "credential-invalid"), text
        assert answer.json()["decision"] == answer.decision
    for text in (other, f" {key}", f"ostiary_Key_{key.removeprefix('ostiary_key_')}"):
        assert site.once("GET", "/shop/stock", token=text).status == 401
    assert answered(site, key) == 200


def test_it_opens_nothing_but_systems_and_a_secret_is_no_key(site, keyed):  # noqa: F811
    name, key = keyed
    shown = {"grant_type": "client_credentials", "client_id": name, "client_secret": key}
    assert site.caller().form("/identity/token", **shown).json()["error"] == "invalid_client"
    assert site.once("GET", "/identity/userinfo", token=key).status == 401
    assert site.once("GET", "/key/shop/stock", token=key).status != 200
    assert "authorization" not in site.once("GET", "/key/shop/stock", token=key).headers


def test_neither_erp_nor_journal_learns_it_and_nobody_says_for_which_system_it_is(site, keyed):  # noqa: F811
    name, key = keyed
    answer = site.once("GET", "/shop/stock", token=key, **{"x-gw-class": "other:", "x-gw-source": "192.0.2.1"})
    assert answer.status == 200
    assert key not in json.dumps(site.upstream.seen[-1])
    assert key not in site.home.identity_log.read_text() + site.home.access_log.read_text()
    (line,) = noted(site, answer.decision)
    assert (line["action"], line["outcome"], line["client"], line["source"]) == ("key", "issued", name, "127.0.0.1")


@pytest.mark.parametrize("unfit", [{"bound": "dpop"}, {"profile": "fapi2"}])
def test_nothing_binds_it(site, keyed, unfit):  # noqa: F811
    with pytest.raises(OstiaryError, match=r"nothing binds it|by a key"):
        site.ask("client.change", client_id=keyed[0], **unfit)


@pytest.mark.standard("A5")
def test_it_ends_with_its_client_at_once_and_is_changed_with_an_overlap(site, keyed):  # noqa: F811
    name, first = keyed
    second, third = (site.ask("client.rotate", client_id=name)["client_secret"] for _ in range(2))
    assert [answered(site, key) for key in (first, second, third)] == ["credential-invalid", 200, 200]
    site.ask("principal.disable", principal=f"client:{name}")
    assert answered(site, second) == "credential-invalid"
    site.ask("principal.enable", principal=f"client:{name}")
    assert answered(site, third) == 200
    site.ask("client.change", client_id=name, auth="client_secret")
    assert answered(site, third) == "credential-invalid"
    site.ask("client.change", client_id=name, auth="api_key")
    assert answered(site, third) == "credential-invalid"
