"""The few shapes that every Envoy resource is made of."""

from typing import Any, Final

import msgspec

from ostiary.envoy.edge import Json
from ostiary.foundation.api_key import KEY_PREFIX
from ostiary.foundation.ids import content_hash

TYPES: Final = "type.googleapis.com/"
EXTENSION: Final = "envoy.config.core.v3.TypedExtensionConfig"
CALL_HEADER: Final = "x-gw-call"  # "/shop/orders GET": path without query and method in one, for one map
CLASS_HEADER: Final = "x-gw-class"  # the route's name, "system:class operation", and the words of `clock`

DECISION_HEADER: Final = "x-gw-decision"  # there where our own servers are told of a request
ANSWER: Final = "answer"  # the filter that looks at what the ERP answers
SUBJECT_HEADER: Final = "x-gw-sub"  # there where a token was verified, and only there
KEY_SHOWN: Final = f"Bearer {KEY_PREFIX}"  # how an API key stands in `authorization`
OBSERVED: Final = "~"  # no class begins so otherwise


def typed(message: str, **fields: Any) -> Json:
    """A message that travels as `Any`."""
    return {"@type": TYPES + message, **fields}


def extension(extension_name: str, message: str, **fields: Any) -> Json:
    """A named extension with its configuration."""
    return {"name": extension_name, "typed_config": typed(message, **fields)}


def place(system: str, *, observed: bool = False) -> str:
    """What the class header begins with on every route of `system`; on those of a plan that has it observed."""
    return f"{system}:{OBSERVED if observed else ''}"


def versioned(resources: list[Json]) -> Json:
    """What a watched file holds; its version is a hash of its content, so an unchanged one stays unchanged."""
    version = content_hash(msgspec.json.encode(resources, order="deterministic"))
    return {"version_info": version, "resources": resources}


def changeable(name: str, message: str, **fields: Any) -> tuple[str, Json]:
    """The file of a filter that changes on open connections (ECDS), by its name below the folder."""
    return f"ecds/{name}.json", versioned([typed(EXTENSION, name=name, typed_config=typed(message, **fields))])


def header(name: str, value: str) -> Json:
    """Sets a header, whatever was there before."""
    return {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
