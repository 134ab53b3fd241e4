"""Revocations on their way to the gate: one is pushed at once, whatever else is on its way; many become one list."""

import json
import shutil
import threading
from types import SimpleNamespace

import pytest
from msgspec.structs import replace
from sqlalchemy.exc import OperationalError

from ostiary.audit.log import Change
from ostiary.control import members, reconcile
from ostiary.control.installation import open_installation, opened
from ostiary.control.prepare import START_FILE, edge_of, initialise, ready
from ostiary.control.reconcile import HOT_MAX, ROUTES, Reconciler, Translated
from ostiary.foundation.clock import to_us
from ostiary.foundation.errors import SystemFault
from ostiary.foundation.home import Home
from ostiary.foundation.secret import Secret
from ostiary.foundation.unix import Answer
from ostiary.guard import knowledge
from ostiary.identity import keys, principals
from ostiary.plan.model import HandOver, seal
from ostiary.policy.words import ASK_S, FOREVER_S
from ostiary.store import directory
from ostiary.store.plans import plan_in_force, revision_in_force

HOT, COLD = "ecds/revoked-hot.json", "ecds/revoked-cold.json"


class TwinGate:
    """Has in force what it was told; `slow` keeps it busy with the cold list until it is set."""

    def __init__(self):
        self.files, self.told, self.slow = {}, [], threading.Event()
        self.busy = threading.Event()
        self.slow.set()

    def write(self, resources):
        self.told += resources
        self.files |= resources
        return tuple(resources)

    def put(self, resources):
        if COLD in resources:
            self.busy.set()
            assert self.slow.wait(10)
        self.write(resources)

    def holds(self, file, key):
        return key.partition(":")[2] in str(self.files[file])


class TwinGuard:
    """Holds the plan that it was told, and answers on its socket's behalf; `down` keeps it silent."""

    def __init__(self, revision):
        self.revision, self.told, self.down = revision, [], False

    def ask(self, _socket, _method, target, body, **_):
        if self.down:
            raise ConnectionRefusedError
        about = target.rpartition("/")[2]
        self.told.append(about)
        if about == "plan":
            self.revision = json.loads(body)["revision"]
        return Answer(200, json.dumps({"result": {"revision": self.revision}}).encode())


@pytest.fixture
def on(folder, chosen_url):
    home = Home(root=folder / "home")
    initialise(home, upstream="http://127.0.0.1:9", store=chosen_url)
    (home.run / START_FILE).write_text("0 UTC")
    made = open_installation(home)
    yield made
    made.store.close()


@pytest.fixture
def gate():
    return TwinGate()


@pytest.fixture
def guard(on, monkeypatch):
    made = TwinGuard(revision_in_force(on.home))
    monkeypatch.setattr(reconcile.unix, "ask", made.ask)
    return made


@pytest.fixture
def reconciler(on, gate, guard):
    made = Reconciler(on, gate, edge_of(on))
    made.prepare()
    gate.told.clear()
    return made


def test_a_guard_that_hangs_holds_nobody_up_for_longer_than_it_takes_to_read_the_store_by_itself(
    reconciler, guard, monkeypatch
):
    """Whoever waits for it are the threads in which the gate hears of revocations; of a plan it must be told."""
    waits = {}

    def ask(socket, method, target, body, *, timeout_s):
        waits[target.rpartition("/")[2]] = timeout_s
        return guard.ask(socket, method, target, body)

    monkeypatch.setattr(reconcile.unix, "ask", ask)
    reconciler.refuse(["jti:1"]), reconciler.refresh(), reconciler.guard_state(), reconciler.beside(None)
    assert {about for about, most_s in waits.items() if most_s > knowledge.REFRESH_S} == {"plan", "changed-over"}


def another(reconciler):
    """A plan that serves the same under another name, and what it means to the gate."""
    plan = seal(replace(reconciler.plan, policy="another"))
    return Translated(plan=plan, resources={ROUTES: {"routes": "another"}})


def record(on, keys, life_s=1000, at_us=0):
    now_s = int(on.clock.now().timestamp())
    with on.store.begin() as connection:
        directory.revoke(connection, keys, expires_at_s=now_s + life_s, reason="", at_us=at_us)
    return keys


