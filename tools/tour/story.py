"""The tour's story, step by step: what is done, what is expected, what came back."""

import gzip
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final, NamedTuple

from ostiary.cli.demo.stand import CLIENT, PORTAL, PORTAL_REDIRECT, DemoErp, Stand
from ostiary.foundation.errors import SystemFault
from ostiary.foundation.secret import Secret
from tools import caller as calling
from tools.caller import Answer, Caller

REVOKED_WITHIN_S: Final = 0.1
POLICY_HOURS: Final = 'hours: "00:00-24:00"'
RPC: Final = "/erp/rpc/"
PARTIES: Final = "/erp/rest/model/party.party?f=name&s=3"
SEARCH: Final[tuple[Any, ...]] = ([], 0, 3, [["name", "ASC"]], ["name"])


class Check(NamedTuple):
    """One line of a step."""

    what: str
    expected: str
    got: str

    @property
    def holds(self) -> bool:
        return self.expected == self.got


@dataclass(slots=True, kw_only=True)
class Story:
    """What the steps hand on to each other."""

    stand: Stand
    erp: DemoErp
    shop: Caller = field(init=False)
    refused: str = ""  # the decision id of the refusal that `explain` is asked about
    tokens: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.shop = self.caller()

    def caller(self, token: str = "") -> Caller:
        return Caller(self.stand.origin, self.stand.authority, token)

    def once(self) -> Caller:
        """The shop on a connection of its own: HTTP/1.1 ends one on which a body was refused before it was read."""
        return self.caller(self.shop.token)

    def look(self) -> Answer:
        """The shop reads parties on the connection that has been open since the start."""
        return self.shop.send("GET", PARTIES)

    def ostiary(self, *arguments: str) -> str:
        """What the command prints, whatever its exit code: the tour shows it as a person would see it."""
        command = [sys.executable, "-c", "from ostiary.cli.main import main; main()", *arguments]
        done = subprocess.run(
            [*command, "--home", str(self.stand.home.root)], capture_output=True, text=True, check=False, timeout=120
        )
        return done.stdout + done.stderr


Step = tuple[str, Callable[[Story], Iterator[Check]]]


def outcome(answer: Answer) -> str:
    """`200`, or `403 role`: the status and the refusal's word."""
    return f"{answer.status} {answer.reason}".strip()


def no_token(story: Story) -> Iterator[Check]:
    answer = story.once().send("POST", RPC, b"{}")
    yield Check("a call without a token", "401 token-missing", outcome(answer))
    yield Check("says how to authenticate", "Bearer", answer.headers.get("www-authenticate", "").split(" ")[0])
    yield Check("problem details", "application/problem+json", answer.headers.get("content-type", ""))
    yield Check("carries a decision id", "yes", yes(answer.decision and answer.json()["decision"] == answer.decision))


def client_token(story: Story) -> Iterator[Check]:
    answer = calling.machine_token(story.shop, CLIENT[0], story.stand.secrets[CLIENT[0]])
    yield Check("the shop asks for a token", "200", outcome(answer))
    story.shop.token = answer.json()["access_token"]
    header = _header(story.shop.token)
    yield Check("it is an access token (RFC 9068), ES256", "at+jwt ES256", f"{header['typ']} {header['alg']}")


def allowed_reads(story: Story) -> Iterator[Check]:
    answer = story.once().rpc("model.party.party.search_read", *SEARCH)
    yield Check("the shop reads parties by JSON-RPC", "200", outcome(answer))
    yield Check("and sees them", "3 parties", f"{len(answer.json().get('result', []))} parties")
    yield Check("and by REST", "200", outcome(story.look()))


def refused_write(story: Story) -> Iterator[Check]:
    answer = story.once().rpc("model.account.move.write", [1], {"number": "1"})
    yield Check("the shop writes a ledger move", "403 role", outcome(answer))
    story.refused = answer.decision
    yield Check("the refusal has a decision id", "yes", yes(story.refused))


