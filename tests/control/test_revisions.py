"""The plan in force is found again in the store, also after an act that did not come into force."""

import shutil
from datetime import UTC, datetime

import pytest

from ostiary.audit.log import Change
from ostiary.control.documents import read_document
from ostiary.control.installation import open_installation
from ostiary.control.prepare import initialise
from ostiary.control.revisions import Act, record, record_failure, recovered
from ostiary.foundation.errors import SystemFault
from ostiary.foundation.home import Home
from ostiary.policy.document import Document
from ostiary.store.plans import keep_plan, plan_in_force, put_in_force

AT = datetime(2026, 3, 3, tzinfo=UTC)


@pytest.fixture
def on(folder, chosen_url):
    home = Home(root=folder / "home")
    initialise(home, upstream="http://127.0.0.1:9", store=chosen_url)
    made = open_installation(home)
    yield made
    made.store.close()


def recorded(on, *, fails=False):
    """Another revision, as `policy apply` records it."""
    before, text = plan_in_force(on.home), on.home.policy.read_text().replace("everyone", "staff")
    document = Document(text=text, file="/p")
    _, plan, _ = read_document(document)
    act = Act(actor="uid:0", document=document, reason="", before=before.revision)
    with on.store.begin() as connection:
        number = record(Change(connection, "uid:0", AT), act, plan)
        if fails:
            record_failure(Change(connection, "uid:0", AT), act, plan, "gate-refused", number)
    if not fails:
        keep_plan(on.home, plan)
        put_in_force(on.home, plan.revision)


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("gone", ["all", "the plan", "the name", "its text"])
def test_what_is_gone_of_the_plans_is_written_again_as_it_was(on, fails, gone):
    recorded(on, fails=fails)
    plan, before = plan_in_force(on.home), contents(on.home.plans)
    file = on.home.plans / f"{plan.revision}.json"
    match gone:
        case "all":
            shutil.rmtree(on.home.plans)
            on.home.plans.mkdir()
        case "the plan":
            file.unlink()
        case "the name":
            (on.home.plans / "current").unlink()
        case "its text":
            file.write_bytes(b"{}")
    assert recovered(on.store, on.home) == plan
    assert plan_in_force(on.home) == plan
    assert contents(on.home.plans).items() <= before.items()


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_plan_that_nobody_knows_is_told_with_what_is_left_to_do(on):
    put_in_force(on.home, "other")
    with pytest.raises(SystemFault, match="can't be read") as problem:
        recovered(on.store, on.home)
    assert "restore a backup" in problem.value.hint