def some(count, name="a"):
    return [f"jti:{name}-{n}" for n in range(count)]


@pytest.mark.parametrize(("silent_s", "lasts_s"), [(0, 30), (20, 30), (600, 600), (FOREVER_S, None)])
def test_the_gate_goes_on_without_control_for_as_long_as_the_policy_says(on, reconciler, silent_s, lasts_s):
    plan = seal(replace(reconciler.plan, silent_s=silent_s))
    reconciler.apply(Translated(plan=plan, resources={ROUTES: {}}))
    now, lease = on.clock.now().timestamp(), reconciler._lease()
    assert lease is lasts_s is None or lasts_s - 2 <= lease - now <= lasts_s


def test_where_the_policy_says_ask_the_guard_is_asked_but_not_when_the_disk_is_full(on, gate, reconciler):
    reconciler.apply(Translated(plan=seal(replace(reconciler.plan, silent_s=ASK_S)), resources={ROUTES: {}}))
    assert (reconciler._asks, "/standing" in json.dumps(gate.files[HOT])) == (True, True)
    reconciler.disk_low(True)
    assert (reconciler._asks, "/standing" in json.dumps(gate.files[HOT])) == (False, False)


def test_a_few_revocations_do_not_make_the_gate_read_the_long_list_again(on, gate, reconciler):
    reconciler.refuse(record(on, some(HOT_MAX)))
    reconciler.shorten()
    reconciler.catch_up()
    assert COLD not in gate.told
    assert all(gate.holds(HOT, key) for key in some(HOT_MAX))


def test_many_become_part_of_the_long_list_and_none_is_let_go(on, gate, reconciler):
    reconciler.refuse(record(on, some(HOT_MAX + 1)))
    reconciler.shorten()
    reconciler.refuse(record(on, ["jti:one-more"]))
    assert all(gate.holds(COLD, key) for key in some(HOT_MAX + 1))
    assert not gate.holds(HOT, "jti:a-0")
    assert gate.holds(HOT, "jti:one-more")


def test_what_another_process_recorded_is_pushed_too(on, gate, reconciler):
    record(on, ["grant:elsewhere"])
    reconciler.catch_up()
    assert gate.holds(HOT, "grant:elsewhere")
    record(on, some(HOT_MAX + 1))
    reconciler.catch_up()
    assert all(gate.holds(COLD, key) for key in [*some(HOT_MAX + 1), "grant:elsewhere"])
    assert not gate.holds(HOT, "grant:elsewhere")


@pytest.fixture
def nodes(databases, folder):
    """Two of a fleet: each its own folder, gate and guard, one PostgreSQL."""
    with databases.one("postgresql") as url:
        first, second = (Home(root=folder / name) for name in ("first", "second"))
        initialise(first, upstream="http://127.0.0.1:9", store=url)
        (first.run / START_FILE).write_text("0 UTC")
        shutil.copytree(first.root, second.root)
        with opened(first) as one, opened(second) as other:
            yield one, other


def test_what_one_node_revokes_gate_and_guard_of_the_other_refuse_at_the_next_half_second(nodes, monkeypatch):
    """By the few that are new alone; the same is not told twice."""
    guard, gates = TwinGuard(revision_in_force(nodes[0].home)), (TwinGate(), TwinGate())
    monkeypatch.setattr(reconcile.unix, "ask", guard.ask)
    here, there = (Reconciler(on, gate, edge_of(on)) for on, gate in zip(nodes, gates, strict=True))
    here.prepare(), there.prepare()
    now_us = to_us(nodes[0].clock.now())
    here.refuse(record(nodes[0], ["gen:user:anna#3"], at_us=now_us))
    record(nodes[0], ["jti:clock-behind"], at_us=now_us - 12_000_000)
    record(nodes[0], ["jti:long-ago"], at_us=now_us - 60_000_000)
    monkeypatch.setattr(nodes[1].store, "ask", only_the_new(nodes[1].store.ask))
    guard.told.clear()
    there.hear()
    assert [gates[1].holds(HOT, key) for key in ("gen:user:anna#3", "jti:clock-behind", "jti:long-ago")] == [1, 1, 0]
    assert guard.told == ["revoked"]
    there.hear()
    assert guard.told == ["revoked"]


