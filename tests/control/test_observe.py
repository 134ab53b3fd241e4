"""Observe, propose, enforce: the guide, played on a running installation before a real Tryton."""

import base64
import json
import os
import re
import shlex
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tools.caller import basic

from ostiary.foundation.errors import OperatorFault
from ostiary.foundation.secret import Secret
from ostiary.policy.parse import parse
from running import installed, until

pytestmark = pytest.mark.xdist_group("tryton")
PAGE = Path(__file__).parents[2] / "docs/guide/observe.md"
PARTIES = ("model.party.party.search_read", [], 0, 3, None, ["name"])
COMPANY = {"company": 1, "companies": [1]}


def ending(**later):
    return (datetime.now(UTC) + timedelta(**later)).isoformat(timespec="seconds")


class Site:
    """An installation with the ERP at its own host's root, and the shop beside it."""

    def __init__(self, made, tryton):
        self.made, self.tryton = made, tryton

    def policy(self, observe="", may=""):
        more = f', observe-until: "{observe}"' if observe else ""
        erp = f'  erp: {{kind: tryton, at: localhost, upstream: "{self.tryton.erp.url}", database: erp{more}}}\n'
        text = self.made.policy().replace('["order', '["shop/order').replace('"stock', '"shop/stock')
        text = text.replace('"order', '"shop/order').replace('"invoice', '"shop/invoice')
        reader = '  reader: {level: user, of: sales, may: ["erp/party.party: read"]}\n'
        return text.replace("systems:\n", f"systems:\n{erp}").replace("roles:\n", f"roles:\n{reader}{may}")

    def rpc(self, method, *params, own="", token="", path="/erp/rpc/", context=True):
        body = {"id": 1, "method": method, "params": [*params, *([COMPANY] if context else [])]}
        headers = {"authorization": own} if own else {}
        return self.made.once("POST", path, json.dumps(body).encode(), token=token, **headers)

    def token(self, client, system="erp"):
        if client not in self.made.secrets:
            made = self.made.ask("client.add", client_id=client, roles=[client])
            self.made.secrets[client] = Secret(made["client_secret"])
        caller = self.made.caller()
        told = {
            "grant_type": "client_credentials",
            "resource": "https://localhost" + ("" if system == "erp" else "/shop"),
        }
        answer = caller.form("/identity/token", basic=basic(client, self.made.secrets[client]), **told)
        assert answer.status == 200, answer
        return answer.json()["access_token"]

    def log_in(self, login):
        password = self.tryton.erp.users[login].reveal()
        answer = self.rpc("common.db.login", login, {"password": password}, "en", context=False)
        assert answer.status == 200, answer
        uid, key, _ = answer.json()["result"]
        return "Session " + base64.b64encode(f"{login}:{uid}:{key}".encode()).decode()

    def event(self, answer):
        return until(lambda: next((one for one in self.events() if one["decision"] == answer.decision), None))

    def events(self, *options):
        return self.made.ostiary("event", "list", "--json", "--limit", "200", *options).json


@pytest.fixture(scope="module")
def site(tryton):
    with installed() as made:
        one = Site(made, tryton)
        made.start()
        made.home.policy.write_text(one.policy())
        made.apply(one.policy())
        made.ask("system.account", system="erp", login="gateway", password=tryton.erp.users["gateway"].reveal())
        yield one


def test_the_guide_leads_from_observing_to_enforcing(site, tryton):
    pages = PAGE.read_text("utf-8").split("\n## ")
    steps = {page.partition("\n")[0]: re.findall(r"^\$ (ostiary .*)$", page, re.MULTILINE) for page in pages}

    def play(step, lines=slice(None)):
        given, done = f"{tryton.erp.users['clerk'].reveal()}\n", {}
        for line in steps[step][lines]:
            more = {"client add": ["--json"], "client account": ["--password-file", "-"]}.get(
                " ".join(line.split()[1:3]), []
            )
            words = [str(site.made.home.policy) if word == "policy.yaml" else word for word in shlex.split(line)[1:]]
            done[line] = site.made.ostiary(*words, *more, given=given)
        return done

    before = site.rpc(*PARTIES, own=tryton.session("clerk"))
    assert (before.status, before.reason) == (401, "token-missing")

    site.made.home.policy.write_text(site.policy(ending(days=30)))
    diff, apply, status = play("Observe").values()
    assert "+ widens  the system erp is observed: until" in diff.out
    assert (apply.code, "note: erp is OBSERVED until" in apply.out) == (0, True)
    assert (status.code, bool(re.search(r"^NOT OK +system erp .*OBSERVED until", status.out, re.MULTILINE))) == (
        1,
        True,
    )
    assert "NOT OK" in next(line for line in site.made.ostiary("doctor").out.splitlines() if "OBSERVED" in line)
    assert "OBSERVED" in site.made.ostiary("policy", "who-can", "shop/stock:read").out
    assert "OBSERVED" in site.made.ostiary("policy", "prove").out

    own = site.log_in("clerk")
    for number, call in enumerate((PARTIES, ("model.party.party.create", [{"name": "x"}]))):
        answer = site.rpc(*call, own=own)
        assert "result" in answer.json(), answer
        event = site.event(answer)
        assert (event["subject"], event["rule"], event["draft"]) == ("unproved:clerk", "observe", "role:-"), number

    listed, draft = play("Propose", slice(2)).values()
    assert re.search(r"unproved:clerk +erp/party.party:write.create +observe", listed.out)
    role = re.search(r"^  clerk:\n(?:    .*\n)+", draft.out, re.MULTILINE)[0]
    assert parse(draft.out, "draft.yaml").problems == ()
    assert "party.party: write create" in role
    assert "common." not in draft.out

    enforce(site, play, steps, own, role.replace("clerk:", "warehouse-hand:"))


