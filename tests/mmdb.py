"""A small database of countries in MaxMind's format (MaxMind-DB-spec 2.0), written byte by byte."""

from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Any

BITS = 128
TEXT, MAP, UINT16, UINT32, UINT64, ARRAY = 2, 7, 5, 6, 9, 11
MARKER = b"\xab\xcd\xefMaxMind.com"
SEPARATOR = 16


def write(path: Path, countries: Mapping[str, str], *, mapped: bool = True) -> Path:
    """Network (CIDR) -> country; replaced in one step, as updaters do. Later networks win.

    `mapped`: ::ffff:0:0/96 has those of version 4 too, as in MaxMind's own databases.
    """
    data, at = b"", {}
    for code in dict.fromkeys(countries.values()):
        at[code] = len(data)
        data += _coded({"country": {"iso_code": code}})
    nodes: list[list[Any]] = [[None, None]]
    for text, code in countries.items():
        _put(nodes, text, code)
        if "." in text and mapped:
            _put(nodes, "::ffff:{}/{}".format(*_moved(text)), code)
    tree = b"".join(_record(side, len(nodes), at).to_bytes(3) for node in nodes for side in node)
    told = {
        "node_count": (UINT32, len(nodes)), "record_size": (UINT16, 24), "ip_version": (UINT16, 6),
        "database_type": "Test-Country", "languages": ["en"], "binary_format_major_version": (UINT16, 2),
        "binary_format_minor_version": (UINT16, 0), "build_epoch": (UINT64, 1_700_000_000), "description": {"en": "test"},
    }  # fmt: skip
    beside = path.with_suffix(".new")
    beside.write_bytes(tree + bytes(SEPARATOR) + data + MARKER + _coded(told))
    beside.replace(path)
    return path


def _moved(text: str) -> tuple[str, int]:
    address, _, bits = text.partition("/")
    return address, BITS - 32 + int(bits)


def _put(nodes: list[list[Any]], text: str, code: str) -> None:
    network = ip_network(text)
    address = int(network.network_address)
    length = network.prefixlen + (BITS - 32 if network.version == 4 else 0)
    at = 0
    for depth in range(length):
        bit = address >> (BITS - 1 - depth) & 1
        if depth == length - 1:
            nodes[at][bit] = code
            return
        if not isinstance(nodes[at][bit], int):
            nodes.append([nodes[at][bit], nodes[at][bit]])
            nodes[at][bit] = len(nodes) - 1
        at = nodes[at][bit]


def _record(side: Any, count: int, at: Mapping[str, int]) -> int:
    match side:
        case None:
            return count
        case int():
            return side
    return count + SEPARATOR + at[side]


def _coded(value: Any) -> bytes:
    match value:
        case str():
            return _head(TEXT, len(value)) + value.encode()
        case dict():
            return _head(MAP, len(value)) + b"".join(_coded(key) + _coded(held) for key, held in value.items())
        case list():
            return _head(ARRAY, len(value)) + b"".join(map(_coded, value))
    kind, number = value
    digits = number.to_bytes((number.bit_length() + 7) // 8)
    return _head(kind, len(digits)) + digits


def _head(kind: int, size: int) -> bytes:
    """Kinds above 7 stand in a second byte."""
    return bytes([kind << 5 | size]) if kind <= MAP else bytes([size, kind - MAP])
