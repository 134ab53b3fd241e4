"""A draft proposes what its source says and no more; it checks, and changes nothing."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from msgspec.structs import replace

from erp.metadata import BOMB, V2
from ostiary.compile.plan import compile_policy
from ostiary.control.draft import draft
from ostiary.control.prepare import initialise
from ostiary.erp import tryton as adapter
from ostiary.erp.catalogue import Catalogue
from ostiary.foundation.errors import CallerFault, OperatorFault
from ostiary.foundation.home import Home
from ostiary.plan.decide import closure
from ostiary.policy.parse import parse
from running import RUNNING, SPEC, until

AGES = datetime(2020, 1, 1, tzinfo=UTC)
VERB = {"read": "read", "write.write": "write", "write.create": "create", "delete": "delete"}


def told(home, source, since=AGES):
    done = draft(home, str(source), since, lambda _: None)
    policy = parse(done["text"], "draft").policy
    assert policy is not None
    return done["text"], {role.name: role for role in policy.roles}, done["warnings"], policy


def permissions(role):
    return {str(one).partition("/")[2] for may in role.may for one in may.patterns}


# -- from the ERP's own groups


@pytest.fixture(scope="module")
def home(tryton, tmp_path_factory):
    made = Home(root=tmp_path_factory.mktemp("draft") / "home")
    initialise(made, erp="tryton", upstream=tryton.erp.url, database="erp")
    tryton.sessions.pop("gateway", None)  # another test may have ended it
    session = tryton.session("gateway")

    def ask(method, *params):
        return tryton.post(method, *params, authorization=session)

    learned = adapter.learn(ask)
    learned = replace(learned, groups=adapter.groups(ask, learned, "erp"))
    made.catalogue("erp").write_bytes(msgspec.json.encode(learned))
    return made


def test_every_group_of_the_erp_is_a_role_with_names_that_the_erp_knows(home):
    text, roles, warnings, _ = told(home, "erp")
    assert warnings == []
    assert {"sales", "payment-approval", "everybody-in-the-erp"} <= roles.keys()
    assert roles["sales-administrator"].includes == ("sales",)
    assert roles["sales"].includes == ("everybody-in-the-erp",)
    assert "# Tryton's group: Sales\n" in text
    assert "account.payment:execute.approve" in permissions(roles["payment-approval"])
    assert "account.payment:execute.approve" not in permissions(roles["payment"])
    assert {"account.payment:execute.submit", "account.payment:delete"} <= permissions(roles["payment"])
    assert permissions(roles["payment-approval"]).isdisjoint(
        {"account.payment:execute.submit", "account.payment:delete"}
    )


@pytest.mark.parametrize(("login", "groups"), [
    ("clerk", ["sales"]), ("payer", ["payment"]), ("approver", ["payment", "payment-approval"]), ("acct", ["accounting"]),
])  # fmt: skip
def test_no_role_may_more_than_the_erp_lets_a_user_of_its_groups(home, tryton, login, groups):
    _, roles, _, policy = told(home, "erp")
    held = closure(compile_policy(policy), groups)
    may = set().union(*(permissions(roles[name]) for name in held))
    rights = {tuple(one.rsplit(":", 1)) for one in may if ":execute" not in one}
    access = tryton.call(login, "model.ir.model.access.get_access", sorted({name for name, _ in rights}))
    assert len(rights) > 20
    assert [one for one in rights if not access[one[0]][VERB[one[1]]]] == []


def test_a_catalogue_without_groups_says_who_would_have_to_read_what(folder):
    other = Home(root=folder / "other")
    initialise(other, erp="tryton", upstream="http://127.0.0.1:9", database="erp")
    with pytest.raises(OperatorFault, match="not known") as problem:
        told(other, "erp")
    assert "ir.model.access" in problem.value.hint
    other.catalogue("erp").write_bytes(msgspec.json.encode(Catalogue(models={}, methods={})))
    with pytest.raises(OperatorFault, match="not known"):
        told(other, "erp")


def test_of_an_odoo_no_groups_are_read_and_it_is_said_so(folder):
    upstream = "http://127.0.0.1:8069"
    initialise(Home(root=folder / "odoo"), erp="odoo", database="acme", upstream=upstream)
    with pytest.raises(OperatorFault) as problem:
        told(Home(root=folder / "odoo"), "erp")
    assert (problem.value.code, problem.value.hint) == (
        "rights-unknown", "of a system of kind odoo no groups are read: --from events",
    )  # fmt: skip


def test_rights_that_may_not_be_read_are_none():
    catalogue = Catalogue(models={}, methods={})
    assert (
        adapter.groups(lambda *_: {name: {"read": name != "res.group"} for name in adapter.OBJECTS}, catalogue, "erp")
        == ()
    )


# -- from documents


def test_an_openapi_document_makes_a_policy_that_checks(tmp_path):
    (tmp_path / "shop.openapi.yaml").write_text(SPEC)
    text, roles, warnings, _ = told(Home(root=tmp_path / "none"), tmp_path / "shop.openapi.yaml")
    assert warnings == []
    assert permissions(roles["order-write"]) == {"order:write"}
    assert '- "shop/report: execute run" # POST /reports' in text
    assert list(tmp_path.iterdir()) == [tmp_path / "shop.openapi.yaml"]


def test_a_metadata_document_makes_a_policy_that_says_it_can_not_be_enforced(tmp_path):
    (tmp_path / "sap.xml").write_text(V2)
    text, roles, _, _ = told(Home(root=tmp_path / "none"), tmp_path / "sap.xml")
    assert text.startswith("# NOT ENFORCEABLE YET")
    assert "A_Invoice:execute.Post" in permissions(roles["sap-operator"])
    (tmp_path / "sap.xml").write_text(BOMB + V2)
    with pytest.raises(OperatorFault, match="document type"):
        told(Home(root=tmp_path / "none"), tmp_path / "sap.xml")


def test_words_of_a_document_stay_comments(tmp_path):
    evil = SPEC.replace("/stock:", '"/stock\\n  root: {level: system, may: [\\"shop/order: delete\\"]}":')
    (tmp_path / "evil.yaml").write_text(evil)
    _, roles, _, _ = told(Home(root=tmp_path / "none"), tmp_path / "evil.yaml")
    assert "root" not in roles


def test_a_source_that_is_nothing_names_what_there_is(home):
    with pytest.raises(CallerFault) as problem:
        told(home, "nowhere")
    assert "events" in problem.value.hint
    assert "erp" in problem.value.hint


# -- from what was observed


@pytest.fixture
def seen(site):
    """Two clients that did the same, and one that also did what it may not."""
    since = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=1)
    until(lambda: datetime.now(UTC) > since)
    names = [f"seen-{number}-{since:%H%M%S}" for number in range(3)]
    tokens = [site.client(name, role) for name, role in zip(names, ("clerk", "clerk", "visitor"), strict=True)]
    for token in tokens:
        for method, path in (
            ("GET", "/shop/stock"),
            ("GET", "/shop/orders?limit=1"),
            ("POST", "/shop/reports"),
            ("GET", "/shop/invoices"),
        ):
            site.once(method, path, token=token)
    return since, names


@RUNNING
def test_what_was_allowed_is_proposed_and_what_was_refused_is_not(site, seen):
    since, names = seen

    until(lambda: all(f"client:{name}" in told(site.home, "events", since)[0] for name in names))
    until(lambda: told(site.home, "events", since)[0].count("# 2 times") == 2)
    text, roles, warnings, _ = told(site.home, "events", since)
    assert warnings == []
    assert all({"report:execute.run", "invoice:read"}.isdisjoint(permissions(role)) for role in roles.values())
    assert permissions(roles[names[2]]) == {"stock:read"}
    (together,) = [
        one
        for name, one in roles.items()
        if name.startswith("observed-") and permissions(one) == {"order:read", "stock:read"}
    ]
    assert together.department == "sales"
    assert f"client:{names[0]}, client:{names[1]}" in text
    assert "# 2 times, last " in text
    assert "a context to think about:" in text
    assert together.when == ()


@RUNNING
@pytest.mark.parametrize("status", [401, 403])
def test_what_the_erp_itself_refused_is_not_proposed(site, status):
    since, before = datetime.now(UTC), site.upstream.reply
    name = f"wrong-{status}-{since:%H%M%S}"
    token = site.client(name, "clerk")
    site.upstream.reply = lambda seen: (status if seen["path"].endswith("/stock") else 200, {}, "")
    try:
        answers = [site.once("GET", path, token=token).status for path in ("/shop/stock", "/shop/orders")]
    finally:
        site.upstream.reply = before
    assert answers == [status, 200]

    def proposed():
        role = told(site.home, "events", since)[1].get(name)
        return permissions(role) if role else set()

    until(lambda: proposed() == {"order:read"}, lambda: str(proposed()))


@RUNNING
def test_a_draft_of_the_events_changes_nothing(site, seen):
    before = site.home.policy.read_bytes(), (site.home.plans / "current").read_text()
    done = site.ostiary("policy", "draft", "--from", "events", "--since", f"{seen[0]:%Y-%m-%d}")
    assert (done.code, done.err) == (0, "")
    (site.root / "draft.yaml").write_text(done.out)
    assert site.ostiary("policy", "check", str(site.root / "draft.yaml")).code == 0
    assert before == (site.home.policy.read_bytes(), (site.home.plans / "current").read_text())