def enforce(site, play, steps, own, role):
    """What comes after the draft, for who was observed with the credential `own`."""
    site.made.home.policy.write_text(site.policy(ending(days=30), role))
    steps["Propose"] = [line.replace("--role clerk", "--role warehouse-hand") for line in steps["Propose"]]
    done = play("Propose", slice(2, None))
    assert [(line, one.err) for line, one in done.items() if one.code] == []
    secret = next(one for line, one in done.items() if "client add" in line).json["client_secret"]
    site.made.secrets["warehouse"] = Secret(secret)

    answer = site.rpc(*PARTIES, own=own)
    assert site.event(answer)["draft"].startswith("allowed:warehouse-hand/")
    group = site.rpc("model.product.product.search", [], 0, 1, None, own=own)
    assert (group.status, site.event(group)["draft"]) == (200, "role:-")
    shadow = site.made.ostiary("policy", "shadow").out
    assert re.search(r"unproved:clerk +erp/product.product:read.search +allowed +role", shadow)
    site.made.ostiary("policy", "shadow", "--end")

    token = site.token("warehouse")
    assert "result" in site.rpc(*PARTIES, token=token).json()
    assert site.rpc("model.product.product.search", [], 0, 1, None, token=token).reason == "role"

    site.made.home.policy.write_text(site.policy(may=role))
    diff, apply, status = play("Enforce").values()
    assert "- narrows the system erp is observed no longer" in diff.out
    assert (apply.code, "OBSERVED" in apply.out, status.code) == (0, False, 0), status.out
    assert site.rpc(*PARTIES, own=own).reason == "token-missing"
    assert "result" in site.rpc(*PARTIES, token=token).json()
    act = site.made.ask("audit.list", action="policy.apply", limit=1)[0]
    assert act["reason"] == "enforced from today"


def test_what_a_client_of_tryton_does_works_with_its_own_credential(site, tryton):
    site.made.apply(site.policy(ending(days=30)))
    assert site.rpc("common.server.version", path="/rpc/", context=False).json()["result"]
    assert "ostiary-reason" not in site.rpc("common.db.list", path="/rpc/", context=False).headers
    own = site.log_in("clerk")

    def does(method, *params):
        answer = site.rpc(method, *params, own=own)
        assert answer.status == 200, (method, answer)
        told = answer.json()
        assert "result" in told, (method, told)
        return told["result"], site.event(answer)["draft"]

    does("model.res.user.get_preferences", True)
    does("model.ir.ui.menu.search", [], 0, 10, None)
    does("model.party.party.fields_view_get", None, "form")
    (party,), _ = does("model.party.party.create", [{"name": "Before"}])
    does("model.party.party.write", [party], {"name": "After"})
    assert does("model.party.party.read", [party], ["name"])[0][0]["name"] == "After"
    does("model.sale.sale.default_get", ["company", "party", "state"])
    _, draft = does("model.sale.sale.on_change", {"party": party, "id": -1, "company": 1, "lines": []}, ["party"])
    assert draft == "unknown-operation:-"  # no policy can grant it: whoever draws one up shall know
    does("model.party.party.delete", [party])
    assert "result" in site.rpc(*PARTIES, own=f"Basic {basic('clerk', tryton.erp.users['clerk'])}").json()
    assert site.rpc("common.db.logout", own=own, context=False).status == 200
    assert site.rpc(*PARTIES, own=own).status == 401  # Tryton's own word
    wrong = site.rpc("common.db.login", "clerk", {"password": "wrong"}, "en", context=False)
    assert wrong.status == 401
    assert "ostiary-reason" not in wrong.headers


