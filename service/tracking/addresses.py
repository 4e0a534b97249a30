"""Where the service may connect to when a user names the place: public addresses, and private ones by permission."""

from __future__ import annotations

import asyncio
import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

# An IPv4 address in an IPv6 one, as a network translates it (RFC 6052).
_TRANSLATED = IPv6Network("64:ff9b::/96")


class AddressRefused(OSError):
    """The host leads only to addresses that are not allowed."""


def permitted(address: str, private: bool) -> bool:
    """Public unicast always; with `private` also loopback, private networks and shared ones. Link-local (where clouds
    hand out credentials), multicast, reserved and unspecified addresses never."""
    ip = _bare(ip_address(address.partition("%")[0]))
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
