"""Whether a call comes from a registered device: by the certificate of its connection, or as its token says.

The answer is a word in the metadata of this filter, which lets everything pass: one exact map, however many there are.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from ostiary.envoy import matcher
from ostiary.envoy.condition import REGISTERED
from ostiary.envoy.edge import Edge, Json
from ostiary.envoy.message import SUBJECT_HEADER, changeable
from ostiary.plan.formula import Device
from ostiary.plan.model import Plan

DEVICE_HEADER: Final = "x-gw-device"  # the fingerprint of the certificate that the connection shows
TOKEN_DEVICE_HEADER: Final = "x-gw-token-device"  # noqa: S105  the claim `dev`: the device that the token was issued to


def device_filter(plans: Sequence[Plan], devices: Mapping[str, str], edge: Edge) -> Sequence[tuple[str, Json]]:
    """`devices`: fingerprint -> the principal that it is registered for, "" for everybody."""
    if edge.client_ca is None:
        return ()
    if not devices or not any(Device() in plan.conditions for plan in plans):
        return [matcher.nothing("device")]
    told = _told(devices, TOKEN_DEVICE_HEADER, None)
    judged = matcher.whole(_told(devices, DEVICE_HEADER, told))
    prefix = "device_"
    return [changeable("device", matcher.RBAC, shadow_rules_stat_prefix=prefix, shadow_matcher=judged)]


def _told(devices: Mapping[str, str], name: str, otherwise: Json | None) -> Json:
    """Where a device is somebody else's, `otherwise` is asked."""
    registered = {"action": matcher.named(REGISTERED)}
    entries = {
        fingerprint: matcher.exact(SUBJECT_HEADER, {principal: registered}, None) if principal else registered
        for fingerprint, principal in sorted(devices.items())
    }
    return matcher.exact(name, entries, otherwise)