def test_strict_parsing_paths_and_sizes_still_refuse(site, tryton):
    site.made.apply(site.policy(ending(days=30)))
    own = tryton.session("clerk")
    good = json.dumps({"id": 1, "method": PARTIES[0], "params": [*PARTIES[1:], COMPANY]}).encode()

    def sent(body=good, path="/erp/rpc/", method="POST", **headers):
        answer = site.made.once(method, path, body, authorization=own, **headers)
        return answer.status, answer.reason

    assert sent()[0] == 200
    assert sent(good[:-1]) == (400, "invalid")
    assert sent(good.replace(b'{"id"', b'{"method": "model.res.user.read", "id"')) == (400, "invalid")
    assert sent(good, content_encoding="gzip") == (400, "invalid")
    assert sent(b" " * 2_000_000 + good) == (413, "too-large")
    assert sent(path="/erp/rpc/?x=1") == (400, "invalid")
    for path in ("/erp/rpc", "/erp/rpc;x/", "/other/rpc/", "/erp/bus", "/erp/session/login", "/erp/rpc%2f"):  # fmt: skip
        assert sent(path=path)[0] in {400, 401, 403, 404}, path
    assert sent(method="GET", body=b"")[0] == 403


def test_nobody_gains_by_two_credentials_or_by_another_systems_place(site, tryton):
    """A role that may nothing stays so with an ERP credential beside its token; the shop takes none at all."""
    site.made.apply(site.policy(ending(days=30)))
    own, token = tryton.session("clerk"), site.token("visitor", "shop")
    reader = site.token("reader")
    assert site.rpc("model.sale.sale.search", [], 0, 1, None, token=reader).reason == "role"
    assert (
        site.made.once("POST", "/erp/rpc/", b"{}", token=reader, x_api_key="k", cookie="tryton_session=x").reason
        == "invalid"
    )
    refused = site.rpc(*PARTIES, token=reader)
    assert refused.reason == "unavailable"  # no ERP user is mapped to it, and none lent
    assert "client:reader had no account in erp" in site.made.ask("explain", decision=refused.decision)["text"]
    for told in ({"x_gw_sub": "user:root"}, {"x_gw_rs": "x"}, {"x_gw_class": "shop:x"}):
        assert site.made.once("GET", "/shop/stock", authorization=own, **told).status == 401
    assert site.made.once("GET", "/shop/stock", x_api_key="k").reason == "token-missing"
    assert site.made.once("GET", "/shop/stock", token=token).status == 200
    answer = site.made.once("GET", "/shop/stock", token=token, x_api_key="k", cookie="a=b")
    assert {"x-api-key", "cookie"}.isdisjoint(answer.json()["names"])
    assert site.rpc(*PARTIES, own=f"bearer {token}").reason == "token-invalid"
    assert site.rpc(*PARTIES, token=token).reason == "token-invalid"
    site.made.ask("principal.disable", principal="client:reader")
    assert site.rpc(*PARTIES, token=reader).reason == "token-revoked"


def test_a_dead_guard_refuses(site, tryton):
    site.made.apply(site.policy(ending(days=30)))
    own = tryton.session("clerk")
    site.made.process.send_signal(signal.SIGSTOP)  # it would start another one
    try:
        os.kill(site.made.children()["guard"], signal.SIGKILL)
        answer = until(lambda: (one := site.rpc(*PARTIES, own=own)).status == 503 and one)
        assert answer.reason == "unavailable"
    finally:
        site.made.process.send_signal(signal.SIGCONT)
    until(lambda: site.rpc(*PARTIES, own=own).status == 200)


def test_it_ends_though_control_does_nothing_any_more(site, tryton):
    """Within its lease: control is stopped before the end, and nothing is written to the gate after it."""
    own, token = tryton.session("clerk"), site.token("clerk", "shop")
    site.made.apply(site.policy(ending(seconds=8)))
    assert site.rpc(*PARTIES, own=own).status == 200
    control = site.made.children()["control"]
    os.kill(control, signal.SIGSTOP)
    try:
        until(lambda: site.rpc(*PARTIES, own=own).reason == "token-missing")
        assert site.made.once("GET", "/shop/stock", token=token).status == 200
    finally:
        os.kill(control, signal.SIGCONT)
    until(lambda: all(part["ok"] for part in site.made.ask("status")["parts"] if part["name"] != "watch"))


def test_an_end_too_far_ahead_is_refused_and_one_that_is_over_is_told(site):
    with pytest.raises(OperatorFault, match="observed for more than 90 days"):
        site.made.apply(site.policy(ending(days=91)))
    told = site.made.apply(site.policy(ending(days=-1)), dry_run=True)
    assert [one for one in told["warnings"] if "is over" in one]
