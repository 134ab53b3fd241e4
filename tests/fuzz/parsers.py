"""Every parser of outside input by itself: bytes in, a value or the parser's own refusal out, and nothing else.

`python tests/fuzz/parsers.py NAME FOLDER [options of libFuzzer]`: atheris changes the inputs in the folder, and keeps
there what reaches new code.
"""

import json
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from xmlrpc import client as xmlrpc

import atheris
from joserfc import jws
from joserfc.jwk import ECKey

with atheris.instrument_imports(include=["ostiary"], enable_loader_override=False):
    from ostiary.erp import odata, odoo
    from ostiary.erp.adapters import understood
    from ostiary.erp.catalogue import Catalogue, Field, Site
    from ostiary.erp.openapi import Table, load
    from ostiary.erp.operation import Request
    from ostiary.event import record
    from ostiary.foundation import jose, origin, proof, strict_json
    from ostiary.guard.validation import validate
    from ostiary.identity import factors, request, scim
    from ostiary.policy import parse, words

from lines import written  # behind what it would import as it is
from odoo_twin import FIELDS
from soft_authenticator import Authenticator

NOW = datetime(2026, 3, 3, tzinfo=UTC)
POLICY = b"""policy: p
systems: {shop: {kind: openapi, at: a.example, upstream: "http://127.0.0.1:1", spec: a.yaml}}
departments: {sales: {}}
contexts: {day: {days: mon-fri, hours: "08:00-18:00", zone: Europe/Berlin}}
roles: {clerk: {level: user, of: sales, may: ["order: read, write"], when: day}}
limits: {default: {requests: 9/hour, body: 1 MB}}
"""
DOCUMENT = b"""openapi: 3.1.0
paths:
  /orders/{id}:
    post:
      parameters: [{name: limit, in: query, schema: {type: integer}}, {name: when, in: header, schema: {format: date}}]
      requestBody: {content: {application/json: {schema: {$ref: "#/components/schemas/o"}}}}
components: {schemas: {o: {type: object, properties: {a: {anyOf: [{type: integer}, {$ref: "#/components/schemas/o"}]}}}}}
"""
METADATA = b"""<edmx:Edmx xmlns:edmx="e"><Schema><EntityType Name="A"/><EntitySet Name="As" EntityType="N.A" sap:updatable="false"
 xmlns:sap="s"/><FunctionImport Name="Post" HttpMethod="POST"/></Schema></edmx:Edmx>"""
KEY = ECKey.generate_key("P-256")
JWKS = {"keys": [{**KEY.as_dict(private=False), "kid": "k"}]}
HERE, NOW_S = "https://a.example", int(NOW.timestamp())
SAID = {"iss": HERE, "sub": "shop", "aud": "shop", "jti": "one", "iat": NOW_S, "exp": NOW_S + 60}
OURS = {"grant": "g", "client_id": "shop", "gen": "shop#1", "rs": "r", "scope": "shop/*:read", "sc": " shop/*:read "}
PASSKEY = Authenticator().get(json.dumps({"challenge": "AA", "rpId": "a.example"}))
EVENT = written(
    at="2026-03-03T10:00:00.5Z", decision="gate-1-2.1772531600000000000", method="POST", path="/orders", status=403,
    operation="shop/order:write.create", subject="user:anna", client="shop", reason="role", guard_us=70,
)  # fmt: skip
ROUTES = load(DOCUMENT, "shop").routes
TABLE = Table(ROUTES)
READERS = [
    one
    for name, one in vars(words).items()
    if not name.startswith("_") and getattr(one, "__module__", "") == words.__name__
]
ALONE = [one for one in READERS if one.__class__.__name__ == "function" and one.__code__.co_argcount == 1]


class Parser(NamedTuple):
    """`refuses`: how it says that an input is none; `seeds`: inputs to begin with."""

    reads: Callable[[bytes], Any]
    refuses: tuple[type[Exception], ...] = ()
    seeds: Sequence[bytes] = ()


def text(data: bytes) -> str:
    return data.decode("latin-1")


def described(data: bytes) -> None:
    """A request to a described operation: path, query, content type and body, each on a line of its own."""
    path, query, kind, header, body = (data.split(b"\n", 4) + [b""] * 5)[:5]
    asked = Request(
        method="POST",
        path=text(path),
        query=text(query),
        body=body,
        headers={"content-type": text(kind), "when": text(header)},
    )
    match = TABLE.find("POST", asked.path)
    validate(match and match.route, asked, match.values if match else {})


