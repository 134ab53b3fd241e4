"""Who an address stands for: one caller may own a whole /64 of IPv6, and must not hide among its addresses."""

from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address
from typing import Final

Network = IPv4Network | IPv6Network
OWNED_PREFIX: Final = 64
# One /64 of these stands for many IPv4 hosts: RFC 6052 section 2.1, RFC 4380 section 2.6.
SHARED: Final = (IPv6Network("64:ff9b::/96"), IPv6Network("2001::/32"))


def origin(address: str) -> Network | None:
    """The network that one caller at `address` can choose addresses from; None where it is no address."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return None
    if not isinstance(parsed, IPv4Address):
        parsed = parsed.ipv4_mapped or parsed
    if isinstance(parsed, IPv4Address):
        return IPv4Network(parsed)
    whole = int(parsed)  # without a zone ("%eth0")
    prefix = 128 if any(parsed in network for network in SHARED) else OWNED_PREFIX
    return IPv6Network((whole, prefix), strict=False)


def named(address: str) -> str:
    """As people read it: a single host without its prefix length."""
    network = origin(address)
    if network is None:
        return address
    return str(network.network_address if network.num_addresses == 1 else network)
