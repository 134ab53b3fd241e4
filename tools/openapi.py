"""The identity endpoints as an OpenAPI 3.1 document, made of the table in identity.toml."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

TABLE = tomllib.loads(Path(__file__).with_name("identity.toml").read_text("utf-8"))
METHODS = ("get", "post", "put", "patch", "delete")
SECURITY = {"client": [{"basic": []}, {}], "token": [{"token": []}, {"basic": []}]}
TEXT = {"type": "string"}
NAME = {"type": "string", "pattern": "^[A-Za-z0-9._:@+-]+$"}  # in a path


def document() -> dict[str, Any]:
    """The whole document; every path, method, status and content type that there is."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Ostiary: the identity endpoints",
            "version": "1",
            "description": "What /identity/.well-known/openid-configuration leaves to the standards that it names.",
        },
        "paths": {one["path"]: _path(one) for one in TABLE["endpoint"]},
        "components": {
            "schemas": TABLE["schemas"],
            "securitySchemes": {
                "basic": {"type": "http", "scheme": "basic", "description": "A client's id and secret"},
                "token": {"type": "http", "scheme": "bearer", "description": "A token, by DPoP where it is bound so"},
            },
        },
    }


def page() -> str:
    return json.dumps(document(), indent=1) + "\n"


def _path(one: dict[str, Any]) -> dict[str, Any]:
    named = re.findall(r"{(\w+)}", one["path"])
    parameters = [{"name": name, "in": "path", "required": True, "schema": NAME} for name in named]
    told = {method: _operation(one["path"], method, one[method]) for method in METHODS if method in one}
    return {**({"parameters": parameters} if parameters else {}), **told}


def _operation(path: str, method: str, one: dict[str, Any]) -> dict[str, Any]:
    name = "-".join([method, *re.findall(r"\w+", path)])
    answers = {**TABLE["refuses"][one["refuses"]], **one["gives"]}
    return {
        "operationId": name,
        "summary": one["summary"],
        **({"security": SECURITY[one["shows"]]} if "shows" in one else {}),
        **(
            {"parameters": [{"name": text, "in": "query", "schema": TEXT} for text in one["query"]]}
            if "query" in one
            else {}
        ),
        **({"requestBody": {"required": True, "content": _body(path, one)}} if {"form", "json"} & one.keys() else {}),
        "responses": {status: _answer(TABLE["answers"][answer]) for status, answer in sorted(answers.items())},
    }


def _body(path: str, one: dict[str, Any]) -> dict[str, Any]:
    if "form" in one:
        schema = {"type": "object", "properties": dict.fromkeys(one["form"], TEXT)}
        return {"application/x-www-form-urlencoded": {"schema": schema}}
    media = "application/scim+json" if "/scim/" in path else "application/json"
    return {media: {"schema": _reference(one["json"])}}


def _answer(one: dict[str, Any]) -> dict[str, Any]:
    types = one.get("types") or ({one["type"]: one["schema"]} if "type" in one else {})
    content = {media: {"schema": _reference(name)} for media, name in types.items()}
    return {"description": one["description"], **({"content": content} if content else {})}


def _reference(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}