def explained(story: Story) -> Iterator[Check]:
    told = story.ostiary("explain", story.refused)
    yield Check("explain names file and line", "yes", yes("policy.yaml:" in told))
    yield Check("and the operation", "yes", yes("account.move:write" in told))
    yield Check("and what would have allowed it", "yes", yes("would" in told))


def outside_hours(story: Story) -> Iterator[Check]:
    told = _apply(story, _policy(story).replace(POLICY_HOURS, f'hours: "{_hours_without_now()}"'), "close the shop")
    yield Check("working hours that exclude now are put in force", "yes", yes("in force" in told))
    answer = story.look()
    yield Check("the same call, same connection", "403 context", outcome(answer))
    event = _event(story, answer.decision)
    yield Check(
        "refused natively: the guard was not asked", "no guard", "guard" if event.get("guard_us") else "no guard"
    )


def policy_change(story: Story) -> Iterator[Check]:
    path = story.stand.home.root / "granting.yaml"
    path.write_text(_policy(story), "utf-8")
    told = story.ostiary("policy", "diff", str(path))
    yield Check("`policy diff` says what widens", "yes", yes("widens" in told and "sales" in told))
    yield Check(
        "`policy apply` puts it in force", "yes", yes("in force" in _apply(story, _policy(story), "open the shop"))
    )
    answer = story.look()
    yield Check("the connection that was open before passes", "200", outcome(answer))
    entry = json.loads(story.ostiary("audit", "list", "--action", "policy.apply", "--json"))[0]
    yield Check("the audit log shows who, what, when", "yes", yes(entry["actor"] and entry["reason"] and entry["at"]))
    yield Check("and nobody rewrote it", "yes", yes("holds" in story.ostiary("audit", "verify")))


def revocation(story: Story) -> Iterator[Check]:
    other = story.caller()
    secret = calling.basic(CLIENT[0], story.stand.secrets[CLIENT[0]])
    began = time.monotonic()
    answer = other.form("/identity/revoke", basic=secret, token=story.shop.token)
    yield Check("the token is revoked (RFC 7009)", "200", outcome(answer))
    refused = _until_refused(story, began)
    yield Check("the open connection is refused", "401 token-revoked", outcome(refused[0]))
    yield Check(f"within {REVOKED_WITHIN_S * 1000:.0f} ms", "yes", yes(refused[1] <= REVOKED_WITHIN_S))
    story.shop.token = calling.machine_token(other, CLIENT[0], story.stand.secrets[CLIENT[0]]).json()["access_token"]
    yield Check("a new token passes", "200", outcome(story.look()))


def fraud(story: Story) -> Iterator[Check]:
    session = _erp_session(story, "approver")
    supplier = _result(session("model.party.party.create", [{"name": "Evil Vendor GmbH"}]))[0]
    payment = _payment(session, supplier)
    session("model.account.payment.submit", [payment])
    session("model.account.payment.approve", [payment])
    yield Check("straight at Tryton, one user pays his own supplier", "approved", _state(session, payment))
    anna = _person(story, "anna")
    supplier = _result(anna("model.party.party.create", [{"name": "Evil Vendor II GmbH"}]))[0]
    payment = _payment(anna, supplier)
    yield Check("through the gate: create, submit", "200", outcome(anna("model.account.payment.submit", [payment])))
    answer = anna("model.account.payment.approve", [payment])
    yield Check("but the approval is stopped", "403 apart", outcome(answer))
    yield Check("and says why", "yes", yes("supplier" in story.ostiary("explain", answer.decision)))
    yield Check("the payment was not approved", "submitted", _state(session, payment))
    story.tokens["fraud"] = {"payment": payment, "supplier": supplier}


