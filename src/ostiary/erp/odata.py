"""An OData `$metadata` document, v2 or v4 (CSDL XML), as roles.

A document type is refused as soon as it begins, as defusedxml's `forbid_dtd` does: so there are no entities but XML's
own five, and nothing is fetched.
"""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any, Final, NoReturn
from xml.etree.ElementTree import Element, ParseError, TreeBuilder, XMLParser

from ostiary.erp.catalogue import Role
from ostiary.erp.operation import Verb

DOCUMENT_MAX_BYTES: Final = 10 * 1024 * 1024
ELEMENTS_MAX: Final = 500_000
DEPTH_MAX: Final = 64
# The Capabilities vocabulary's word, SAP's, and the role and what it does.
RIGHTS: Final = (
    ("Readable", "addressable", "reader", "read"),
    ("Insertable", "creatable", "writer", "write.create"),
    ("Updatable", "updatable", "writer", "write.update"),
    ("Deletable", "deletable", "deleter", "delete"),
)


class Unfit(ValueError):
    """The document is no CSDL that may be read; the text says why."""


class _Bounded(TreeBuilder):
    """Names without their namespace."""

    elements = depth = 0

    def start(self, tag: str, attrs: dict[Any, Any], /) -> Element:
        self.elements, self.depth = self.elements + 1, self.depth + 1
        if self.elements > ELEMENTS_MAX or self.depth > DEPTH_MAX:
            raise Unfit(f"more than {ELEMENTS_MAX} elements, or more than {DEPTH_MAX} within each other")
        return super().start(_local(tag), {_local(name): attrs[name] for name in sorted(attrs, reverse=True)})

    def end(self, tag: str, /) -> Element:
        self.depth -= 1
        return super().end(_local(tag))

    def doctype(self, *_: Any) -> NoReturn:
        raise Unfit("it has a document type, which no $metadata needs")


def drafted(data: bytes, system: str) -> tuple[Role, ...]:
    """Who reads, writes, deletes, and calls actions: what the document says that it allows, set by set."""
    root, may = _read(data), defaultdict[str, dict[str, str]](dict)
    for role, name, doing, why in (*_sets(root), *_calls(root)):
        may[role][f"{system}/{name}:{doing}"] = why
    return tuple(Role(name=f"{system} {role}", may=may[role]) for role in sorted(may))


def _read(data: bytes) -> Element:
    if len(data) > DOCUMENT_MAX_BYTES:
        raise Unfit(f"it is larger than {DOCUMENT_MAX_BYTES} bytes")
    parser = XMLParser(target=_Bounded())  # noqa: S314  bounded, and without a document type
    try:
        parser.feed(data)
        root: Element = parser.close()
    except (ParseError, LookupError, ValueError) as problem:  # LookupError: an encoding that there is not
        raise problem if isinstance(problem, Unfit) else Unfit(f"it is no XML: {problem}") from problem
    if root.tag != "Edmx":
        raise Unfit("it is no $metadata document")
    return root


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def _sets(root: Element) -> Iterator[tuple[str, str, str, str]]:
    """Restrictions stand inside the set or are aimed at it. A singleton is there, and stays."""
    told: dict[str, dict[str, bool]] = defaultdict(dict)
    for holder in (*root.iter("Annotations"), *root.iter("EntitySet"), *root.iter("Singleton")):
        name = holder.get("Name") or holder.get("Target", "").partition("/")[2]
        for value in holder.findall("Annotation/Record/PropertyValue"):
            word = value.get("Bool") or value.findtext("Bool") or ""
            told[name][value.get("Property", "")] = word.strip() != "false"
    for one in (*root.iter("EntitySet"), *root.iter("Singleton")):
        name = one.get("Name", "")
        for property_, sap, role, doing in RIGHTS if one.tag == "EntitySet" else (RIGHTS[0], RIGHTS[2]):
            if told[name].get(property_, True) and one.get(sap) != "false":
                yield role, name, doing, f"{one.tag} of {_type(one)}"


def _calls(root: Element) -> Iterator[tuple[str, str, str, str]]:
    """v2's function imports change what they like, whatever their method; v4's functions change nothing."""
    sets: dict[str, list[str]] = defaultdict(list)
    for one in (*root.iter("EntitySet"), *root.iter("Singleton")):
        sets[_type(one)].append(one.get("Name", ""))
    for one in (*root.iter("FunctionImport"), *root.iter("ActionImport")):
        name, why = one.get("Name", ""), f"{one.tag}, {one.get('HttpMethod', 'called by its name')}"
        role, verb = ("reader", Verb.READ) if one.get("Function") else ("operator", Verb.EXECUTE)
        yield role, one.get("EntitySet") or name, f"{verb}.{name}", why
    for one in (*root.iter("Function"), *root.iter("Action")):
        role, verb = ("reader", Verb.READ) if one.tag == "Function" else ("operator", Verb.EXECUTE)
        first = one.find("Parameter") if one.get("IsBound") == "true" else None
        for name in sets[_type(first)] if first is not None else ():
            yield role, name, f"{verb}.{one.get('Name', '')}", f"{one.tag} on {_type(first)}"


def _type(one: Element | None) -> str:
    """`Invoice` of `Collection(NS.Invoice)`."""
    named = "" if one is None else one.get("EntityType") or one.get("Type") or ""
    return named.removesuffix(")").rpartition("(")[2].rpartition(".")[2]
