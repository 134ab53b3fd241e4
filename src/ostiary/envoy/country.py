"""From which country a call comes, by a database file that Envoy reads, and reads again when it is replaced."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ostiary.envoy import matcher
from ostiary.envoy.condition import COUNTRY_HEADER
from ostiary.envoy.edge import Edge, Json
from ostiary.envoy.message import changeable, extension
from ostiary.plan.formula import Countries
from ostiary.plan.model import Plan

GEOIP: Final = "envoy.extensions.filters.http.geoip.v3.Geoip"
MARKER: Final = b"\xab\xcd\xefMaxMind.com"  # before the metadata, in the file's last 128 KiB (MaxMind DB format 2.0)
METADATA_MAX_BYTES: Final = 128 * 1024
MAXMIND: Final = "envoy.extensions.geoip_providers.maxmind.v3.MaxMindConfig"


def country_filter(plans: Sequence[Plan], edge: Edge) -> Sequence[tuple[str, Json]]:
    """A look into the database for every request, as soon as one grant asks for a country."""
    if edge.geoip is None:
        return ()
    if not any(isinstance(atom, Countries) for plan in plans for atom in plan.conditions):
        return [matcher.nothing("country")]
    fields = {
        "country_db_path": str(edge.geoip),
        "common_provider_config": {"geo_field_keys": {"country": COUNTRY_HEADER}},
    }
    return [changeable("country", GEOIP, provider=extension("envoy.geoip_providers.maxmind", MAXMIND, **fields))]


def is_database(path: Path) -> bool:
    """Envoy would take nothing else, and then answer nobody."""
    if path.suffix != ".mmdb" or not path.is_file():
        return False
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - METADATA_MAX_BYTES))
        return MARKER in file.read()
