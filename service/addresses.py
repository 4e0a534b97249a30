"""Where the service may connect to: public addresses, and private ones by permission.

What counts is the address that is connected to, not the name or the spelling that led there: a name may change its
mind.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any

# An IPv4 address in an IPv6 one, as a network translates it (RFC 6052).
_TRANSLATED = IPv6Network("64:ff9b::/96")
# Where clouds hand out credentials, other than at link-local addresses: Alibaba, Azure, Oracle, and EC2 by IPv6.
_METADATA = {ip_address(one) for one in ("100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254")}


class AddressRefused(OSError):
    """The host leads only to addresses that are not allowed."""


def permitted(address: str, private: bool) -> bool:
    """Public unicast always; with `private` also loopback, private networks and shared ones. Link-local addresses and
    others where clouds hand out credentials, multicast, reserved and unspecified ones never."""
    ip = _bare(ip_address(address.partition("%")[0]))
    if ip in _METADATA:
        return False
    if ip.is_multicast or ip.is_link_local or ip.is_unspecified or (ip.is_reserved and not ip.is_loopback):
        return False
    return ip.is_global or private


def _bare(ip: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address that an IPv6 one stands for, if it does."""
    if isinstance(ip, IPv4Address):
        return ip
    if ip in _TRANSLATED:
        return IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else ip)


def literal(host: str) -> str | None:
    """The address that `host` is, in any spelling a resolver takes (`2130706433`, `0x7f.1`, `[::1]`); None: a name."""
    bare = host.strip("[]")
    try:
        return str(ip_address(bare.partition("%")[0]))
    except ValueError:
        pass
    try:
        return str(IPv4Address(socket.inet_aton(bare)))
    except (OSError, ValueError):
        return None


def socket_to(private: bool) -> Callable[[tuple[Any, ...]], socket.socket]:
    """What makes the socket for an address that was looked up, as `socket.getaddrinfo` gives it; it refuses those that
    are not permitted, at the last moment before a connection."""

    def make(found: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, _, (address, *_) = found
        if not permitted(str(address), private):
            raise AddressRefused(f"{address} is not {'an address for this' if private else 'a public address'}")
        return socket.socket(family, kind, protocol)

    return make


async def resolve(host: str, port: int, private: bool) -> str:
    """An address of `host` to connect to. Whoever connects must use it, not the name: a name may change its mind.

    Raises:
        AddressRefused: none of its addresses is permitted. OSError: the name is unknown.
    """
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [str(address[0]) for *_, address in found]
    for address in addresses:
        if permitted(address, private):
            return address
    raise AddressRefused(
        f"{host} is at {', '.join(dict.fromkeys(addresses))}, which is not a public address"
        + ("" if private else "; TUNESCOPE_WEBHOOK_PRIVATE_ADDRESSES=true allows private ones")
    )
