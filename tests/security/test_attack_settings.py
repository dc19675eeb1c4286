"""Log lines, addresses of the model, settings files, TLS and dependencies: rows 12, 15, 17, 20 and 25."""

from __future__ import annotations

import asyncio
import datetime
import io
import ipaddress
import json
import re
import ssl
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from callers import MARY
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from raw import answer_to, masked, request, status_of, upgrade
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application

from tornado_live.errors import SettingsError
from tornado_live.settings import (
    load_settings,
    read_yaml,
)

API = "/api/v1/live-audio"
ROOT = Path(__file__).parents[2]


# Row 12: texts that want to be log lines of their own.

LOG_INJECTIONS = [
    "a\nFAKE line",
    "a\r\nFAKE line",
    "a\x0bFAKE",
    "a\u2028FAKE",
    "a\x85FAKE",
    "\x1b[2J\x1b[31mFAKE",
    "%s%s%s%n",
    "%(name)s",
    "{0.__class__}",
    '"},{"event":"FAKE"}',
    "\0",
    "\ud800",
    "\u202eFAKE",
    "x" * 60_000,
]


async def log_lines_forged(port: int, lines: Any) -> int:
    """Lines that are no JSON objects of their own, or whose event came from a client."""
    for text in LOG_INJECTIONS:
        body = {"session_id": text, "model": text}
        await answer_to(port, request("POST", f"{API}/session/start", body, X_API_Key=MARY), timeout_s=2)
        percent = "".join(f"%{byte:02x}" for byte in text[:1000].encode("utf-8", "surrogatepass"))
        await answer_to(
            port, request("GET", f"{API}/{percent}", X_API_Key=MARY, User_Agent="FAKE"), timeout_s=2
        )
    forged = 0
    for line in lines():
        try:
            entry = json.loads(line)
        except ValueError:
            forged += 1
        else:
            forged += not isinstance(entry, dict) or "FAKE" in str(entry.get("event")) or len(line) > 20_000
    return forged


@pytest.mark.gen_test(timeout=30)
async def test_12_one_event_is_one_line(protected: Any, log: io.StringIO) -> None:
    assert await log_lines_forged(protected.port, lambda: log.getvalue().splitlines()) == 0
    assert len(log.getvalue().splitlines()) >= len(LOG_INJECTIONS)


@pytest.mark.gen_test(timeout=30)
async def test_12_succeeds_unprotected(unprotected: Any, caplog: pytest.LogCaptureFixture) -> None:
    assert await log_lines_forged(unprotected.port, lambda: caplog.text.splitlines()) > 0


# Row 15: where the key may be sent.

STRANGE_URLS = [
    "http://generativelanguage.googleapis.com",
    "https://evil.example",
    "https://googleapis.com.evil.example",
    "https://evilgoogleapis.com",
    "https://generativelanguage.googleapis.com@evil.example",
    "https://generativelanguage.googleapis.com:443@evil.example",
    "https://user:pass@generativelanguage.googleapis.com",
    "https://evil.example/generativelanguage.googleapis.com",
    "https://evil.example?generativelanguage.googleapis.com",
    "https://evil.example#.googleapis.com",
    "https://evil.example\\.googleapis.com",
    "https://169.254.169.254",
    "https://2852039166",
    "https://0xA9FEA9FE",
    "https://0251.0376.0251.0376",
    "https://[::ffff:169.254.169.254]",
    "https://[fe80::1]",
    "https://10.0.0.1",
    "https://192.168.0.1.nip.io",
    "https://generativelanguage.googleapis.com.",
    "https://generativelanguage.googleapis.com:0",
    "https://generativelanguage.googleapis.com:99999",
    "file:///etc/passwd",
    "//generativelanguage.googleapis.com",
    "https://",
]


def accepted_urls(accepts: Any) -> list[str]:
    return [url for url in STRANGE_URLS if accepts(url)]


def accepted_by_settings(url: str) -> bool:
    try:
        load_settings(None, {"gemini": {"base_url": url, "api_key": "x" * 20}}, {}, "/nonexistent")
    except SettingsError:
        return False
    return True


def test_15_the_key_goes_to_no_strange_address() -> None:
    assert len(STRANGE_URLS) == 25
    assert accepted_urls(accepted_by_settings) == []
    assert accepted_by_settings("https://generativelanguage.googleapis.com")


