"""The exact allow list of origins, and the CORS headers made from it."""

from __future__ import annotations

import pytest

from tornado_live.access.origins import OriginPolicy, normalise
from tornado_live.errors import SettingsError
from tornado_live.settings import CorsSettings

GOOD = "https://good.example"

# None of them may pass for https://good.example.
STRANGE_ORIGINS = [
    "null",
    "HTTPS://GOOD.EXAMPLE",
    "https://good.example:444",
    "https://good.example:443",
    "https://evil-good.example",
    "https://good.example.evil",
    "https://good.example.",
    "http://good.example",
    "https://gооd.example",  # Cyrillic о
    "https://xn--gd-jlcb.example",
    "https://good.example@evil.example",
    "https://good.example/",
    "https://good.example, https://evil.example",
    "",
]


@pytest.fixture
def policy() -> OriginPolicy:
    return OriginPolicy(CorsSettings(origins=(GOOD, "http://localhost:3009")))


@pytest.mark.parametrize("origin", STRANGE_ORIGINS)
def test_what_only_looks_like_an_allowed_origin_is_refused(policy: OriginPolicy, origin: str) -> None:
    assert not policy.allows(origin, has_credential=True)
    assert policy.cors_headers(origin) == {"Vary": "Origin"}


def test_an_allowed_origin_needs_no_credential_in_its_headers(policy: OriginPolicy) -> None:
    assert policy.allows(GOOD, has_credential=False)
    assert policy.allows("http://localhost:3009", has_credential=False)


def test_without_an_origin_only_a_credential_lets_in(policy: OriginPolicy) -> None:
    assert policy.allows(None, has_credential=True)
    assert not policy.allows(None, has_credential=False)


def test_entries_are_compared_as_browsers_write_them() -> None:
    policy = OriginPolicy(CorsSettings(origins=("HTTPS://Good.Example:443", "http://[::1]:3000")))
    assert policy.allows(GOOD, has_credential=False)
    assert policy.allows("http://[::1]:3000", has_credential=False)


def test_the_servers_own_address_is_allowed_beside_the_list() -> None:
    policy = OriginPolicy(CorsSettings(origins=()), own=["http://localhost:8080"])
    assert policy.allows("http://localhost:8080", has_credential=False)
    assert not policy.allows("http://localhost:3000", has_credential=False)


def test_a_preflight_allows_every_header_of_the_contract(policy: OriginPolicy) -> None:
    headers = policy.cors_headers(GOOD)
    assert headers["Access-Control-Allow-Origin"] == GOOD
    allowed = headers["Access-Control-Allow-Headers"].split(", ")
    assert set(allowed) == {"Content-Type", "X-API-Key", "Authorization", "Last-Event-ID"}
    assert set(headers["Access-Control-Expose-Headers"].split(", ")) == {
        "Retry-After", "RateLimit", "RateLimit-Policy",
    }  # fmt: skip
    assert headers["Access-Control-Max-Age"] == "600"
    assert headers["Vary"] == "Origin"
    assert "Access-Control-Allow-Credentials" not in headers


def test_credentials_are_allowed_only_where_the_settings_say_so() -> None:
    policy = OriginPolicy(CorsSettings(origins=(GOOD,), credentials=True))
    assert policy.cors_headers(GOOD)["Access-Control-Allow-Credentials"] == "true"
    assert "Access-Control-Allow-Credentials" not in policy.cors_headers("https://evil.example")


def test_a_star_allows_every_page_and_never_names_one() -> None:
    policy = OriginPolicy(CorsSettings(origins=("*",)))
    assert policy.allows("https://anyone.example", has_credential=False)
    assert policy.cors_headers("https://anyone.example")["Access-Control-Allow-Origin"] == "*"


def test_a_star_with_credentials_is_refused_at_start() -> None:
    with pytest.raises(SettingsError, match="credentials"):
        OriginPolicy(CorsSettings(origins=("*",), credentials=True))


@pytest.mark.parametrize(
    "entry",
    ["good.example", "null", "https://*.good.example", "https://good.example/app", "https://u@good.example",
     "https://good.example:99999", "https://", "//good.example", "https://münchen.example", "https://[::1"],
)  # fmt: skip
def test_an_entry_that_is_no_origin_is_refused_at_start(entry: str) -> None:
    with pytest.raises(SettingsError, match="is not an origin"):
        normalise(entry)


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("localhost:3000", True),
        ("127.0.0.1", True),
        ("[::1]:9", True),
        ("good.example", True),
        ("GOOD.example", True),
        ("good.example:8443", False),
        ("rebound.evil.example:3000", False),
        ("localhost.evil.example", False),
        ("[::1", False),
        ("", False),
    ],
)
def test_a_rebound_name_is_no_host_of_this_server(policy: OriginPolicy, host: str, allowed: bool) -> None:
    assert policy.allows_host(host) is allowed
