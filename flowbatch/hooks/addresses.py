"""Where a webhook may go: which addresses are public, whatever their spelling (reliability.md §5).

Asked of the very address that is about to be connected to, after names are resolved: a name that leads elsewhere the second time, or
an address written in an odd way, is no way round.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Final

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

PORTS: Final = frozenset({80, 443, 8443})  # to addresses that no setting allows
NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
TRANSLATED: Final = ipaddress.IPv6Network("::ffff:0:0:0/96")
ISATAP: Final = (0x00005EFE, 0x02005EFE)  # the upper half of an interface id, before an IPv4 address
SIX_TO_FOUR: Final = ipaddress.IPv6Network("2002::/16")
TEREDO: Final = ipaddress.IPv6Network("2001::/32")
COMPATIBLE: Final = ipaddress.IPv6Network("::/96")
# What `is_global` lets through, and should not.
NEVER: Final[tuple[Network, ...]] = tuple(
    map(
        ipaddress.ip_network,
        (
            "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
            "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
            "224.0.0.0/4", "240.0.0.0/4", "168.63.129.16/32",
            "::/128", "::1/128", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "3fff::/20", "5f00::/16", "fc00::/7", "fe80::/10",
            "fec0::/10", "ff00::/8",
        ),
    )
)  # fmt: skip


class Refused(OSError):
    """The address is none that an event may go to."""


def plain(address: Address) -> Address:
    """The IPv4 address that an IPv6 one stands for, in any of the ways there are; else the address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in SIX_TO_FOUR:
        return ipaddress.IPv4Address((int(address) >> 80) & 0xFFFFFFFF)
    if address in NAT64 or address in TRANSLATED or (address in COMPATIBLE and int(address) > 1):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if address in TEREDO:
        return ipaddress.IPv4Address(~int(address) & 0xFFFFFFFF)
    # An inner prefix stays inner, whatever its host part says.
    if (int(address) >> 32) & 0xFFFFFFFF in ISATAP and is_public(address):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def is_public(address: Address) -> bool:
    return address.is_global and not any(address.version == network.version and address in network for network in NEVER)


def refusal(text: str, port: int, allowed: Sequence[Network]) -> str | None:
    """Why nothing may be sent there; None where it may. `allowed`: the networks that the settings name, on any port."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return f"{text!r} is no address"
    inner = plain(address)
    if any(inner.version == network.version and inner in network for network in allowed):
        return None
    if not is_public(inner):
        return f"{text} is not a public address; `allow_networks` of the settings may name it"
    if port not in PORTS:
        return f"port {port} is none of {', '.join(map(str, sorted(PORTS)))}; `allow_networks` of the settings may name the address"
    return None
