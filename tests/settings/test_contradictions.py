"""Settings that are each possible and cannot be meant together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tornado_live.settings import Settings, is_loopback
from tornado_live.settings.checks import contradictions

KEY = {"name": "web", "sha256": "a" * 64}
JWT = {"issuer": "i", "audience": "a", "keys": [{"algorithm": "HS256", "secret": "s" * 32}]}


def found(**sections: dict[str, Any]) -> list[str]:
    return [contradiction.key for contradiction in contradictions(Settings.model_validate(sections))]


def test_the_defaults_contradict_nothing() -> None:
    assert found() == []


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.1", "127.8.9.1", "::1"])
def test_without_auth_this_machine_may_use_the_server(host: str) -> None:
    assert is_loopback(host)
    assert found(server={"host": host}) == []


@pytest.mark.parametrize(
    "host",
    [
        "0.0.0.0", "::", "", "10.0.0.1", "192.168.1.7", "example.org", "localhost.example.org",
        "127.1", "2130706433", "::ffff:127.0.0.1", "127.0.0.1.nip.io",
    ],
)  # fmt: skip
def test_without_auth_any_other_address_must_be_said_twice(host: str) -> None:
    assert not is_loopback(host)
    assert found(server={"host": host}) == ["auth.mode"]
    assert found(server={"host": host}, auth={"allow_public_without_auth": True}) == []
    assert found(server={"host": host}, auth={"mode": "keys", "keys": [KEY]}) == []


def test_keys_that_nobody_asks_for_and_a_door_without_keys_are_mistakes(tmp_path: Path) -> None:
    assert found(auth={"mode": "none", "keys": [KEY]}) == ["auth.mode"]
    assert found(auth={"mode": "none", "keys_file": str(tmp_path / "keys.yaml")}) == ["auth.mode"]
    assert found(auth={"mode": "keys"}) == ["auth.keys"]
    assert found(auth={"mode": "keys", "keys_file": str(tmp_path / "keys.yaml")}) == []


def test_tokens_need_their_section_and_the_section_needs_tokens() -> None:
    assert found(auth={"mode": "jwt"}) == ["auth.jwt"]
    assert found(auth={"mode": "none", "jwt": JWT}) == ["auth.jwt"]
    assert found(auth={"mode": "jwt", "jwt": JWT}) == []
    assert found(auth={"mode": "jwt", "jwt": JWT, "keys": [KEY]}) == []


def test_any_origin_never_goes_with_credentials() -> None:
    assert found(cors={"origins": ["*"]}) == []
    assert found(cors={"origins": ["https://a.example"], "credentials": True}) == []
    assert found(cors={"origins": ["https://a.example", "*"], "credentials": True}) == ["cors.origins"]


@pytest.mark.parametrize(
    "origin",
    [
        "https://a.example", "http://localhost:3009", "http://127.0.0.1:8080", "http://[::1]:3000",
        "chrome-extension://abcdefghijklmnop", "capacitor://localhost",
        "https://xn--bcher-kva.example", "https://a:80",
    ],
)  # fmt: skip
def test_an_origin_as_browsers_send_it_is_taken(origin: str) -> None:
    assert found(cors={"origins": [origin]}) == []


@pytest.mark.parametrize(
    "origin",
    [
        "https://a.example/", "https://a.example/app", "a.example", "https://A.example",
        "HTTPS://a.example", "null", "", "https://a.example:443", "http://a.example:80",
        "https://*.example", "https://user@a.example", "https://a b", "https://bücher.example",
        "https://a.example?x", "https://", "**",
    ],
)  # fmt: skip
def test_an_origin_that_no_browser_sends_would_never_match_and_is_refused(origin: str) -> None:
    assert found(cors={"origins": [origin]}) == ["cors.origins"]


@pytest.mark.parametrize(
    "url",
    [
        "https://localhost:3443", "https://127.0.0.1:3443/", "https://[::1]:3443",
        "https://127.0.0.1", "https://generativelanguage.googleapis.com",
        "https://GENERATIVELANGUAGE.googleapis.com/",
    ],
)  # fmt: skip
def test_the_key_may_go_to_this_machine_and_to_google(url: str) -> None:
    assert found(gemini={"base_url": url}) == []


@pytest.mark.parametrize(
    "url",
    [
        "http://generativelanguage.googleapis.com", "http://127.0.0.1:3443", "ws://localhost", "wss://localhost",
        "//localhost", "localhost:3443", "", "https://", "https:///path", "https://?x", "ftp://localhost",
        "https://evil.example", "https://googleapis.com.evil.example", "https://evilgoogleapis.com",
        "https://googleapis.com", "https://localhost.evil.example", "https://127.0.0.1.nip.io",
        "https://127.1", "https://2130706433", "https://0x7f000001", "https://0177.0.0.1", "https://0",
        "https://[::ffff:127.0.0.1]", "https://[::]", "https://0.0.0.0", "https://10.0.0.1", "https://169.254.169.254",
        "https://[fd00::1]", "https://localhost.", "https://localhost@evil.example", "https://evil@localhost",
        "https://user:pass@generativelanguage.googleapis.com", "https://localhost#@evil.example",
        "https://localhost?x=1", "https://localhost:0", "https://localhost:99999", "https://localhost:x",
        "https://[::1", "https://evil.example\\@localhost", "https://evil.example\\.googleapis.com",
        "https://evil.example/.googleapis.com", "https://local\thost", "https://lоcalhost",
    ],
)  # fmt: skip
def test_the_key_goes_nowhere_else(url: str) -> None:
    assert found(gemini={"base_url": url}) == ["gemini.base_url"]


def test_another_host_may_have_the_key_once_it_is_listed() -> None:
    hosts = {"base_url_hosts": ["gateway.example.org", "*.internal.example.org"]}
    assert found(gemini={"base_url": "https://gateway.example.org", **hosts}) == []
    assert found(gemini={"base_url": "https://a.internal.example.org", **hosts}) == []
    assert found(gemini={"base_url": "https://internal.example.org", **hosts}) == ["gemini.base_url"]
    assert found(gemini={"base_url": "https://a.gateway.example.org", **hosts}) == ["gemini.base_url"]


def test_an_address_is_not_used_where_the_emulator_always_answers() -> None:
    gemini = {"base_url": "https://localhost:3443"}
    assert found(gemini=gemini, emulator={"mode": "always"}) == ["gemini.base_url"]


def test_several_processes_need_a_store_that_they_share() -> None:
    assert found(server={"processes": 2}) == ["server.processes"]


def test_two_servers_cannot_share_a_port_unless_the_system_chooses() -> None:
    assert found(server={"port": 4000, "websocket_port": 4000}) == ["server.websocket_port"]
    assert found(server={"port": 0, "websocket_port": 0}) == []


def test_a_pong_cannot_be_waited_for_longer_than_until_the_next_ping() -> None:
    assert found(server={"ping_interval": 10, "ping_timeout": 20}) == ["server.ping_timeout"]
    assert found(server={"ping_interval": 0, "ping_timeout": 20}) == []


@pytest.mark.parametrize("network", ["10.0.0.7/8", "proxy.example.org", "10.0.0.0/33", ""])
def test_a_proxy_is_trusted_by_address_only(network: str) -> None:
    assert found(server={"trusted_proxies": ["10.0.0.0/8", "::1", network]}) == ["server.trusted_proxies"]


def test_limits_that_leave_nothing_are_refused() -> None:
    assert found(audio={"min_rate_hz": 48_000, "max_rate_hz": 16_000}) == ["audio.min_rate_hz"]
    assert found(audio={"max_pending": "32KiB"}) == ["audio.max_header", "audio.max_block"]
    assert found(audio={"transcribe_wait": "30s"}) == ["audio.transcribe_wait"]


def test_files_and_folders_must_be_there(tmp_path: Path) -> None:
    nowhere, here = str(tmp_path / "none" / "file"), str(tmp_path)
    public_key = {"algorithm": "ES256", "public_key_file": nowhere}
    jwt = {**JWT, "jwks_file": nowhere, "keys": [public_key]}
    sections: dict[str, dict[str, Any]] = {
        "server": {"tls": {"cert_file": nowhere, "key_file": here}},
        "auth": {
            "mode": "jwt",
            "jwt": jwt,
            "keys_file": nowhere,
            "audit_file": nowhere,
        },
        "gemini": {"ca_file": nowhere},
        "codecs": {"plugins_dir": nowhere},
        "store": {"path": nowhere},
        "emulator": {"scenario": nowhere},
    }
    assert set(found(**sections)) == {
        "server.tls.cert_file",
        "server.tls.key_file",
        "auth.jwt.jwks_file",
        "auth.jwt.keys",
        "auth.keys_file",
        "auth.audit_file",
        "gemini.ca_file",
        "codecs.plugins_dir",
        "store.path",
        "emulator.scenario",
    }
    assert found(codecs={"plugins_dir": here}, store={"path": f"{here}/new.sqlite3"}) == []
    assert found(store={"path": ":memory:"}) == []
