"""Settings that are each possible but cannot be meant together, or that name what is not there."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from tornado_live.settings.models import Settings

_BROWSER_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(?:[a-z0-9.-]+|\[[0-9a-f:]+\])(?::\d{1,5})?")
_PLAIN_HTTPS_URL = re.compile(
    r"https://(?P<host>[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>\d{1,5}))?(?:/[\w.~/-]*)?", re.ASCII
)
_DEFAULT_PORT = re.compile(r"http:.*:80|https:.*:443")


@dataclass(frozen=True, slots=True)
class Contradiction:
    """
    Attributes:
        key: the key to change.
        problem: what is wrong, and what to write.
        also: other keys that it depends on.
    """

    key: str
    problem: str
    also: tuple[str, ...] = ()


def contradictions(settings: Settings) -> Iterator[Contradiction]:
    """Everything that is wrong with settings whose values are each of the right type."""
    yield from _server(settings)
    yield from _cors(settings)
    yield from _auth(settings)
    yield from _gemini(settings)
    yield from _audio(settings)
    yield from _files(settings)


def missing_key(settings: Settings) -> str | None:
    """Why nothing could answer: there is no key for Gemini, and no leave to use the emulator."""
    if settings.emulator.mode != "never" or settings.gemini.api_key is not None:
        return None
    names = " or ".join(settings.gemini.api_key_env) or "TORNADO_LIVE__GEMINI__API_KEY"
    return f"gemini.api_key: no key, and emulator.mode is never; set the environment variable {names}"


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server on `host`: `localhost`, 127.0.0.0/8 or ::1."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _server(settings: Settings) -> Iterator[Contradiction]:
    server = settings.server
    if server.processes > 1:
        problem = "several processes need a store that they share, which SQLite is not; write 1"
        yield Contradiction("server.processes", problem)
    if server.websocket_port and server.websocket_port == server.port:
        problem = "the same as server.port; write another port or null"
        yield Contradiction("server.websocket_port", problem, ("server.port",))
    if server.ping_timeout > server.ping_interval > 0:
        problem = "longer than server.ping_interval; write the same or less"
        yield Contradiction("server.ping_timeout", problem, ("server.ping_interval",))
    for network in server.trusted_proxies:
        try:
            ip_network(network)
        except ValueError as exc:
            problem = f"{exc}; write addresses or networks such as 10.0.0.0/8"
            yield Contradiction("server.trusted_proxies", problem)


def _cors(settings: Settings) -> Iterator[Contradiction]:
    cors = settings.cors
    if cors.credentials and "*" in cors.origins:
        problem = "`*` with cors.credentials lets every page act as its visitor; write the origins themselves"
        yield Contradiction("cors.origins", problem, ("cors.credentials",))
    for origin in cors.origins:
        if origin != "*" and (not _BROWSER_ORIGIN.fullmatch(origin) or _DEFAULT_PORT.fullmatch(origin)):
            problem = (
                f"{origin!r} is not what a browser sends; write scheme://host or scheme://host:port, "
                "in lower case, without a default port, a path or a slash at the end"
            )
            yield Contradiction("cors.origins", problem)


def _auth(settings: Settings) -> Iterator[Contradiction]:
    auth, host = settings.auth, settings.server.host
    listed = bool(auth.keys or auth.keys_file)
    if auth.mode == "none" and not is_loopback(host) and not auth.allow_public_without_auth:
        problem = (
            f"none lets everyone who reaches server.host {host!r} use the key for Gemini; write keys or jwt, "
            "or say auth.allow_public_without_auth: true"
        )
        yield Contradiction("auth.mode", problem, ("server.host", "auth.allow_public_without_auth"))
    if auth.mode == "none" and listed:
        problem = "none lets everyone in, although API keys are listed; write keys"
        yield Contradiction("auth.mode", problem, ("auth.keys", "auth.keys_file"))
    if auth.mode == "keys" and not listed:
        problem = "no keys, so that nobody could get in; list them here or in auth.keys_file"
        yield Contradiction("auth.keys", problem, ("auth.mode", "auth.keys_file"))
    if (auth.mode == "jwt") != (auth.jwt is not None):
        problem = "belongs to auth.mode: jwt; write both or neither"
        yield Contradiction("auth.jwt", problem, ("auth.mode",))


def _gemini(settings: Settings) -> Iterator[Contradiction]:
    gemini = settings.gemini
    if gemini.base_url is None:
        return
    if settings.emulator.mode == "always":
        problem = "never used with emulator.mode: always; leave one of them out"
        yield Contradiction("gemini.base_url", problem, ("emulator.mode",))
    if problem := _refused_address(gemini.base_url, gemini.base_url_hosts):
        yield Contradiction("gemini.base_url", problem, ("gemini.base_url_hosts",))


def _refused_address(url: str, allowed_hosts: tuple[str, ...]) -> str:
    """Why an address must not be given the key; empty if it may. The address itself is never shown.

    Stricter than any URL parser, so that no other one can find another host in it.
    """
    match = _PLAIN_HTTPS_URL.fullmatch(url)
    if match is None or not 0 < int(match["port"] or 443) < 65_536:
        return "the key is only sent to https://host or https://host:port, without user, query or fragment"
    host = match["host"].strip("[]").lower()
    if is_loopback(host) or any(_matches(host, allowed) for allowed in allowed_hosts):
        return ""
    return f"{host!r} is not one of gemini.base_url_hosts; add it there if it may have the key"


def _matches(host: str, allowed: str) -> bool:
    return host.endswith(allowed[1:]) if allowed.startswith("*.") else host == allowed


def _audio(settings: Settings) -> Iterator[Contradiction]:
    audio = settings.audio
    if audio.min_rate_hz > audio.max_rate_hz:
        yield Contradiction(
            "audio.min_rate_hz", "above audio.max_rate_hz; write less", ("audio.max_rate_hz",)
        )
    for key, size in (("audio.max_header", audio.max_header), ("audio.max_block", audio.max_block)):
        if size > audio.max_pending:
            problem = "above audio.max_pending, so that nothing of this size could be read; write less"
            yield Contradiction(key, problem, ("audio.max_pending",))
    if audio.transcribe_wait > audio.transcribe_max:
        problem = "longer than audio.transcribe_max; write less"
        yield Contradiction("audio.transcribe_wait", problem, ("audio.transcribe_max",))


def _files(settings: Settings) -> Iterator[Contradiction]:
    auth, tls = settings.auth, settings.server.tls
    needed = {
        "server.tls.cert_file": tls and tls.cert_file,
        "server.tls.key_file": tls and tls.key_file,
        "auth.jwt.jwks_file": auth.jwt and auth.jwt.jwks_file,
        "gemini.ca_file": settings.gemini.ca_file,
        "emulator.scenario": settings.emulator.scenario,
    }
    keys = auth.jwt.keys if auth.jwt else ()
    public_keys = [("auth.jwt.keys", key.public_key_file) for key in keys]
    for key, file in [*needed.items(), *public_keys]:
        if file and not os.path.isfile(file):
            yield Contradiction(key, f"there is no file {file!r}; write the path of one")
    folder = settings.codecs.plugins_dir
    if folder and not os.path.isdir(folder):
        yield Contradiction("codecs.plugins_dir", f"there is no folder {folder!r}; write the path of one")
    made = {
        "store.path": settings.store.path,
        "auth.keys_file": auth.keys_file,
        "auth.audit_file": auth.audit_file,
    }
    for key, file in made.items():
        if file and file != ":memory:" and not os.path.isdir(os.path.dirname(os.path.abspath(file))):
            problem = f"there is no folder for {file!r}; create it or write another path"
            yield Contradiction(key, problem)