@pytest.fixture
def fleet(nodes, monkeypatch):
    """A reconciler and the gate of each; what the first does reaches the second by its half-second chores alone."""
    guard = TwinGuard(revision_in_force(nodes[0].home))
    monkeypatch.setattr(reconcile.unix, "ask", guard.ask)
    with nodes[0].store.begin() as connection:
        keys.ensure(connection, nodes[0].sealer, nodes[0].clock.now())
    do(nodes[0], principals.add, kind="client", name="keyed", title="", person="", roles=["clerk"])
    do(nodes[0], principals.add_device, name="laptop", principal="", fingerprint="ab" * 32)
    do(nodes[0], principals.set_erp_account, **KEYED, password=Secret("his-key"))
    plan = keyed_plan(plan_in_force(nodes[0].home))
    made = [Reconciler(on, TwinGate(), edge_of(on)) for on in nodes]
    for one in made:
        one.plan = plan
        one.prepare()
    guard.told.clear()
    return made, guard


KEYED = {"sealer": None, "principal": "client:keyed", "system": "erp", "login": "keyed"}


def do(on, act, **told):
    told |= {"sealer": on.sealer} if "sealer" in told else {}
    with on.store.begin() as connection:
        return act(Change(connection, "uid:0", on.clock.now()), **told)


def keyed_plan(plan):
    """With the keys of its accounts put on by the gate itself."""
    (erp,) = plan.systems
    return seal(replace(plan, systems=(replace(erp, hand_over=HandOver.KEY, sends=("x-key: {key}",)),)))


def signs(on):
    with on.store.read() as connection:
        return keys.active_kids(connection)["access"]


@pytest.mark.parametrize("changed", ["key", "device", "account", "roles"])
def test_what_one_node_changes_of_the_directory_gate_and_guard_of_the_other_know_at_the_next_half_second(
    nodes, fleet, changed
):
    """A signing key in wrong hands above all: who has it makes tokens that no revocation names."""
    (here, there), guard = fleet
    stolen = signs(nodes[0])
    held = {name: str(there._gate.files[f"ecds/{name}.json"]) for name in ("token", "inject", "policy", "caller-limit")}
    assert (stolen in held["token"], "/keys/" in held["inject"]) == (True, True)
    acts = {
        "key": lambda: do(nodes[0], keys.rotate, sealer=True, compromised=True),
        "device": lambda: do(nodes[0], principals.remove_device, name="laptop"),
        "account": lambda: do(nodes[0], principals.remove_erp_account, principal="client:keyed", system="erp"),
        "roles": lambda: do(nodes[0], principals.set_roles, principal="client:keyed", roles=["clerk", "other"]),
    }
    acts[changed]()
    here.refresh()
    guard.told.clear()
    there.hear(), there.follow(), there.follow()
    after = {name: str(there._gate.files[f"ecds/{name}.json"]) for name in held}
    assert "directory" in guard.told
    assert (stolen in after["token"]) is (changed != "key")
    assert ("/keys/" in after["inject"]) is (changed != "account")
    assert len(there._population(there.plan).devices) == (changed != "device")


def test_the_directory_is_read_anew_once_for_a_change_and_not_for_what_leaves_it_as_it_is(nodes, fleet):
    (here, there), guard = fleet
    there.follow()
    assert not guard.told, "what it was started with"
    for number in range(3):
        do(nodes[0], principals.revoke_token, jti=f"{number}", reason="")
        there.follow()
    assert not guard.told
    do(nodes[0], principals.remove_device, name="laptop")
    here.refresh()
    guard.told.clear()
    here.follow()
    assert not guard.told, "its own change"
    there.follow(), there.follow(), there.follow()
    assert guard.told.count("directory") == 1


def test_a_change_that_its_own_process_is_about_to_bring_is_not_brought_twice(nodes, fleet):
    """The second round would hold up what is revoked right after."""
    (here, _), guard = fleet
    for device in ("phone", "tablet"):
        guard.told.clear()
        do(nodes[0], principals.add_device, name=device, principal="", fingerprint=f"{len(device):02x}" * 32)
        here.follow()
        assert not guard.told, "recorded a moment ago"
        here.refresh()
        here.follow(), here.follow()
        assert guard.told.count("directory") == 1