def another_person(story: Story) -> Iterator[Check]:
    anna, ben, straight = _person(story, "anna"), _person(story, "ben"), _erp_session(story, "approver")
    payment = story.tokens["fraud"]["payment"]
    yield Check("ben approves what anna prepared", "200", outcome(ben("model.account.payment.approve", [payment])))
    yield Check("and Tryton has it", "approved", _state(straight, payment))
    supplier = _result(straight("model.party.party.create", [{"name": "Made in the ERP GmbH"}]))[0]
    payment = _payment(anna, supplier)
    anna("model.account.payment.submit", [payment])
    answer = anna("model.account.payment.approve", [payment])
    yield Check("a supplier anna made in the ERP itself", "403 apart", outcome(answer))
    honest = _result(ben("model.party.party.create", [{"name": "Honest GmbH"}]))[0]
    payment = _payment(anna, honest)
    anna("model.account.payment.submit", [payment])
    for step in (["draft", [payment]], ["write", [payment], {"party": supplier}], ["submit", [payment]]):
        _result(straight(f"model.account.payment.{step[0]}", *step[1:]))
    answer = anna("model.account.payment.approve", [payment])
    yield Check("the party changed in the ERP after submission", "403 apart", outcome(answer))


def tricks(story: Story) -> Iterator[Check]:
    write = {"id": 1, "method": "model.account.move.write", "params": [[1], {"number": "1"}, {}]}
    read = {"id": 1, "method": "model.party.party.search_read", "params": [*SEARCH, {}]}
    wire = json.dumps(write).encode()
    xml = b"<methodCall><methodName>model.account.move.write</methodName></methodCall>"
    twice = json.dumps(read)[:-1].encode() + b', "method": "model.account.move.write"}'
    yield _stopped("XML-RPC on the same URL", story.once().send("POST", RPC, xml, content_type="text/xml"))
    yield _stopped("a duplicated JSON key", story.once().send("POST", RPC, twice))
    yield _stopped("m\\u0065thod", story.once().send("POST", RPC, wire.replace(b"method", b"m\\u0065thod")))
    yield _stopped("/%65rp", story.once().send("POST", "/%65rp/rpc/", wire))
    yield _stopped("an unknown route", story.once().send("GET", "/erp/r/base/data/party.party?f=name"))
    zipped = gzip.compress(json.dumps(read).encode())
    yield _stopped("a gzip body", story.once().send("POST", RPC, zipped, content_encoding="gzip"))
    yield from _cookie_and_id_token(story)


def _cookie_and_id_token(story: Story) -> Iterator[Check]:
    """The cookie of a user who may write the ledger gives the shop nothing; an ID token opens nothing."""
    login = story.erp.users["acct"]
    cookie = f"tryton_session={_session_text(story, 'acct', login)}"
    body = {"id": 1, "method": "model.sale.sale.create", "params": [[{"party": 2}], {"company": 1}]}
    sale = _result(story.once().send("POST", RPC, json.dumps(body).encode(), cookie=cookie))[0]
    maker = _result(story.once().rpc("model.sale.sale.read", [sale], ["create_uid"]))[0]["create_uid"]
    yield Check("another user's cookie: the ERP saw", CLIENT[2], _login_of(story, maker))
    _person(story, "anna")
    answer = story.caller(story.tokens["anna"]["id_token"]).rpc("model.party.party.search_read", *SEARCH)
    yield Check("an ID token as access token", "401 token-invalid", outcome(answer))


STEPS: Final[tuple[Step, ...]] = (
    ("No token, no way in", no_token),
    ("A machine gets a token", client_token),
    ("What the policy grants, passes", allowed_reads),
    ("What it does not grant, is refused", refused_write),
    ("Every refusal can be explained", explained),
    ("Outside working hours", outside_hours),
    ("A policy change, live on an open connection", policy_change),
    ("Revoked means refused, at once", revocation),
    ("The fraud that the ERP itself allows", fraud),
    ("A second person, and what the ERP records", another_person),
    ("Tricks that get around other gates", tricks),
)


def yes(value: object) -> str:
    return "yes" if value else "no"


