"""Static ERP keys, put on natively: one for each system and principal, kept in secret files."""

from collections.abc import Mapping
from typing import Final

from ostiary.envoy import matcher
from ostiary.envoy.edge import Edge, Json
from ostiary.envoy.message import changeable, extension, resource_file, typed
from ostiary.envoy.signals import RBAC
from ostiary.foundation.ids import content_hash
from ostiary.plan.model import HandOver, Plan

WITH_MATCHER: Final = "envoy.extensions.common.matching.v3.ExtensionWithMatcher"
COMPOSITE: Final = "envoy.extensions.filters.http.composite.v3.Composite"
EXECUTE: Final = "envoy.extensions.filters.http.composite.v3.ExecuteFilterAction"
SKIP: Final = "envoy.extensions.filters.common.matcher.action.v3.SkipFilter"
INJECTOR: Final = "envoy.extensions.filters.http.credential_injector.v3.CredentialInjector"
GENERIC: Final = "envoy.extensions.http.injected_credentials.generic.v3.Generic"
SECRET: Final = "envoy.extensions.transport_sockets.tls.v3.Secret"
CREDENTIAL_HEADER: Final = "x-gw-credential"  # moved to Authorization by the strip filter, once the caller's is gone


def inject_files(plan: Plan, credentials: Mapping[tuple[str, str], str], edge: Edge) -> list[tuple[str, Json]]:
    """The filter, and a file of its own for each secret: Envoy's config dump shows files, never secrets."""
    static = [system.name for system in plan.systems if system.hand_over is HandOver.STATIC]
    verdicts: dict[str, Json] = {}
    secrets: list[tuple[str, Json]] = []
    for name in static:
        of_system = {principal: text for (system, principal), text in credentials.items() if system == name}
        files = {principal: _secret(name, principal, of_system[principal]) for principal in sorted(of_system)}
        secrets += files.values()
        chosen = {principal: _inject(path, edge) for principal, (path, _) in files.items()}
        verdicts[name] = matcher.exact(matcher.request_header("x-gw-sub"), chosen, _nobody())
    skip = {"action": extension("skip", SKIP)}
    verdict = matcher.exact(matcher.request_header("x-gw-system"), verdicts, skip)
    composite = extension("composite", COMPOSITE)
    return [
        *secrets,
        changeable("inject", WITH_MATCHER, extension_config=composite, xds_matcher=matcher.whole(verdict)),
    ]


def _secret(system: str, principal: str, text: str) -> tuple[str, Json]:
    name = "static-" + content_hash(f"{system} {principal}".encode())
    return f"sds/{name}.json", resource_file(
        [typed(SECRET, name=name, generic_secret={"secret": {"inline_string": text}})]
    )


def _inject(path: str, edge: Edge) -> Json:
    name = path.removeprefix("sds/").removesuffix(".json")
    source = {"path_config_source": {"path": str(edge.home.envoy / path)}, "resource_api_version": "V3"}
    credential = extension(
        "generic", GENERIC, credential={"name": name, "sds_config": source}, header=CREDENTIAL_HEADER
    )
    return _execute("inject", extension("inject", INJECTOR, overwrite=True, credential=credential))


def _nobody() -> Json:
    """Without a key of his own a caller would reach the ERP as nobody: denied (an empty rule set denies all)."""
    return _execute("nobody", extension("nobody", RBAC, rules={}, rules_stat_prefix="inject_"))


def _execute(name: str, filter_config: Json) -> Json:
    return {"action": extension(name, EXECUTE, typed_config=filter_config)}
