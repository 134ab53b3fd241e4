"""From an OpenAPI document to described operations; what can't be enforced is a problem and stays closed.

And these as an offer, and as roles: one for each security scope, else for each object and verb.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, dropwhile, islice
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from ostiary.erp.catalogue import Offer, Role
from ostiary.erp.openapi.document import Loaded, Refused, Trouble, escaped, read_document, resolve
from ostiary.erp.openapi.schema import Bundler
from ostiary.erp.operation import Verb, covering_scopes
from ostiary.erp.route import NO_PARAMETERS, QUERY_KEYS, Parameter, Route

ROUTES_MAX: Final = 20_000
PARAMETERS_MAX: Final = 100
SENDING: Final = frozenset(["post", "put", "patch"])
VERBS: Final = {"get": Verb.READ, "head": Verb.READ, "delete": Verb.DELETE, **dict.fromkeys(SENDING, Verb.WRITE)}
OTHER_METHODS: Final = frozenset(["options", "trace", "query"])
OWN_KEYS: Final = frozenset(["object", "verb", "action"])
NAME: Final = re.compile(r"[a-z0-9_][a-z0-9_-]*(\.[a-z0-9_][a-z0-9_-]*)*\Z")
ACTION: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*\Z")
GENERAL: Final = re.compile(r"(api|rest|v[0-9][a-z0-9.]*|[0-9.]+)\Z", re.IGNORECASE)  # at a path's head: no object
SEGMENT: Final = re.compile(r"(\{[A-Za-z0-9_.-]+\}|[A-Za-z0-9_.~!$&'()*+,=:@-]+)\Z")
BASE: Final = re.compile(r"(?:https?://[^/?#]+)?((?:/(?!\.\.?(?:/|\Z))[A-Za-z0-9._~-]+)+)/?\Z")
JSON_TYPE: Final = re.compile(r"application/([\w.+-]+\+)?json\s*(;.*)?\Z", re.IGNORECASE)
UNSEEN_HEADERS: Final = frozenset(["accept", "content-type", "authorization"])  # OpenAPI 3.1.1, Parameter Object
STYLES: Final = {"path": {"simple"}, "header": {"simple"}, "query": {"form"}}
FREE_TEXT: Final = '{"type":"string"}'


def load(document: bytes, system: str) -> Loaded:
    """Every operation of `document` that can be enforced, and a problem with its JSON pointer for each other."""
    try:
        root = read_document(document)
        paths = root.get("paths") or {}
        if not isinstance(paths, dict):
            raise Refused("/paths", "paths is an object")  # noqa: TRY301  one place turns Refused into a result
    except Refused as refused:
        return Loaded(problems=(refused.trouble,), fatal=True)
    reader = _Reader(root, system)
    found = (route for template, item in paths.items() for route in reader.path(str(template), item))
    routes = tuple(islice(found, ROUTES_MAX + 1))
    if len(routes) > ROUTES_MAX:
        return Loaded(problems=(Trouble(pointer="/paths", message=f"more than {ROUTES_MAX} operations"),), fatal=True)
    return Loaded(routes=routes, problems=tuple(reader.problems), base=_base(root.get("servers")))


def _base(servers: Any) -> str:
    """The path of the first server, below which all others stand (OpenAPI 3.1.1, Server Object); "" for none, or an odd one."""
    first = servers[0] if isinstance(servers, list) and servers else None
    found = BASE.match(str(first.get("url"))) if isinstance(first, dict) else None
    return found[1] if found else ""


class _Reader:
    def __init__(self, root: dict[str, Any], system: str) -> None:
        self._root, self._system = root, system
        self._bundler = Bundler(root)
        self._shapes: dict[tuple[str, str], str] = {}
        self.problems: list[Trouble] = []

    def path(self, template: str, item: Any) -> Iterator[Route]:
        pointer = f"/paths/{escaped(template)}"
        try:
            item, pointer = resolve(self._root, item, pointer)
            names = _names(template, item, pointer)
        except Refused as refused:
            self.problems.append(replace(refused.trouble, call=template))
            return
        for method, operation in item.items():
            if method in VERBS or method in OTHER_METHODS:
                try:
                    yield self._operation(template, names, method, item, operation, f"{pointer}/{method}")
                except Refused as refused:
                    self.problems.append(replace(refused.trouble, call=f"{method.upper()} {template}"))

    def _operation(  # noqa: PLR0917  the parts of one place in the document
        self, template: str, names: list[str], method: str, item: dict[str, Any], operation: Any, pointer: str
    ) -> Route:
        if method in OTHER_METHODS or not isinstance(operation, dict):
            raise Refused(pointer, f"{method.upper()} is not passed on")
        self._refuse_twin(template, method, pointer)
        parameters = self._parameters(item, operation, names, pointer)
        schema, required = self._body(method, operation, pointer)
        name, verb, action = _meaning(template, method, operation, pointer)
        return Route(
            system=self._system,
            method=method.upper(),
            template=template,
            object=name,
            verb=verb,
            action=action,
            parameters=parameters,
            body_schema=schema,
            body_required=required,
            inspect=bool(schema) or any(p.place != "path" or p.schema != FREE_TEXT for p in parameters),
        )

    def _refuse_twin(self, template: str, method: str, pointer: str) -> None:
        """Two templates that differ only in their names would match the same paths."""
        shape = (method, re.sub(r"\{[^}]*\}", "{}", template))
        if shape in self._shapes:
            raise Refused(pointer, f"matches the same paths as {self._shapes[shape]}")
        self._shapes[shape] = pointer

    def _parameters(
        self, item: dict[str, Any], operation: dict[str, Any], names: list[str], pointer: str
    ) -> tuple[Parameter, ...]:
        found: dict[tuple[str, str], Parameter] = {}
        for holder in (item, operation):  # an operation's parameter overrides its path's
            given = holder.get("parameters", [])
            if not isinstance(given, list) or len(given) > PARAMETERS_MAX:
                raise Refused(pointer, f"parameters is a list of at most {PARAMETERS_MAX}")
            for n, value in enumerate(given):
                parameter = self._parameter(value, f"{pointer}/parameters/{n}")
                if parameter is not None:
                    found[parameter.place, parameter.name] = parameter
        if stray := [name for place, name in found if place == "path" and name not in names]:
            raise Refused(pointer, f"no {{{stray[0]}}} in the path")
        for name in names:  # a path parameter that is not described is free text
            free = Parameter(name=name, place="path", required=True, schema=FREE_TEXT)
            found.setdefault(("path", name), free)
        return tuple(found[key] for key in sorted(found))

    def _parameter(self, value: Any, pointer: str) -> Parameter | None:
        value, pointer = resolve(self._root, value, pointer)
        name, place = (value.get("name"), value.get("in")) if isinstance(value, dict) else (None, None)
        if not isinstance(name, str) or place not in {"path", "query", "header", "cookie"}:
            raise Refused(pointer, "a parameter has a name and is in path, query, header or cookie")
        required = value.get("required") is True or place == "path"
        shows = place == "query" and name.lower().replace("_", "").replace("-", "") in QUERY_KEYS
        if unseen := "cookies" if place == "cookie" else "credentials in a query" if shows else "":
            if required:
                raise Refused(pointer, f"{unseen} never reach the system, so none can be required")
            return None
        if place == "header" and (name.lower() in UNSEEN_HEADERS or name.lower().startswith(NO_PARAMETERS)):
            return None
        schema, name = self._parameter_schema(value, place, pointer), name.lower() if place == "header" else name
        return Parameter(name=name, place=place, required=required, schema=schema)

    def _parameter_schema(self, value: Mapping[str, Any], place: str, pointer: str) -> str:
        if "schema" not in value:
            raise Refused(pointer, "only parameters with a schema are understood")
        if value.get("style", min(STYLES[place])) not in STYLES[place] or value.get("allowReserved"):
            raise Refused(pointer, f"only the style {min(STYLES[place])} is understood in a {place}")
        commas = place != "query" or value.get("explode") is False
        schema, _ = resolve(self._root, value["schema"], f"{pointer}/schema")
        if not isinstance(schema, dict) or schema.get("type") == "object" or "properties" in schema:
            raise Refused(f"{pointer}/schema", "a parameter is a text, number, boolean or a list of them")
        extra = {"x-commas": True} if schema.get("type") == "array" and commas else None
        return self._bundler.bundle(schema, f"{pointer}/schema", extra)

    def _body(self, method: str, operation: dict[str, Any], pointer: str) -> tuple[str, bool]:
        if "requestBody" not in operation:
            return "", False
        pointer = f"{pointer}/requestBody"
        if method in {"get", "head", "delete"}:
            raise Refused(pointer, f"a {method.upper()} with a body is not passed on")
        body, pointer = resolve(self._root, operation["requestBody"], pointer)
        content = body.get("content") if isinstance(body, dict) else None
        if not isinstance(content, dict) or not content:
            raise Refused(pointer, "a body has content")
        if strange := [name for name in content if not JSON_TYPE.match(str(name))]:
            raise Refused(f"{pointer}/content", f"only JSON bodies are understood, not {strange[0]}")
        if len(content) > 1:
            raise Refused(f"{pointer}/content", "one JSON media type for each operation")
        ((name, media),) = content.items()
        schema = media.get("schema", True) if isinstance(media, dict) else True
        below = f"{pointer}/content/{escaped(name)}/schema"
        return self._bundler.bundle(schema, below), body.get("required") is True


def _names(template: str, item: Any, pointer: str) -> list[str]:
    if not isinstance(item, dict):
        raise Refused(pointer, "a path item is an object")
    segments = template.split("/")
    if segments[0] or len(segments) < 2:  # noqa: PLR2004  "" and at least one more
        raise Refused(pointer, "a path begins with /")
    body = segments[1:-1] if segments[-1] == "" else segments[1:]
    if any(not SEGMENT.match(segment) or segment in {".", ".."} for segment in body):
        raise Refused(pointer, "each segment of a path is plain text or one whole {parameter}")
    names = [segment[1:-1] for segment in body if segment.startswith("{")]
    if len(set(names)) < len(names):
        raise Refused(pointer, "a parameter stands twice in the path")
    return names


def _meaning(template: str, method: str, operation: dict[str, Any], pointer: str) -> tuple[str, Verb, str]:
    """Object, verb and action: `x-ostiary` says it, else the first tag, the path and the method."""
    own = operation.get("x-ostiary", {})
    if not isinstance(own, dict) or own.keys() - OWN_KEYS:
        raise Refused(f"{pointer}/x-ostiary", "may hold object, verb and action")
    name = str(own.get("object") or _default_object(template, operation))
    if not NAME.match(name):
        raise Refused(pointer, "no object name; say it with x-ostiary: {object: ...} (lower case, dots between parts)")
    does = _default_action(template, method)
    action = str(own.get("action", "" if "verb" in own else does))
    if action and not ACTION.match(action):
        raise Refused(pointer, "an action is letters, digits, _ and -; say it with x-ostiary: {action: ...}")
    try:
        return name, Verb(own.get("verb", Verb.EXECUTE if does else VERBS[method])), action
    except ValueError:
        raise Refused(f"{pointer}/x-ostiary/verb", "a verb is read, write, execute or delete") from None


def _default_object(template: str, operation: dict[str, Any]) -> str:
    tags = operation.get("tags")
    tag = tags[0] if isinstance(tags, list) and tags and isinstance(tags[0], str) else ""
    literals = [one for one in template.split("/") if one and not one.startswith("{")]
    literal = next(chain(dropwhile(GENERAL.match, literals), literals), "")
    return re.sub(r"[^a-z0-9_.-]+", "-", (tag or literal).lower()).strip("-.")


def _default_action(template: str, method: str) -> str:
    """What is sent to a word behind a record does it to the record: who may write it may not therefore approve it."""
    *before, last = template.rstrip("/").split("/")
    return last if method in SENDING and "{" not in last and any("{" in one for one in before) else ""


# --- as an offer


def offer(routes: Iterable[Route]) -> Offer:
    """Each operation, and of an object the fields that can be written; none where a body may hold what no schema names."""
    listed, links, open_ = tuple(routes), defaultdict[str, dict[str, str]](dict), set[str]()
    for route in (one for one in listed if one.verb is Verb.WRITE):
        schema = msgspec.json.decode(route.body_schema or "{}")
        named = set(_named(schema, schema.get("$defs", {}), set())) if isinstance(schema, dict) else set()
        if route.body_schema and not named:
            open_.add(route.object)
        names = (*named, *(one.name for one in route.parameters if one.place != "path"))
        links[route.object] |= dict.fromkeys(names, "")
    known = {name: fields for name, fields in links.items() if name not in open_}
    return Offer(operations=tuple(route.operation for route in listed), links=known)


def _named(schema: Any, definitions: Mapping[str, Any], passed: set[str]) -> Iterator[str]:
    """What stands at the top of a body, or of each row of a list. Every reference is followed once: circles end."""
    if isinstance(schema, dict):
        yield from schema.get("properties", ())
        name = schema.get("$ref", "").rpartition("/")[2]
        below = [part for key in ("allOf", "anyOf", "oneOf") for part in schema.get(key, ())]
        below += [schema.get("items"), schema.get("if"), None if name in passed else definitions.get(name)]
        passed.add(name)
        for part in below:
            yield from _named(part, definitions, passed)


# --- as roles


def drafted(data: bytes, routes: Iterable[Route]) -> Iterator[Role]:
    """`routes` are those of `data`. What would also open a route that the source gives to others is only noted."""
    root, by_role = read_document(data), defaultdict[str, dict[str, list[str]]](lambda: defaultdict(list))
    opens: dict[str, set[str]] = defaultdict(set)  # a permission without an action opens what has one, too
    for route in routes:
        call = f"{route.method} {route.template}"
        for permission in covering_scopes(route.operation):
            opens[permission].add(call)
        for name in _holders(root, route):
            by_role[name][route.permission].append(call)
    for name, found in sorted(by_role.items()):
        own = {call for calls in found.values() for call in calls}
        wider = {one: ", ".join(sorted(opens[one] - own)) for one in found if opens[one] - own}
        notes = tuple(f"not proposed: {one}, which opens {more} too" for one, more in wider.items())
        yield Role(name=name, may={one: ", ".join(found[one]) for one in found if one not in wider}, notes=notes)


def _holders(root: dict[str, Any], route: Route) -> set[str]:
    """One of each alternative that the operation's `security` names (OpenAPI 3.1.1, Security Requirement Object)."""
    item, _ = resolve(root, root["paths"][route.template], "")
    needs = item[route.method.lower()].get("security", root.get("security"))
    listed = [one for one in needs if isinstance(one, Mapping)] if isinstance(needs, list) else []
    scopes = [{str(one) for told in need.values() if isinstance(told, list) for one in told} for need in listed or [{}]]
    return {" ".join(sorted(found)) or f"{route.object} {route.verb}" for found in scopes}