def test_a_change_of_another_node_that_could_not_be_brought_is_brought_by_the_next_round(nodes, fleet, monkeypatch):
    """But for the keys that sign: those come first, and need nothing of the policy."""
    (_, there), _guard = fleet
    stolen = signs(nodes[0])

    def stale():
        return stolen in str(there._gate.files["ecds/token.json"]), "/keys/" in str(
            there._gate.files["ecds/inject.json"]
        )

    do(nodes[0], keys.rotate, sealer=True, compromised=True)
    do(nodes[0], principals.remove_erp_account, principal="client:keyed", system="erp")
    assert stale() == (True, True)
    with monkeypatch.context() as away:
        away.setattr(there, "_resources", full)
        there.follow(), there.follow()
    assert stale() == (False, True)
    there.catch_up()
    assert stale() == (False, False)


def only_the_new(ask):
    def asked(read, *what):
        assert read is directory.revoked_since, "the whole list"
        return ask(read, *what)

    return asked


def test_control_hears_of_other_nodes_twice_a_second_and_a_store_that_is_away_is_no_news(on, reconciler, monkeypatch):
    monkeypatch.setattr(members, "_every", lambda seconds, act: (seconds, getattr(act, "__name__", "")))
    board = SimpleNamespace(reconciler=reconciler)
    assert {(0.5, "hear"), (0.25, "follow")} <= {*members._chores(board)}
    monkeypatch.setattr(on.store, "ask", full)
    reconciler.hear(), reconciler.follow()


def test_what_no_living_token_carries_is_let_go(on, gate, reconciler, monkeypatch):
    monkeypatch.setattr(reconcile, "HOT_MAX", 2)
    reconciler.refuse(record(on, some(3, "gone"), life_s=-1))
    reconciler.catch_up()
    assert not any(gate.holds(file, key) for key in some(3, "gone") for file in (HOT, COLD))


def test_a_revocation_is_not_held_up_by_the_long_list(on, gate, reconciler):
    reconciler.refuse(record(on, some(HOT_MAX + 1)))
    gate.slow.clear()
    merging = threading.Thread(target=reconciler.shorten)
    merging.start()
    try:
        assert gate.busy.wait(10)
        reconciler.refuse(record(on, ["jti:urgent"]))
        assert gate.holds(HOT, "jti:urgent")
        assert not gate.holds(COLD, "jti:a-0")
    finally:
        gate.slow.set()
        merging.join()
    assert gate.holds(HOT, "jti:urgent")
    assert gate.holds(COLD, "jti:a-0")


def test_a_plan_that_cannot_be_kept_in_force_is_taken_back_at_gate_and_guard(on, gate, guard, reconciler, monkeypatch):
    before, routes = reconciler.plan.revision, gate.files[ROUTES]
    monkeypatch.setattr(reconcile, "put_in_force", full)
    with pytest.raises(OSError, match="full"):
        reconciler.apply(another(reconciler))
    assert {reconciler.plan.revision, guard.revision, revision_in_force(on.home)} == {before}
    assert gate.files[ROUTES] == routes
    gate.told.clear()
    reconciler.catch_up()
    assert ROUTES in gate.told, "nobody waited for what was written"


def full(*_):
    raise OSError(28, "full")


def test_a_guard_that_started_while_a_plan_was_put_in_force_is_told_of_it(gate, guard, reconciler):
    before = guard.revision
    reconciler.apply(another(reconciler))
    guard.revision = before
    gate.told.clear()
    reconciler.catch_up()
    assert guard.revision == reconciler.plan.revision != before
    assert ROUTES not in gate.told, "the gate has it"
    guard.told.clear()
    reconciler.catch_up()
    assert "plan" not in guard.told