def worded(data: bytes) -> None:
    for read in ALONE:
        with suppress(words.Wrong):
            read(data.decode("utf-8", "replace"))


def basic(data: bytes) -> None:
    request.shown(SimpleNamespace(headers={"authorization": text(data)}), {})  # type: ignore[arg-type]


def certificate(data: bytes) -> None:
    request.certificate(SimpleNamespace(headers={"x-gw-client-cert": text(data)}))  # type: ignore[arg-type]


def signed(data: bytes, header: dict[str, Any]) -> str:
    """Whatever is said, with a good signature: what comes behind that check is reached."""
    return jws.serialize_compact({"alg": "ES256", **header}, data, KEY)


def token(data: bytes) -> None:
    text = signed(data, {"typ": "at+jwt", "kid": "k"})
    ours = {"keys": [{**JWKS["keys"][0], "alg": "ES256"}]}
    jose.verify_access_token(text, ours, issuer=HERE, audience="shop", now=NOW)


def demonstrated(data: bytes) -> None:
    text = signed(data, {"typ": "dpop+jwt", "jwk": KEY.as_dict(private=False)})
    proof.verify_proof(text, method="POST", urls=[HERE], now=NOW)


def asserted(data: bytes) -> None:
    proof.verify_assertion(signed(data, {}), json.dumps(JWKS), client="shop", audiences=[HERE], now=NOW)


def identified(data: bytes) -> None:
    text = signed(data, {"typ": "JWT", "kid": "k"})
    proof.verify_id_token(text, lambda _: JWKS["keys"], HERE, "shop", "n", "", NOW)


def ended(data: bytes) -> None:
    text = signed(data, {"typ": "logout+jwt", "kid": "k"})
    proof.verify_logout_token(text, lambda _: JWKS["keys"], HERE, "shop", NOW)


def claims(**more: Any) -> list[bytes]:
    return [json.dumps({**SAID, **more}).encode()]


def called(kind: str, path: bytes, body: bytes, content: str = "application/json", query: bytes = b"") -> None:
    asked = Request(
        method="POST" if body else "GET",
        path=text(path),
        query=text(query),
        headers={"content-type": content},
        body=body,
    )
    understood(kind, asked, ERPS[kind])


def parted(data: bytes) -> tuple[bytes, bytes, bytes]:
    path, query, body = (data.split(b"\n", 2) + [b""] * 3)[:3]
    return path, query, body


def rest(data: bytes) -> None:
    path, query, body = parted(data)
    called("tryton", b"/erp/rest/" + path, body, query=query)


def by_path(data: bytes) -> None:
    path, query, body = parted(data)
    called("odoo", path, body, query=query)


def of_twin() -> list[dict[str, Any]]:
    """The rows of ir.model.fields."""
    every = [(model, name, kind) for model, fields in FIELDS.items() for name, kind in fields.items()]
    return [
        {
            "model": model,
            "name": name,
            "ttype": kind.type,
            "relation": kind.target,
            "relation_field": kind.back,
            "copied": kind.copied,
            "related": kind.related,
        }
        for model, name, kind in every
    ]


