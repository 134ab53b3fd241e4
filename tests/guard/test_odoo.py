"""What an Odoo offers is learnt of itself, by whichever of its ways it has, page by page; or it is said why not."""

import pytest

from odoo_twin import DATABASE, FIELDS, KEY, LOGIN, Odoo
from ostiary.foundation.secret import Secret
from ostiary.guard import adapters
from ostiary.guard.adapters import OdooErp
from ostiary.guard.erp import NotEstablished, NotLetIn, Tried
from ostiary.policy.parse import parse
from upstream import Echo, Server


@pytest.fixture
def twin():
    made = Odoo()
    server = Server(("127.0.0.1", 0), Echo).start(made)
    made.url = f"http://127.0.0.1:{server.server_port}"
    yield made
    server.stop()


async def learnt(twin, key=KEY, login=LOGIN):
    text = f'policy: p\nsystems: {{erp: {{kind: odoo, at: localhost, upstream: "{twin.url}", database: {DATABASE}}}}}\n'
    (system,) = parse(text + "departments: {a: {}}\nroles: {r: {level: user, of: a, may: []}}\n", "p").policy.systems
    erp = OdooErp(system, Tried(login, Secret(key)), 5.0)
    try:
        return await erp.learn("erp")
    finally:
        await erp.close()


@pytest.mark.parametrize("before_19", [False, True])
@pytest.mark.parametrize("page", [3, 5_000, sum(map(len, FIELDS.values()))])
async def test_all_its_fields_are_learnt(twin, monkeypatch, before_19, page):
    monkeypatch.setattr(adapters, "PAGE", page)
    twin.before_19 = before_19
    found = await learnt(twin)
    told = {
        (name, field): (one.type, one.target, one.copied)
        for name, of in found.models.items()
        for field, one in of.items()
    }
    assert told == {
        (name, field): (one.type, one.target, one.copied) for name, of in FIELDS.items() for field, one in of.items()
    }
    assert found.models["sale.order"]["order_line"].back == "order_id"
    assert found.models["res.users"]["vat"].related == "partner_id.vat"


@pytest.mark.parametrize("before_19", [False, True])
async def test_a_key_that_it_does_not_take_is_told(twin, before_19):
    twin.before_19 = before_19
    with pytest.raises(NotLetIn, match="does not take this login and key"):
        await learnt(twin, key="wrong")
    with pytest.raises(NotLetIn, match="does not take this login and key"):
        await learnt(twin, key="wrong", login="nobody")


async def test_one_that_fails_or_does_not_answer_is_told_as_that(twin, monkeypatch):
    monkeypatch.setattr(Odoo, "__call__", lambda *_: (500, {}, "{}"))
    with pytest.raises(NotEstablished, match="status 500"):
        await learnt(twin)
    twin.url = "http://127.0.0.1:9"
    with pytest.raises(NotEstablished, match="does not answer"):
        await learnt(twin)