def test_the_guard_hears_that_the_gate_changed_over_once_its_routes_are_in_force_and_again_where_it_did_not(
    gate, guard, reconciler, monkeypatch
):
    """From then on the policy before judges nothing any more but what is on its way."""
    put, write = gate.put, reconciler._write_hot
    monkeypatch.setattr(gate, "put", lambda resources: guard.told.append("routes") if ROUTES in resources else put(resources))  # fmt: skip
    reconciler.apply(another(reconciler))
    assert guard.told == ["plan", "routes", "changed-over"]
    guard.told.clear()
    monkeypatch.setattr(reconciler, "_write_hot", full)
    reconciler.apply(another(reconciler))
    monkeypatch.setattr(reconciler, "_write_hot", write)
    assert "changed-over" not in guard.told
    reconciler.catch_up()
    assert guard.told[-1] == "changed-over"


def test_a_silent_guard_does_not_keep_revocations_from_the_gate(on, gate, guard, reconciler):
    guard.down = True
    record(on, ["grant:elsewhere"])
    reconciler.catch_up()
    assert gate.holds(HOT, "grant:elsewhere")


def test_a_change_of_the_directory_makes_no_routes_again_unless_the_gate_is_behind(gate, guard, reconciler):
    reconciler.refresh()
    assert gate.told
    assert ROUTES not in gate.told
    guard.down = True
    with pytest.raises(SystemFault):
        reconciler.refresh()
    guard.down = False
    reconciler.catch_up()
    assert ROUTES in gate.told


def test_a_store_that_fails_between_two_steps_of_a_roll_out_leaves_the_plan_before_in_force(
    on, gate, guard, reconciler, monkeypatch
):
    """The new routes are out already: they are taken back, and what could not be is brought by the next round."""
    before, made = reconciler.plan.revision, another(reconciler)
    real = reconciler._resources

    def fails(*_):
        raise OperationalError("select", {}, Exception("database is locked"))

    monkeypatch.setattr(reconciler, "_resources", fails)
    with pytest.raises(OperationalError):
        reconciler.apply(made)
    assert gate.files[ROUTES] == {"routes": "another"}
    monkeypatch.setattr(reconciler, "_resources", real)
    reconciler.catch_up()
    assert gate.files[ROUTES] != {"routes": "another"}
    assert (reconciler.plan.revision, guard.revision, revision_in_force(on.home)) == (before,) * 3


def test_what_is_in_force_is_not_told_as_failed_by_a_disk_that_is_full_afterwards(on, guard, reconciler, monkeypatch):
    def full():
        raise OSError("no space left")

    made = another(reconciler)
    monkeypatch.setattr(reconciler, "_write_hot", full)
    reconciler.apply(made)
    assert (reconciler.plan.revision, guard.revision, revision_in_force(on.home)) == (made.plan.revision,) * 3


def test_a_name_that_was_written_and_not_yet_on_the_disk_is_taken_back(on, guard, reconciler, monkeypatch):
    """Else the next start would enforce what this one does not."""
    before, real = reconciler.plan.revision, reconcile.put_in_force

    def fails(home, revision):
        real(home, revision)
        if revision != before:
            raise OSError("the folder could not be synced")

    monkeypatch.setattr(reconcile, "put_in_force", fails)
    with pytest.raises(OSError, match="synced"):
        reconciler.apply(another(reconciler))
    assert (reconciler.plan.revision, revision_in_force(on.home)) == (before, before)


def test_the_gates_clock_is_of_the_zone_that_most_contexts_of_the_policy_name(folder, chosen_url):
    hours = 'hours: "08:00-18:00", zone'
    text = f"""policy: acme
systems:
  erp: {{kind: tryton, at: erp.test, upstream: "http://127.0.0.1:9", database: acme, hand-over: session}}
departments: {{sales: {{}}}}
contexts:
  early: {{days: mon-tue, {hours}: Asia/Tokyo}}
  office: {{days: mon-fri, {hours}: Europe/Berlin}}
  weekend: {{days: sat-sun, {hours}: Europe/Berlin}}
roles:
  first: {{level: user, of: sales, may: ["erp/party.party: read"], when: early}}
  clerk: {{level: user, of: sales, may: ["erp/party.party: read"], when: office}}
  other: {{level: user, of: sales, may: ["erp/party.party: read"], when: weekend}}
"""
    home = Home(root=folder / "home")
    initialise(home, upstream="http://127.0.0.1:9", text=text, store=chosen_url)
    with opened(home) as on:
        ready(on)
        edge = edge_of(on)
    assert (edge.zone, edge.start != "0") == ("Europe/Berlin", True)
