"""Runs under the demo ERP's own interpreter, never in ours: builds a seeded Tryton database, or serves one.

`build FOLDER` writes FOLDER/erp.sqlite, and to FOLDER/users.json each user's password and id.
`serve CONF FD` serves CONF on the listening socket FD.
"""

import json
import os
import sys
from decimal import Decimal
from pathlib import Path
from secrets import token_urlsafe
from typing import Any

from trytond import config  # type: ignore[import-not-found] # only the ERP's own environment holds trytond

DATABASE = "erp"
MODULES = ["party", "product", "account", "stock", "sale", "purchase", "account_payment"]
GROUPS: dict[str, list[str]] = {
    "clerk": ["Sales"],
    "buyer": ["Purchase"],
    "payer": ["Payment"],
    "approver": ["Payment", "Payment Approval"],
    "treasurer": ["Payment", "Payment Approval"],
    "acct": ["Accounting"],
    "gateway": [],  # its group is made below: reads business records, writes nothing
}
PARTIES = {"Globex GmbH": "Wien", "Initech Ltd.": "Graz", "Umbrella AG": "Linz", "Hooli SE": "Salzburg"}
BUSINESS = ("party.", "company.", "currency.", "country.", "product.", "account.", "stock.", "sale.", "purchase.")


def build(folder: Path) -> None:
    (folder / f"{DATABASE}.sqlite").touch()
    config.set("database", "uri", "sqlite://")
    config.set("database", "path", str(folder))
    passwords = {login: token_urlsafe(18) for login in ("admin", *GROUPS)}
    _activate_modules(passwords["admin"], folder)
    users = {login: {"uid": uid, "password": passwords[login]} for login, uid in _seed(passwords).items()}
    (folder / "users.json").touch(mode=0o600)
    (folder / "users.json").write_text(json.dumps(users))


def _activate_modules(password: str, folder: Path) -> None:
    """What `trytond-admin -u` does. The modules' own records, pinned by hash, skip validation: half the time."""
    from trytond import admin
    from trytond.commandline import get_parser_admin  # type: ignore[import-not-found] # see above
    from trytond.model import ModelStorage  # type: ignore[import-not-found] # see above

    passfile = folder / "passfile"
    passfile.touch(mode=0o600)
    passfile.write_text(password)
    os.environ["TRYTONPASSFILE"] = str(passfile)
    validate = ModelStorage.__dict__["_validate"]
    type.__setattr__(ModelStorage, "_validate", classmethod(lambda *_, **__: None))
    asked = ["--database", DATABASE, "--update", *MODULES, "--activate-dependencies", "--email", "admin@example.com"]
    admin.run(get_parser_admin().parse_args(asked))
    type.__setattr__(ModelStorage, "_validate", validate)
    passfile.unlink()


def _seed(passwords: dict[str, str]) -> dict[str, int]:
    from trytond.pool import Pool  # type: ignore[import-not-found] # see above
    from trytond.transaction import Transaction, TransactionError  # type: ignore[import-not-found] # see above

    pool = Pool(DATABASE)
    extras: dict[str, Any] = {}
    while True:  # a transaction that finds it needs a table lock asks to be run again with it
        with Transaction().start(DATABASE, 0, **extras) as transaction:
            try:
                return _records(pool, transaction, passwords)
            except TransactionError as asked:
                transaction.rollback()
                asked.fix(extras)


def _records(pool: Any, transaction: Any, passwords: dict[str, str]) -> dict[str, int]:
    admin = _company(pool)
    with transaction.set_user(admin.id), transaction.set_context(company=1, companies=[1]):
        _accounts(pool)
        _parties(pool)
        _reading_group(pool)
        made = {login: _user(pool, login, passwords[login]).id for login in GROUPS}
    return {"admin": admin.id, **made}


def _company(pool: Any) -> Any:
    """Company 1 in euro; the administrator works for it."""
    euro = pool.get("currency.currency")(name="Euro", symbol="€", code="EUR", rounding=Decimal("0.01"), digits=2)
    euro.save()
    party = pool.get("party.party")(name="ACME Corp", addresses=[{"city": "Wien"}])
    party.save()
    company = pool.get("company.company")(party=party, currency=euro)
    company.save()
    (admin,) = pool.get("res.user").search([("login", "=", "admin")])
    admin.companies, admin.company = [company], company
    admin.save()
    return admin


def _accounts(pool: Any) -> None:
    """The universal chart of accounts, by the module's own wizard, and a manual payment journal."""
    (template,) = pool.get("account.account.template").search([("parent", "=", None)])
    wizard = pool.get("account.create_chart", type="wizard")
    session, _, _ = wizard.create()
    start = {"account": {"company": 1, "account_template": template.id}}
    wizard.execute(session, start, "create_account")
    partners = [("company", "=", 1), ("party_required", "=", True)]
    account = pool.get("account.account")
    properties = {
        "company": 1,
        "account_receivable": account.search([("type.receivable", "=", True), *partners])[0].id,
        "account_payable": account.search([("type.payable", "=", True), *partners])[0].id,
    }
    wizard.execute(session, {**start, "properties": properties}, "create_properties")
    wizard.delete(session)
    (euro,) = pool.get("currency.currency").search([("code", "=", "EUR")])
    pool.get("account.payment.journal")(name="Bank", process_method="manual", currency=euro, company=1).save()


def _parties(pool: Any) -> None:
    told = [{"name": name, "addresses": [("create", [{"city": city}])]} for name, city in PARTIES.items()]
    pool.get("party.party").create(told)


def _reading_group(pool: Any) -> None:
    """The guard's own user reads business records, their links, users' logins and who may what; it writes nothing."""
    group = pool.get("res.group")(name="Gateway")
    group.save()
    rights = {"res.group", "ir.model.access", "ir.model.button", "ir.model.button-res.group"}
    readable = {"ir.model", "ir.model.field", "res.user", *rights}
    more = {"group": group.id, "perm_write": False, "perm_create": False, "perm_delete": False}
    names = [model.name for model in pool.get("ir.model").search([])]
    pool.get("ir.model.access").create(
        [{"model": name, "perm_read": name in readable or name.startswith(BUSINESS), **more} for name in names]
    )


def _user(pool: Any, login: str, password: str) -> Any:
    groups = pool.get("res.group").search([("name", "in", GROUPS[login] or ["Gateway"])])
    user = pool.get("res.user")(name=login, login=login, password=password, groups=groups, companies=[1], company=1)
    user.save()
    return user


def serve(conf: str, descriptor: int) -> None:
    """Serves with trytond's own application; the socket was bound, on loopback, by the parent."""
    config.update_etc([conf])
    from trytond.pool import Pool
    from trytond.wsgi import app  # type: ignore[import-not-found] # see above
    from werkzeug.serving import make_server

    Pool.start()
    Pool(DATABASE).init()
    make_server("127.0.0.1", 0, app, threaded=True, fd=descriptor).serve_forever()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["build", folder]:
            build(Path(folder))
        case ["serve", conf, descriptor]:
            serve(conf, int(descriptor))
        case _:
            sys.exit(__doc__)
