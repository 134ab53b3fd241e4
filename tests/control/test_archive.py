"""Revisions and proposals as the store keeps them, on SQLite and on PostgreSQL; nothing runs."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from ostiary.audit.log import Change
from ostiary.control import questions, revisions
from ostiary.control.documents import prove_document, read_document
from ostiary.control.installation import Administrators, open_installation
from ostiary.control.prepare import initialise
from ostiary.control.revisions import (
    OPEN_MAX,
    OPEN_OF_ONE_MAX,
    Act,
    Kind,
    Proposal,
    State,
    record,
    record_failure,
    texts_of,
)
from ostiary.foundation.errors import CallerFault, OperatorFault
from ostiary.foundation.home import Home
from ostiary.policy.document import Document
from ostiary.store.plans import keep_plan, put_in_force

WHO = Administrators(owners=frozenset({"uid:0"}), named=frozenset({"uid:1", "uid:2", "uid:3"}))
AT = datetime(2026, 3, 3, 10, tzinfo=UTC)
ASKED = Proposal(
    kind=Kind.POLICY, actor="uid:1", reason="why", at=AT,
    content={"base": "a", "revision": "b", "file": "/p.yaml", "text": "policy: x", "files": {}, "changes": []},
)  # fmt: skip


@pytest.fixture
def on(folder, database_url):
    home = Home(root=folder / "home")
    initialise(home, upstream="http://127.0.0.1:9", store=database_url)
    made = open_installation(home)
    yield made
    made.store.close()


def written(on, text):
    return Document(text=text, file=str(on.home.policy))


def applied(on, text, **more):
    """As `policy apply` records it, and the revision."""
    document = written(on, text)
    plan, proof = prove_document(document, on.home, on.settings)
    act = Act(actor="uid:1", document=document, proof=msgspec.to_builtins(proof), **more)
    with on.store.begin() as connection:
        record(Change(connection, act.actor, AT), act, plan)
    keep_plan(on.home, plan)
    put_in_force(on.home, plan.revision)
    return plan.revision


@pytest.mark.standard("G4")
def test_every_revision_is_listed_with_who_when_why_approvals_and_which_is_in_force(on):
    first = on.home.policy.read_text()
    wider = first.replace("may: []", 'may: ["party.party: read"]')
    revision = applied(on, wider, reason="a start", approvals=("uid:2",))
    newest, oldest = revisions.list_revisions(on.home)
    assert newest == {
        "number": oldest["number"] + 1, "revision": revision, "file": str(on.home.policy), "who": "uid:1",
        "when": "2026-03-03T10:00:00.000Z", "why": "a start", "approvals": ["uid:2"], "state": "in force",
    }  # fmt: skip
    assert (oldest["state"], oldest["why"]) == ("", "first start")
    back = applied(on, first, reason="back")
    states = [(row["revision"], row["state"]) for row in revisions.list_revisions(on.home)]
    assert states == [(back, "in force"), (revision, ""), (back, "")]
    assert len(revisions.list_revisions(on.home, limit=1)) == 1


def test_a_revision_is_shown_as_it_was_with_what_was_checked(on):
    text = on.home.policy.read_text() + "\n# café\n"
    applied(on, text, reason="")
    told = revisions.show_revision(on.home, str(revisions.list_revisions(on.home)[0]["number"]))
    assert told["text"] == text
    assert told["proof"] == {"never": 0, "always": 0, "apart": 0, "tests": 0, "grants": 0, "people": 0, "warnings": []}


def test_two_revisions_are_compared_by_meaning_either_way(on):
    text = on.home.policy.read_text()
    applied(on, text.replace("may: []", 'may: ["party.party: read"]'), reason="")
    rows = revisions.list_revisions(on.home)
    new, old = (str(row["number"]) for row in rows)
    (change,) = questions.compare(on.home, old, new)
    assert (change["widens"], change["text"].partition(" (")[0]) == (True, "reader may now erp/party.party:read")
    assert [one["widens"] for one in questions.compare(on.home, new, old)] == [False]
    assert questions.compare(on.home, new, new) == []
    assert questions.compare(on.home, rows[1]["revision"], rows[0]["revision"]) == [change]
    with on.store.begin() as connection:
        content = {"text": text, "file": "/p/policy.yaml", "files": {}}
        made = revisions.propose(Change(connection, "uid:1", AT), msgspec.structs.replace(ASKED, content=content))
    assert [one["widens"] for one in questions.compare(on.home, new, made.id)] == [False]
    with pytest.raises(CallerFault, match="there is no policy proposal nobody"):
        questions.compare(on.home, new, "nobody")


@pytest.mark.parametrize("which", ["9" * 5_000, "0", "99", "2147483648", "nobody", "aaaaaaaaaaaaaaaa"])
def test_a_revision_or_proposal_that_there_is_not_is_told(on, which):
    with pytest.raises(CallerFault, match="there is no"):
        revisions.show_revision(on.home, which)


def test_a_proposal_is_listed_before_the_revisions_and_shown_whole(on):
    with on.store.begin() as connection:
        made = revisions.propose(Change(connection, "uid:1", AT), ASKED)
    assert [row["state"] for row in revisions.list_revisions(on.home)] == ["proposed", "in force"]
    assert revisions.show_revision(on.home, made.id)["text"] == "policy: x"


def test_a_proposal_is_named_by_all_that_it_is(store):
    others = [
        ASKED,
        msgspec.structs.replace(ASKED, reason="why not"),
        msgspec.structs.replace(ASKED, content={**ASKED.content, "text": "policy: y"}),
        msgspec.structs.replace(ASKED, content={**ASKED.content, "base": "c"}),
        msgspec.structs.replace(ASKED, actor="uid:2"),
    ]
    with store.begin() as connection:
        assert len({revisions.propose(Change(connection, "uid:1", AT), one).id for one in others}) == len(others)
        again = msgspec.structs.replace(ASKED, at=AT + timedelta(microseconds=1))
        assert revisions.propose(Change(connection, "uid:1", AT), again).at == AT  # it waits already


def open_one(connection):
    (one,) = revisions.found(connection, Kind.POLICY)
    return one


def test_each_approval_counts_once_and_none_by_who_asked(store):
    with store.begin() as connection:
        made = revisions.propose(Change(connection, "uid:1", AT), ASKED)
        with pytest.raises(OperatorFault, match="somebody else"):
            revisions.approve(Change(connection, "uid:1", AT), made, WHO)
        for stranger in ("uid:0", "uid:100001"):  # who may become root, or made himself a user, is not somebody else
            with pytest.raises(OperatorFault, match="does not count"):
                revisions.approve(Change(connection, stranger, AT), made, WHO)
        for actor in ("uid:2", "uid:2", "uid:3"):
            made = revisions.approve(Change(connection, actor, AT), open_one(connection), WHO)
        assert open_one(connection).approvals == ("uid:2", "uid:3")
        revisions.close(Change(connection, "uid:3", AT), made, State.REJECTED)
    with pytest.raises(CallerFault):
        revisions.asked(store, Kind.POLICY, made.id)


@pytest.mark.parametrize("late", ["done", "approved"])
def test_what_another_node_rejected_meanwhile_stays_rejected(store, late):
    with store.begin() as connection:
        made = revisions.propose(Change(connection, "uid:1", AT), ASKED)
        revisions.close(Change(connection, "uid:2", AT), made, State.REJECTED)
    acts = {
        "done": lambda change: revisions.close(change, made, State.DONE),
        "approved": lambda change: revisions.approve(change, made, WHO),
    }
    with pytest.raises(CallerFault, match=f"no policy proposal {made.id} that is open"), store.begin() as connection:
        acts[late](Change(connection, "uid:3", AT))
    with store.read() as connection:
        assert [one.state for one in revisions.found(connection, Kind.POLICY, *State)] == [State.REJECTED]


def test_the_yes_of_who_is_asked_no_longer_counts_no_longer(store):
    left = WHO._replace(named=WHO.named - {"uid:2"})
    with store.begin() as connection:
        made = revisions.propose(Change(connection, "uid:1", AT), ASKED)
        made = revisions.approve(Change(connection, "uid:2", AT), made, WHO)
        made = revisions.approve(Change(connection, "uid:3", AT), made, left)
        assert open_one(connection).approvals == ("uid:3",)


def test_so_many_wait_and_no_more(store):
    with store.begin() as connection:
        for number in range(OPEN_MAX):
            asked = msgspec.structs.replace(ASKED, actor=f"uid:{number // OPEN_OF_ONE_MAX}", reason=f"{number}")
            revisions.propose(Change(connection, asked.actor, AT), asked)
        with pytest.raises(CallerFault, match=f"{OPEN_MAX} proposals are waiting"):
            revisions.propose(Change(connection, "uid:9", AT), msgspec.structs.replace(ASKED, actor="uid:9"))


def test_one_person_does_not_keep_the_others_from_proposing(store):
    with store.begin() as connection:
        for number in range(OPEN_OF_ONE_MAX):
            revisions.propose(Change(connection, "uid:1", AT), msgspec.structs.replace(ASKED, reason=f"{number}"))
        with pytest.raises(CallerFault, match=f"{OPEN_OF_ONE_MAX} of them yours"):
            revisions.propose(Change(connection, "uid:1", AT), ASKED)
        revisions.propose(Change(connection, "uid:2", AT), msgspec.structs.replace(ASKED, actor="uid:2"))


@pytest.mark.parametrize("reason", ["", "  ", "x" * 901, "two\nlines", "\x1b[2J", "\u202e"])
def test_a_reason_says_something_and_not_too_much(reason):
    with pytest.raises(OperatorFault, match="reason"):
        revisions.refuse_reason(reason)


def test_a_proof_against_a_kept_revision_tells_what_changed_since_and_which_statements_hold_otherwise(on):
    first = on.home.policy.read_text().replace("may: []", 'may: ["party.party: read"]')
    ledger = 'never: [{name: nobody writes parties, may: "party.*: write"}]\n'
    applied(on, first + ledger, reason="a start")
    number = revisions.list_revisions(on.home)[0]["number"]
    wider = first.replace("party.party: read", "party.party: write")
    applied(on, wider, reason="later")
    told = questions.prove(written(on, wider), on.home, 90, number)
    assert told["changes"] == questions.compare(on.home, str(number), str(number + 1))
    assert [one["widens"] for one in told["changes"]] == [True, True, False]
    (lost,) = told["answers"]["no longer held"]
    assert "never 'nobody writes parties'" in lost["message"]
    assert told["answers"]["held only now"] == []
    (new,) = told["answers"]["new access"]
    assert "may now erp/party.party:write" in new["message"]
    assert new["requests"]
    now = questions.prove(written(on, wider), on.home, 90)
    assert (now["answers"]["new access"], "changes" in now) == ([], False)
    (back,) = questions.prove(written(on, first + ledger), on.home, 90, number + 1)["answers"]["held only now"]
    assert "reader may erp/party.party:write" in back["message"]
    with pytest.raises(CallerFault, match="no revision number 99"):
        questions.prove(written(on, wider), on.home, 90, 99)


def test_a_revision_that_did_not_come_into_force_is_told_as_that_and_its_text_is_nobodys(on):
    """Its text may be another one for the same plan: what is in force is what was applied before."""
    text = on.home.policy.read_text()
    document = Document(text=text + "# another text of the same\n", file=str(on.home.policy))
    _, plan, _ = read_document(document)
    act = Act(actor="uid:1", document=document, reason="")
    with on.store.begin() as connection:
        change = Change(connection, "uid:1", AT)
        record_failure(change, act, plan, "gate-refused", record(change, act, plan))
    assert [row["state"] for row in revisions.list_revisions(on.home)] == ["rolled back", "in force"]
    assert texts_of(on.store, plan.revision) == (text, {})
