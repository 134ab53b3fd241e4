"""Expressions of the Common Expression Language as parsed trees: Envoy refuses their text form.

Chains are balanced trees: 26 terms nested to the left break Envoy's limit on the depth of JSON.
A missing header or attribute makes an expression match nothing, so a term that denies must test presence itself.
"""

from collections.abc import Sequence

from ostiary.envoy import matcher
from ostiary.envoy.resource import Json, extension


def predicate(expression: Json) -> Json:
    """A matcher predicate that holds when `expression` is true of the request."""
    parsed = {"cel_expr_parsed": {"expr": expression}}
    holds = extension("cel", "xds.type.matcher.v3.CelMatcher", expr_match=parsed)
    return matcher.predicate(
        extension("attributes", "xds.type.matcher.v3.HttpAttributesCelMatchInput"), custom_match=holds
    )


def number(value: int) -> Json:
    return {"const_expr": {"int64_value": str(value)}}


def text(value: str) -> Json:
    return {"const_expr": {"string_value": value}}


def numbers(values: Sequence[int]) -> Json:
    return {"list_expr": {"elements": [number(value) for value in values]}}


def attribute(path: str) -> Json:
    """`request.time`, `metadata.filter_metadata`."""
    first, *rest = path.split(".")
    tree: Json = {"ident_expr": {"name": first}}
    for field in rest:
        tree = {"select_expr": {"operand": tree, "field": field}}
    return tree


def call(function: str, *arguments: Json) -> Json:
    return {"call_expr": {"function": function, "args": list(arguments)}}


def method(target: Json, function: str, *arguments: Json) -> Json:
    return {"call_expr": {"target": target, "function": function, "args": list(arguments)}}


def index(container: Json, key: str) -> Json:
    return call("_[_]", container, text(key))


def every(terms: Sequence[Json]) -> Json:
    return _balanced("_&&_", terms)


def some(terms: Sequence[Json]) -> Json:
    return _balanced("_||_", terms)


def _balanced(operator: str, terms: Sequence[Json]) -> Json:
    if len(terms) == 1:
        return terms[0]
    middle = len(terms) // 2
    return call(operator, _balanced(operator, terms[:middle]), _balanced(operator, terms[middle:]))
