"""The client's address behind proxies: nobody names themselves."""

from __future__ import annotations

import pytest

from tornado_live.access.proxies import TrustedProxies, address_group, client_address
from tornado_live.errors import SettingsError

TRUSTED = ("10.0.0.0/8", "::1", "192.0.2.10")
CLIENT = "203.0.113.9"


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "address"),
    [
        pytest.param("10.0.0.1", CLIENT, CLIENT, id="one proxy"),
        pytest.param("10.0.0.1", f"{CLIENT}, 10.0.0.2", CLIENT, id="two proxies"),
        pytest.param("10.0.0.1", f"1.2.3.4, {CLIENT}", CLIENT, id="the client wrote one itself"),
        pytest.param("10.0.0.1", f"10.9.9.9, {CLIENT}", CLIENT, id="the client wrote a proxy's address"),
        pytest.param(CLIENT, "1.2.3.4", CLIENT, id="not through a proxy"),
        pytest.param("10.0.0.1", None, "10.0.0.1", id="the proxy says nothing"),
        pytest.param("10.0.0.1", "", "10.0.0.1", id="the proxy says nothing at length"),
        pytest.param("10.0.0.1", "unknown", "10.0.0.1", id="a word"),
        pytest.param("10.0.0.1", f"1.2.3.4, garbage, {CLIENT}", CLIENT, id="garbage further left"),
        pytest.param("10.0.0.1", "1.2.3.4, <script>", "10.0.0.1", id="garbage from the proxy"),
        pytest.param("10.0.0.1", f"{CLIENT}:51234", CLIENT, id="with a port"),
        pytest.param("::1", "[2001:db8::7]:443", "2001:db8::7", id="IPv6 with a port"),
        pytest.param("::ffff:10.0.0.1", f"::ffff:{CLIENT}", CLIENT, id="IPv4 in IPv6"),
        pytest.param("10.0.0.1", "  ,\t" + CLIENT + " ", CLIENT, id="white space and empty items"),
        pytest.param("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3", id="proxies only"),
        pytest.param("10.0.0.1", "127.1, 0177.0.0.1", "10.0.0.1", id="octal and short forms"),
        pytest.param("", "1.2.3.4", "", id="a Unix socket"),
    ],
)
def test_only_trusted_proxies_are_believed(peer: str, forwarded_for: str | None, address: str) -> None:
    assert client_address(peer, forwarded_for, TRUSTED) == address


def test_without_trusted_proxies_no_header_counts() -> None:
    assert client_address("127.0.0.1", CLIENT, ()) == "127.0.0.1"


def test_a_header_of_a_megabyte_is_not_walked_through() -> None:
    proxies = TrustedProxies(TRUSTED)
    assert proxies.client_address("10.0.0.1", ", ".join(["10.0.0.2"] * 100_000)) == "10.0.0.2"


def test_a_wrong_network_is_refused_at_start() -> None:
    with pytest.raises(SettingsError, match=r"10\.0\.0\.1/8"):
        TrustedProxies(["10.0.0.1/8"])


def test_ipv6_addresses_of_one_customer_count_together() -> None:
    assert address_group("2001:db8:1:2:3::4") == address_group("2001:db8:1:2:ffff::1")
    assert address_group("2001:db8:1:2::1") != address_group("2001:db8:1:3::1")
    assert address_group("203.0.113.9") == "203.0.113.9"
    assert address_group("fe80::1%eth0") == address_group("fe80::2%eth1")
