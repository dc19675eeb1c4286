"""Settings files, addresses of the model, secrets, TLS and dependencies: rows 12, 15, 17, 18, 20 and 25."""

from __future__ import annotations

import asyncio
import datetime
import io
import ipaddress
import json
import logging
import re
import ssl
import subprocess
import sys
import traceback
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
from support import Socket
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application

from tornado_live.errors import SettingsError
from tornado_live.settings import (
    Settings,
    load_settings,
    read_yaml,
    secret_values,
    show_settings,
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


# Row 18: where secrets come to light.

CANARY = "ak_canary-77c1d0e0b7d24d0d-secret"


def settings_with_canaries() -> Settings:
    return Settings.model_validate(
        {
            "gemini": {"api_key": CANARY},
            "auth": {
                "mode": "jwt",
                "keys": [{"name": "web", "secret": CANARY}],
                "jwt": {
                    "issuer": "i",
                    "audience": "a",
                    "keys": [{"algorithm": "HS256", "secret": f"{CANARY}-{CANARY}"}],
                },
            },
            "limits": {"redis_url": f"redis://:{CANARY}@localhost"},
        }
    )


def where_secrets_show(settings: Any, show: Any, log: io.StringIO) -> list[str]:
    """Of seven places where settings are written down."""
    logging.getLogger("anything").warning("settings %s %r", settings, settings, extra={"settings": settings})
    try:
        assert settings is None
    except AssertionError:
        shown_traceback = traceback.format_exc() + "".join(
            traceback.TracebackException(*sys.exc_info()).format()
        )
        logging.getLogger("anything").exception("failed")
    places = {
        "str": str(settings),
        "repr": repr(settings),
        "f-string": f"{settings}",
        "dump": str(settings.model_dump_json()) if isinstance(settings, Settings) else json.dumps(settings),
        "show-config": show(settings),
        "traceback": shown_traceback,
        "log": log.getvalue(),
    }
    return [place for place, text in places.items() if CANARY in text]


def test_18_settings_keep_their_secrets(log: io.StringIO) -> None:
    assert where_secrets_show(settings_with_canaries(), show_settings, log) == []
    assert any(CANARY in secret for secret in secret_values(settings_with_canaries()))


def test_18_succeeds_unprotected(log: io.StringIO) -> None:
    assert where_secrets_show({"gemini": {"the_key": CANARY}}, str, log)


def test_18_a_wrong_secret_is_not_quoted(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    short = CANARY[:15]
    path.write_text(
        f"gemini:\n  api_key: [{CANARY}]\nauth:\n  mode: keys\n  keys:\n"
        f"    - name: web\n      secret: {short}\n    - name: two\n      sha256: {CANARY}\n"
        f"      secret: {CANARY}\n"
    )
    with pytest.raises(SettingsError) as caught:
        load_settings(path, None, {}, tmp_path)
    told = "\n".join(caught.value.problems) + str(caught.value) + repr(caught.value)
    assert "auth.keys" in told
    assert short not in told


def process_title() -> str:
    return Path("/proc/self/cmdline").read_text()


@pytest.mark.gen_test(timeout=30)
async def test_18_a_server_keeps_the_keys_it_is_sent(protected: Any, log: io.StringIO, capfd: Any) -> None:
    """In its answers, its log, its output and the title of its process, right and wrong keys alike."""
    answers = b""
    for key in (MARY, CANARY):
        for wire in (
            request("GET", f"{API}/sessions", X_API_Key=key),
            request("GET", f"{API}/sessions?api_key={key}", Authorization=f"Bearer {key}"),
            request("POST", f"{API}/session/start", {"session_id": 7, "token": key}, X_API_Key=key),
            upgrade(f"/ws/live-audio?token={key}", X_API_Key=key, Origin="https://evil.example"),
        ):
            answers += await answer_to(protected.port, wire, timeout_s=1)
    socket = await Socket.open(protected)
    await socket.send({"type": "api_key", "token": CANARY})
    answers += json.dumps(await socket.message()).encode()
    socket.close()
    await socket.closed()
    out, err = capfd.readouterr()
    written = answers.decode() + log.getvalue() + out + err + process_title()
    assert MARY not in written
    assert CANARY not in written
    assert log.getvalue()


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