ERPS = {
    "tryton": Site(
        name="erp",
        database="erp",
        catalogue=Catalogue(
            models={
                "party.party": {"name": Field("char"), "addresses": Field("one2many", "party.address")},
                "party.address": {"city": Field("char"), "party": Field("many2one", "party.party")},
            },
            methods={"model.party.party": frozenset({"read", "search_read", "create", "write", "delete", "erase"})},
        ),
    ),
    "odoo": Site(name="erp", database="acme", catalogue=odoo.learn(of_twin())),
}
RPC = {"id": 1, "method": "model.party.party.create", "params": [[{"addresses": [["create", [{"city": "x"}]]]}], {}]}
SEARCH = {
    "domain": ["|", ["name", "ilike", "a"], ["partner_id.vat", "=", "1"]],
    "fields": ["name"],
    "order": "name desc",
}
WRITE = ["acme", 2, "key", "sale.order", "write", [[7], {"order_line": [[1, 3, {"name": "x"}], [2, 4, 0]]}], {}]
KW = {"params": {"service": "object", "method": "execute_kw", "args": WRITE}}
REFUSES = (jose.TokenRefused,)
PARSERS = {
    "json": Parser(strict_json.parse, (strict_json.NotStrict,), [b'{"a": [1, 2.5e3, "\\u0041", null, true]}']),
    "event": Parser(record.read, (), [EVENT]),
    "form": Parser(request.parse, (request.Refused,), [b"grant_type=refresh_token&scope=a+b%20c"]),
    "basic": Parser(basic, (request.Refused,), [b"Basic c2hvcDpzZWNyZXQ="]),
    "certificate": Parser(certificate, (), [b'Hash=1;Cert="-----BEGIN%20CERTIFICATE-----"']),
    "header": Parser(
        lambda data: proof.verify_proof(text(data), method="POST", urls=[HERE], now=NOW), REFUSES,
        [signed(*claims(htm="POST", htu=HERE), {"typ": "dpop+jwt", "jwk": KEY.as_dict(private=False)}).encode()],
    ),
    "token": Parser(token, REFUSES, claims(**OURS)),
    "proof": Parser(demonstrated, REFUSES, claims(htm="POST", htu=HERE)),
    "assertion": Parser(asserted, REFUSES, claims(iss="shop", aud=HERE)),
    "speaker": Parser(lambda data: proof.speaker(text(data)), REFUSES, [signed(*claims(), {}).encode()]),
    "id token": Parser(identified, REFUSES, claims(nonce="n")),
    "logout token": Parser(ended, REFUSES, claims(events={proof.LOGOUT: {}})),
    "keys": Parser(lambda data: proof.usable_jwks(text(data)), REFUSES, [json.dumps({"keys": [KEY.as_dict(private=False)]}).encode()]),
    "passkey": Parser(
        lambda data: factors.read_passkey(text(data)),
        (request.Refused,),
        [PASSKEY.encode()],
    ),
    "scim filter": Parser(lambda data: scim._terms(text(data)), (request.Refused,), [b'userName eq "anna" and id eq "7"']),
    "network": Parser(lambda data: origin.named(text(data)), (), [b"203.0.113.7", b"2001:db8::1%eth0"]),
    "openapi": Parser(lambda data: load(data, "shop"), (), [DOCUMENT]),
    "request": Parser(described, (), [b'/orders/7\nlimit=7&limit=%41\napplication/json\n2026-03-03\n{"a": {"a": 7}}']),
    "metadata": Parser(lambda data: odata.drafted(data, "sap"), (odata.Unfit,), [METADATA]),
    "tryton": Parser(lambda data: called("tryton", b"/erp/rpc/", data), (), [json.dumps(RPC).encode()]),
    "tryton rest": Parser(rest, (), [b"model/party.party\nf=name&d=W10&s=3\n", b'model/party.party/1\n\n{"name": "x"}']),
    "odoo": Parser(by_path, (), [b"/json/2/sale.order/search_read\n\n" + json.dumps(SEARCH).encode()]),
    "odoo rpc": Parser(lambda data: called("odoo", b"/jsonrpc", data), (), [json.dumps(KW).encode()]),
    "xml-rpc": Parser(
        lambda data: called("odoo", b"/xmlrpc/2/object", data, "text/xml"),
        (),
        [xmlrpc.dumps(tuple(WRITE), "execute_kw").encode()],
    ),
    "policy": Parser(lambda data: parse.parse(data.decode("utf-8", "replace"), "p.yaml"), (), [POLICY]),
    "words": Parser(worded, (), [b"mon-fri", b"08:00-18:00", b"9/hour", b"1 MB", b"https://a.example/b", b"2026-03-03T10:00+01:00"]),
}  # fmt: skip


def main(name: str, folder: str, *options: str) -> None:
    """Ends the process: by 0 where nothing was found. Of "all", an input's first byte says whose it is."""
    chosen = [*PARSERS.values()] if name == "all" else [PARSERS[name]]

    def once(data: bytes) -> None:
        parser = chosen[data[0] % len(chosen)] if data else chosen[0]
        with suppress(*parser.refuses):
            parser.reads(data[1:])

    for number, parser in enumerate(chosen):
        for seed in parser.seeds:
            parser.reads(seed)  # it is taken, or it leads nowhere
            (Path(folder) / sha256(bytes([number]) + seed).hexdigest()).write_bytes(bytes([number]) + seed)
    atheris.Setup([sys.argv[0], folder, "-len_control=0", *options], once)
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