def test_15_succeeds_unprotected() -> None:
    def naive(url: str) -> bool:
        return "googleapis.com" in urlsplit(url).netloc

    assert accepted_urls(naive)


# Row 17: files that are more, or something else, than they seem.

_LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
YAML_TRAPS: dict[str, str] = {
    "a call": "!!python/object/apply:os.system ['true']",
    "a name": "a: !!python/name:os.system",
    "a module": "a: !!python/module:os",
    "a new object": "a: !!python/object/new:dict {}",
    "a billion laughs": _LAUGHS,
    "an alias": "a: &x 1\nb: *x",
    "an alias of itself": "a: &x [*x]",
    "an anchor": "a: &x 1",
    "a merge": "a: &x {b: 1}\nc:\n  <<: *x",
    "a tag of its own": "a: !secret b",
    "a set": "a: !!set {b, c}",
    "bytes": "a: !!binary aGk=",
    "a date": "a: !!timestamp 2026-01-01",
    "one key twice": "a: 1\na: 2",
    "a list as key": "? [a, b]\n: 1",
    "an ordered map": "a: !!omap [b: 1]",
    "two documents": "a: 1\n---\nb: 2",
    "a list": "- a\n- b",
    "deep lists": "a: " + "[" * 500 + "]" * 500,
    "a mebibyte": "a: " + "x" * 2**20,
}


def traps_loaded(load: Any, folder: Path) -> list[str]:
    """Those that are not refused as what they are."""
    loaded = []
    for name, text in YAML_TRAPS.items():
        path = folder / "settings.yaml"
        path.write_text(text)
        try:
            load(path)
        except (SettingsError, yaml.YAMLError):
            continue
        except RecursionError:
            pass
        loaded.append(name)
    return loaded


def test_17_no_trap_is_loaded(tmp_path: Path) -> None:
    assert len(YAML_TRAPS) == 20
    assert traps_loaded(read_yaml, tmp_path) == []


def test_17_succeeds_unprotected(tmp_path: Path) -> None:
    assert traps_loaded(lambda path: yaml.safe_load(path.read_text()[:10_000]), tmp_path)


def test_17_an_unknown_key_stops_the_start(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("auth:\n  modus: keys\n")
    with pytest.raises(SettingsError, match=r"settings\.yaml:2.*auth\.modus.*auth\.mode"):
        load_settings(path, None, {}, tmp_path)


# Row 20: old TLS.


def make_certificate(folder: Path) -> tuple[str, str]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = folder / "cert.pem", folder / "key.pem"
    cert_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return str(cert_file), str(key_file)


def spoil(cert_file: str) -> None:
    Path(cert_file).write_text("not a certificate")


async def tls_spoken(port: int) -> set[str]:
    """The versions of TLS in which a server shakes hands."""
    spoken = set()
    for version in (
        ssl.TLSVersion.TLSv1,
        ssl.TLSVersion.TLSv1_1,
        ssl.TLSVersion.TLSv1_2,
        ssl.TLSVersion.TLSv1_3,
    ):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = context.maximum_version = version
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        except (ssl.SSLError, ConnectionError):
            continue
        spoken.add(version.name)
        writer.close()
        try:
            await writer.wait_closed()
        except (ssl.SSLError, ConnectionError):
            pass
    return spoken


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.gen_test
async def test_20_only_tls_1_2_and_newer_is_spoken(make_protected: Any, tmp_path: Path) -> None:
    cert_file, key_file = make_certificate(tmp_path)
    server = await make_protected(server={"tls": {"cert_file": cert_file, "key_file": key_file}})
    assert await tls_spoken(server.port) == {"TLSv1_2", "TLSv1_3"}


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.gen_test
async def test_20_succeeds_unprotected(tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*make_certificate(tmp_path))
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    server = HTTPServer(Application(), ssl_options=context)
    sockets = bind_sockets(0, "127.0.0.1")
    server.add_sockets(sockets)
    try:
        assert "TLSv1_1" in await tls_spoken(sockets[0].getsockname()[1])
    finally:
        server.stop()
        await server.close_all_connections()


@pytest.mark.gen_test
async def test_20_a_new_certificate_is_used_without_dropping_a_socket(
    make_protected: Any, tmp_path: Path
) -> None:
    """What SIGHUP does."""
    cert_file, key_file = make_certificate(tmp_path)
    server = await make_protected(server={"tls": {"cert_file": cert_file, "key_file": key_file}})
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

    async def shown() -> bytes:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=context)
        certificate: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        return certificate

    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=context)
    writer.write(upgrade(X_API_Key=MARY))
    await reader.readuntil(b"\r\n\r\n")
    old = await shown()
    make_certificate(tmp_path)
    server.reload()
    new = await shown()
    assert new != old
    writer.write(masked({"type": "get_rate_limits"}))
    assert b"rate_limit_status" in await asyncio.wait_for(reader.read(500), 5)
    spoil(cert_file)
    server.reload()
    assert await shown() == new
    writer.close()


