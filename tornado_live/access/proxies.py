"""The client's own address, behind reverse proxies too."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import structlog

from tornado_live.errors import SettingsError

_log = structlog.get_logger(__name__)
_MAX_HOPS = 32


class TrustedProxies:
    """The reverse proxies whose word on the client's address counts.

    Args:
        networks: addresses (`10.0.0.7`, `::1`) and networks (`10.0.0.0/8`).

    Raises:
        SettingsError: an entry is neither.
    """

    def __init__(self, networks: Iterable[str]) -> None:
        self._warned = False
        self._networks: list[IPv4Network | IPv6Network] = []
        for network in networks:
            try:
                self._networks.append(ip_network(network))
            except ValueError:
                raise SettingsError(
                    [f"server.trusted_proxies: {network!r} is neither an address nor a network (10.0.0.0/8)"]
                ) from None

    def client_address(self, peer: str, forwarded_for: str | None) -> str:
        """The right-most address that is not a trusted proxy's.

        Each proxy appends whom it heard, so the list is walked from the right for as long as the one
        who wrote it is trusted. What stands further left anyone may have written. `X-Real-IP` and
        `Forwarded` are never read. A header from a peer that is not trusted is logged, once: a proxy
        that nobody listed makes all its clients share one address's limits.

        Args:
            peer: address at the other end of the connection.
            forwarded_for: the `X-Forwarded-For` header, repeated ones joined by commas.
        """
        heard = _parse(peer)
        if heard is None:
            return peer
        if forwarded_for and not self._trusts(heard) and not self._warned:
            self._warned = True
            _log.warning("forwarded_for_not_believed", peer=str(heard), setting="server.trusted_proxies")
        hops = forwarded_for.split(",")[-_MAX_HOPS:] if forwarded_for else []
        while hops and self._trusts(heard):
            said = _parse(hops.pop())
            if said is None:
                break
            heard = said
        return str(heard)

    def _trusts(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address in network for network in self._networks)


def client_address(peer: str, forwarded_for: str | None, trusted: Iterable[str]) -> str:
    """`TrustedProxies.client_address` for one request; whoever serves many keeps a `TrustedProxies`."""
    return TrustedProxies(trusted).client_address(peer, forwarded_for)


def address_group(address: str) -> str:
    """Whom a limit per address counts together: an IPv4 address, or an IPv6 network of 64 bits.

    One customer is given at least that much of IPv6 (RFC 6177), so single addresses limit nobody.
    """
    parsed = _parse(address)
    if isinstance(parsed, IPv6Address):
        return str(IPv6Network((parsed, 64), strict=False))
    return address if parsed is None else str(parsed)


def _parse(text: str) -> IPv4Address | IPv6Address | None:
    """An address, with or without a port: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]:80`."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        if address.scope_id:
            return IPv6Address(int(address))
        return address.ipv4_mapped or address
    return address