def _stopped(what: str, answer: Answer) -> Check:
    refused = answer.status in {400, 403, 413} and bool(answer.decision)
    return Check(what, "refused", "refused" if refused else f"{answer.status}")


def _header(token: str) -> dict[str, Any]:
    from base64 import urlsafe_b64decode

    head = token.split(".", maxsplit=1)[0]
    return dict(json.loads(urlsafe_b64decode(head + "=" * (-len(head) % 4))))


def _hours_without_now() -> str:
    start = datetime.now(UTC) + timedelta(hours=2)
    return f"{start:%H}:00-{start + timedelta(hours=1):%H}:00"


def _policy(story: Story) -> str:
    return story.stand.home.policy.read_text("utf-8")


def _apply(story: Story, text: str, reason: str) -> str:
    path = story.stand.home.root / "tour.yaml"
    path.write_text(text, "utf-8")
    return story.ostiary("policy", "apply", str(path), "--reason", reason)


def _event(story: Story, decision: str) -> dict[str, Any]:
    told = json.loads(story.ostiary("explain", decision, "--json"))
    return dict(told["event"])


def _until_refused(story: Story, began: float) -> tuple[Answer, float]:
    while True:
        answer = story.look()
        passed = time.monotonic() - began
        if answer.status != 200 or passed > 10 * REVOKED_WITHIN_S:  # noqa: PLR2004  RFC 9110 section 15.3.1
            return answer, passed


Rpc = Callable[..., Answer]


def _person(story: Story, login: str) -> Rpc:
    """Calls through the gate as this person, signed in through the page once."""
    if login not in story.tokens:
        page = story.caller()
        secret = story.stand.secrets[login]
        story.tokens[login] = calling.sign_in(page, PORTAL, PORTAL_REDIRECT, login, secret)
    return story.caller(story.tokens[login]["access_token"]).rpc


def _erp_session(story: Story, login: str) -> Rpc:
    """Calls straight at Tryton, around the gate, as this ERP user."""
    from base64 import b64encode

    session = b64encode(_session_text(story, login, story.erp.users[login]).encode()).decode()
    return partial(_straight, story, {"authorization": f"Session {session}"})


def _session_text(story: Story, login: str, password: Secret) -> str:
    answer = _straight(story, {}, "common.db.login", login, {"password": password.reveal()}, context="en")
    user, key, _ = _result(answer)
    return f"{login}:{user}:{key}"


def _straight(story: Story, headers: dict[str, str], method: str, *params: Any, context: Any = None) -> Answer:
    import httpx

    body = {"id": 1, "method": method, "params": [*params, context or {"company": 1, "companies": [1]}]}
    answer = httpx.post(f"{story.erp.url}/erp/rpc/", json=body, headers=headers, timeout=60, trust_env=False)
    return Answer(answer.status_code, dict(answer.headers), answer.content)


def _result(answer: Answer) -> Any:
    told = answer.json()
    if "result" not in told:
        raise SystemFault("tour-erp", f"the call was answered {answer.status}: {told}", hint="see the step before")
    return told["result"]


def _payment(rpc: Rpc, supplier: int) -> int:
    journal = _result(rpc("model.account.payment.journal.search", [], 0, None, None))[0]
    today = datetime.now(UTC)
    date = {"__class__": "date", "year": today.year, "month": today.month, "day": today.day}
    values = {
        "journal": journal,
        "kind": "payable",
        "party": supplier,
        "amount": {"__class__": "Decimal", "decimal": "4999.99"},
        "date": date,
        "company": 1,
    }
    return int(_result(rpc("model.account.payment.create", [values]))[0])


def _state(rpc: Rpc, payment: int) -> str:
    return str(_result(rpc("model.account.payment.read", [payment], ["state"]))[0]["state"])


def _login_of(story: Story, uid: int) -> str:
    return next((login for login, known in story.erp.uids.items() if known == uid), f"uid {uid}")
