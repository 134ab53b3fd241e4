"""Who an address stands for: one caller may own a whole /64 of IPv6, and must not hide among its addresses."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
MAPPED: Final = IPv6Network("::ffff:0:0/96")  # addresses of version 4 (RFC 4291 section 2.5.5.2)
OWNED_PREFIX: Final = 64
# One /64 of these stands for many IPv4 hosts: RFC 6052 section 2.1, RFC 4380 section 2.6.
SHARED: Final = (IPv6Network("64:ff9b::/96"), IPv6Network("2001::/32"))


def origin(address: str) -> Network | None:
    """The network that one caller at `address` can choose addresses from; None where it is no address."""
    try:
        parsed = unmapped(ip_address(address))
    except ValueError:
        return None
    if isinstance(parsed, IPv4Address):
        return IPv4Network(parsed)
    whole = int(parsed)  # without a zone ("%eth0")
    prefix = 128 if any(parsed in network for network in SHARED) else OWNED_PREFIX
    return IPv6Network((whole, prefix), strict=False)


def unmapped(address: Address) -> Address:
    """The address of version 4 that a proxy wrote as one of version 6; any other as it is."""
    return address if isinstance(address, IPv4Address) else address.ipv4_mapped or address


def named(address: str) -> str:
    """As people read it: a single host without its prefix length."""
    network = origin(address)
    if network is None:
        return address
    return str(network.network_address if network.num_addresses == 1 else network)
