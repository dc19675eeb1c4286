"""`config/production.yaml` as it is shipped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from callers import PAGE
from raw import answer_to, request, status_of, upgrade
from tornado.ioloop import IOLoop

from tornado_live.app import LiveServer
from tornado_live.errors import SettingsError
from tornado_live.settings import Settings, load_settings

PRODUCTION = Path(__file__).parents[2] / "config" / "production.yaml"
KEY = "only-for-this-test-0123456789"
ENVIRONMENT = {"GOOGLE_API_KEY": "not-a-key", "LIVE_API_KEY": KEY}
SESSIONS = "/api/v1/live-audio/sessions"


def production(folder: Path, **environ: str) -> Settings:
    own = {"server": {"port": 0}, "store": {"path": str(folder / "store.sqlite3")}}
    return load_settings(PRODUCTION, own, ENVIRONMENT | environ, folder)


@pytest.fixture
def server(io_loop: IOLoop, tmp_path: Path) -> Any:
    live = LiveServer(production(tmp_path, TORNADO_LIVE__CORS__ORIGINS=PAGE))
    io_loop.run_sync(live.start, timeout=20)
    yield live
    io_loop.run_sync(live.stop, timeout=20)


def test_without_the_keys_it_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="LIVE_API_KEY"):
        load_settings(PRODUCTION, {}, {"GOOGLE_API_KEY": "x"}, tmp_path)


def test_the_demo_engine_is_off_and_limits_are_on(tmp_path: Path) -> None:
    settings = production(tmp_path)
    assert settings.emulator.mode == "never"
    assert settings.auth.mode == "keys"
    assert settings.cors.origins == ()
    assert settings.limits.requests_per_minute
    assert settings.limits.new_sessions_per_minute
    assert settings.limits.messages_per_second
    assert settings.limits.audio_seconds_per_day
    assert settings.limits.tokens_per_day
    assert settings.limits.total.audio_seconds_per_day
    assert settings.limits.total.tokens_per_day
    assert settings.server.trusted_proxies == ()
    assert not settings.gemini.client_system_instruction


@pytest.mark.parametrize("addresses", ["10.0.0.5", "10.0.0.0/24,192.0.2.7"])
def test_the_proxy_is_named_in_the_environment(tmp_path: Path, addresses: str) -> None:
    settings = production(tmp_path, TORNADO_LIVE__SERVER__TRUSTED_PROXIES=addresses)
    assert [str(each) for each in settings.server.trusted_proxies] == addresses.split(",")


@pytest.mark.gen_test
async def test_it_lets_in_only_who_has_the_key_and_only_the_named_page(server: LiveServer) -> None:
    async def status(wire: bytes) -> int:
        return status_of(await answer_to(server.port, wire))

    assert await status(request("GET", SESSIONS)) == 401
    assert await status(request("GET", SESSIONS, X_API_Key="wrong")) == 401
    assert await status(request("GET", SESSIONS, X_API_Key=KEY)) == 200
    assert await status(request("GET", SESSIONS, X_API_Key=KEY, Origin=PAGE)) == 200
    assert await status(request("GET", SESSIONS, X_API_Key=KEY, Origin="http://localhost:3009")) == 403
    assert await status(upgrade(Origin="http://localhost:3009", X_API_Key=KEY)) == 403
    assert await status(upgrade(Origin=PAGE, X_API_Key=KEY)) == 101