async def headers_of(port: int, path: str, context: ssl.SSLContext | None = None) -> dict[str, str]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    writer.write(request("GET", path, X_API_Key=MARY))
    head = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    return dict(line.split(": ", 1) for line in head.decode().splitlines()[1:-1])


ADDRESSES = ("/", "/static/nothing", "/livez", "/readyz", "/nothing", f"{API}/sessions")


@pytest.mark.gen_test
async def test_20_browsers_that_came_by_tls_are_told_to_stay_with_it(
    make_protected: Any, protected: Any, tmp_path: Path
) -> None:
    """Over plain HTTP anybody on the way could say it, so browsers would not listen."""
    cert_file, key_file = make_certificate(tmp_path)
    server = await make_protected(server={"tls": {"cert_file": cert_file, "key_file": key_file}})
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    for path in ADDRESSES:
        secure, plain = await headers_of(server.port, path, context), await headers_of(protected.port, path)
        assert secure["Strict-Transport-Security"] == "max-age=31536000"
        assert "Strict-Transport-Security" not in plain
        assert secure["X-Content-Type-Options"] == "nosniff"
        assert "Server" not in secure


# Row 25: other people's code.

LOCKED_EXTRAS = ("", "offline", "redis", "uvloop")
"""What a server is installed with."""


@pytest.fixture
def requirements(tmp_path: Path) -> dict[str, list[str]]:
    """What setup.py asks for, by extra; "" is what it always asks for."""
    command = [sys.executable, "setup.py", "-q", "egg_info", "--egg-base", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    [requires] = tmp_path.rglob("requires.txt")
    found: defaultdict[str, list[str]] = defaultdict(list)
    extra = ""
    for line in filter(None, requires.read_text().splitlines()):
        if line.startswith("["):
            extra = line.strip("[]").partition(":")[0]
        else:
            found[extra].append(line)
    return found


def unbounded(requirements: list[str]) -> list[str]:
    """Requirements that a new major version would meet."""
    return [
        line
        for line in requirements
        if not re.search(r"[<=]=?\s*\d", line.partition(";")[0].replace(">=", ""))
    ]


def not_met(requirements: list[str], locked: str) -> list[str]:
    """Requirements for which the lock file has no version that they allow, or one without a hash."""
    versions: defaultdict[str, list[str]] = defaultdict(list)
    for name, version, rest in re.findall(r"^([\w.-]+)==([\w.]+)(.*\n(?: .+\n)*)", locked, re.M):
        if "--hash=sha256:" in rest:
            versions[canonicalize_name(name)].append(version)
    return [
        line
        for line in requirements
        if not (found := versions[canonicalize_name(Requirement(line).name)])
        or not all(Requirement(line).specifier.contains(version) for version in found)
    ]


def test_25_every_dependency_has_an_upper_bound(requirements: dict[str, list[str]]) -> None:
    assert len(requirements[""]) > 10
    assert unbounded([line for lines in requirements.values() for line in lines]) == []


def test_25_the_lock_file_meets_every_dependency(requirements: dict[str, list[str]]) -> None:
    locked = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert not_met([line for extra in LOCKED_EXTRAS for line in requirements[extra]], locked) == []
    assert "://" not in locked


def test_25_succeeds_unprotected() -> None:
    assert unbounded(["tornado", "redis>=7", "pydantic>=2,<3"]) == ["tornado", "redis>=7"]
    locked = "redis==6.4.0 \\\n    --hash=sha256:00\nPyYAML==6.0.3\n"
    assert not_met(["tornado", "redis>=7", "pyyaml"], locked) == ["tornado", "redis>=7", "pyyaml"]


def test_a_status_is_read_from_an_answer() -> None:
    assert status_of(b"HTTP/1.1 404 Not Found\r\n\r\n") == 404
