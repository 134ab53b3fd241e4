"""What each part of the native path costs: the gate with everything on, and with one part left out at a time."""

import copy
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from bench import load, shop, upstream
from bench.envoys import TYPES, Change, Plain, Site
from bench.figure import Figure, at_most, plain
from bench.rounds import Pace, Say, Subject, costs_against, cpu, errors, interleaved
from ostiary.envoy.caller import CLAIM_HEADERS
from ostiary.envoy.resource import Json, Resources

AREA: Final = "gate"
ALONE: Final = (
    "address-limit", "blocked", "bound", "revoked-hot", "revoked-cold", "policy", "kept", "tell", "caller-limit", "body", "guard",
    "inject", "strip",
)  # fmt: skip
MUTATION: Final = "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation"
SECONDS: Final = 2  # there are many of them
EVERYTHING: Final = "everything"
# One role set and one scope for all callers, so that a constant can stand in for the verified token.
SIZE: Final = shop.Size(operations=40, families=1, roles=1, share=1.0, roles_each=1)


def measure(folder: Path, pace: Pace, say: Say) -> Iterator[Figure]:
    with upstream.answering(folder) as erp:
        made = shop.build(SIZE, erp.url)
        requests = load.write(made.lines, folder / "requests")
        starts = {"plain": Plain(folder / "plain", erp.url).running}
        for number, (name, change) in enumerate(variants(made).items()):
            starts[name] = Site(folder / f"g{number}", made, change=change).running
        subjects = [
            Subject(name=name, start=start, host=shop.HOST, requests=requests) for name, start in starts.items()
        ]
        found = interleaved(subjects, msgspec.structs.replace(pace, seconds=min(pace.seconds, SECONDS)), say)
    whole = found[EVERYTHING]
    yield plain(AREA, "cpu of one request, plain proxy", cpu(found["plain"]), "µs")
    yield plain(AREA, "cpu of one request, everything on", cpu(whole), "µs")
    for subject in subjects[2:]:
        samples = found[subject.name]
        saved = cpu(whole) * (1 - costs_against(samples, whole))
        yield plain(AREA, f"cpu that is saved without: {subject.name}", saved, "µs")
    yield at_most(AREA, "errors in the table of filters", errors(found), "responses", 0)


def variants(made: shop.Shop) -> dict[str, Change | None]:
    """Name of what is left out -> how."""
    scopes = "".join(f" shop/f0.*:{verb} " for verb in shop.VERBS)
    claims = {"sub": "client:c0", "rs": next(iter(made.role_sets)), "sc": scopes}
    alone = {name: _without(name) for name in ALONE}
    return {
        EVERYTHING: None,
        **alone,
        "token": _token_by_constants(claims),
        "token cache": _uncached,
        "class, role, hours, scope and lease": _without("mark", "policy", "revoked-hot"),
        "access log": _in_manager(lambda manager: manager.pop("access_log")),
        "answer headers": _bare_answers,
        "texts of refusals": _in_manager(lambda manager: manager.pop("local_reply_config")),
        "all of these": _edge_alone,
    }


def _in_manager(act: Callable[[dict[str, Json]], Any]) -> Change:
    def change(resources: Resources) -> Resources:
        listener = copy.deepcopy(resources["lds.json"])
        manager = listener["resources"][0]["filter_chains"][0]["filters"][0]["typed_config"]
        act(manager)
        used = {f"ecds/{one['name']}.json" for one in manager["http_filters"]}
        kept = {name: file for name, file in resources.items() if not name.startswith("ecds/") or name in used}
        return {**kept, "lds.json": listener}

    return change


def _without(*names: str) -> Change:
    """Routes that switch a filter off don't mind that it is not there."""

    def act(manager: dict[str, Json]) -> None:
        manager["http_filters"] = [one for one in manager["http_filters"] if one["name"] not in names]

    return _in_manager(act)


def _token_by_constants(claims: Mapping[str, str]) -> Change:
    """The headers that a verified token leaves, written down without looking at it."""
    headers = [
        {"append": {"header": {"key": name, "value": claims.get(claim, f"{claim}-0")}}}
        for claim, name in CLAIM_HEADERS.items()
    ]
    instead = _filter("constant-headers", MUTATION, mutations={"request_mutations": headers})

    def act(manager: dict[str, Json]) -> None:
        filters = manager["http_filters"]
        at = next(number for number, one in enumerate(filters) if one["name"] == "token")
        manager["http_filters"] = [*filters[:at], instead, *filters[at + 1 :]]

    return _in_manager(act)


def _filter(name: str, message: str, **fields: Json) -> Json:
    return {"name": name, "typed_config": {"@type": TYPES + message, **fields}}


def _uncached(resources: Resources) -> Resources:
    """Every signature is verified every time, as HAProxy does."""
    name = "ecds/token.json"
    changed = {**resources, name: copy.deepcopy(resources[name])}
    for provider in changed[name]["resources"][0]["typed_config"]["providers"].values():
        del provider["jwt_cache_config"]
    return changed


def _edge_alone(resources: Resources) -> Resources:
    """What is left is the gate's own strictness about requests, and its routes: no filter of ours, and no log."""

    def act(manager: dict[str, Json]) -> None:
        manager["http_filters"] = manager["http_filters"][-1:]
        del manager["access_log"], manager["local_reply_config"]

    return _bare_answers(_in_manager(act)(resources))


def _bare_answers(resources: Resources) -> Resources:
    changed = {**resources, "rds.json": copy.deepcopy(resources["rds.json"])}
    routes = changed["rds.json"]["resources"][0]
    routes["response_headers_to_add"], routes["response_headers_to_remove"] = [], []
    return changed
