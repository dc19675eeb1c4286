"""Who is calling, and that nobody learns why they are refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from time import perf_counter_ns, time

import jwt
import pytest

from tornado_live.access.identity import Authenticator
from tornado_live.access.keys import create_key, revoke_key
from tornado_live.errors import AuthFailed, AuthRequired, SettingsError
from tornado_live.settings import AuthSettings, JwtKeySettings, JwtSettings, KeySettings, QuotaSettings

KEY = "ak_only-for-this-test-0123456789"
OTHER_KEY = "ak_another-one-for-this-test-0123"
SIGNING_SECRET = "only-for-this-test-0123456789-abcdefgh"
PAGE = "https://good.example"


@pytest.fixture
def keys() -> Authenticator:
    return Authenticator(
        AuthSettings(
            mode="keys",
            keys=(
                KeySettings(name="backend", secret=KEY, scopes=("instructions:custom",)),
                KeySettings(name="website", secret=OTHER_KEY, shared=True, limits=QuotaSettings(sessions=2)),
            ),
        )
    )


@pytest.fixture
def tokens() -> Authenticator:
    signing = JwtKeySettings(algorithm="HS256", secret=SIGNING_SECRET)
    settings = JwtSettings(issuer="https://id.example", audience="tornado-live", keys=(signing,))
    return Authenticator(
        AuthSettings(mode="jwt", jwt=settings, keys=(KeySettings(name="backend", secret=KEY),))
    )


def token(**claims: object) -> str:
    now = int(time())
    standard = {
        "iss": "https://id.example",
        "aud": "tornado-live",
        "sub": "mary",
        "iat": now,
        "exp": now + 60,
    }
    return jwt.encode({**standard, **claims}, SIGNING_SECRET, algorithm="HS256")


def test_without_authentication_everyone_is_one_owner_and_keys_are_ignored() -> None:
    access = Authenticator(AuthSettings())
    assert not access.required
    callers = [
        access.anonymous(),
        access.authenticate("anything"),
        access.authenticate(""),
        access.from_headers({"X-API-Key": "ak_whatever"}) or access.anonymous(),
        access.from_headers({}) or access.anonymous(),
    ]
    assert {caller.owner for caller in callers} == {"anonymous"}
    access.recheck(callers[0])


def test_with_authentication_nobody_is_anonymous(keys: Authenticator) -> None:
    assert keys.required
    assert keys.from_headers({"Content-Type": "application/json"}) is None
    with pytest.raises(AuthRequired):
        keys.anonymous()


@pytest.mark.parametrize(
    "headers",
    [
        {"X-API-Key": KEY},
        {"X-API-Key": f" {KEY} "},
        {"Authorization": f"Bearer {KEY}"},
        {"Authorization": f"bearer  {KEY}"},
        {"X-API-Key": "", "Authorization": f"Bearer {KEY}"},
        {"X-API-Key": KEY, "Authorization": "Basic dXNlcjpwYXNz"},
    ],
)
def test_a_key_is_taken_from_either_header(keys: Authenticator, headers: dict[str, str]) -> None:
    caller = keys.from_headers(headers)
    assert caller is not None
    assert (caller.owner, caller.name, caller.shared) == ("key:backend", "backend", False)
    assert caller.scopes == {"instructions:custom"}


@pytest.mark.parametrize(
    "headers", [{}, {"X-API-Key": "  "}, {"Authorization": "Basic dXNlcjpwYXNz"}, {"Authorization": "Bearer"}]
)
def test_headers_without_a_credential_are_no_failure(keys: Authenticator, headers: dict[str, str]) -> None:
    assert keys.from_headers(headers) is None


def test_a_key_brings_its_limits_and_its_being_shared(keys: Authenticator) -> None:
    caller = keys.authenticate(OTHER_KEY)
    assert caller.shared
    assert caller.counts_per_address
    assert caller.limits == QuotaSettings(sessions=2)


def test_unknown_revoked_expired_and_malformed_credentials_get_the_same_answer(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    revoked = create_key(path, "revoked")
    revoke_key(path, "revoked")
    expired = create_key(path, "expired", expires_at=datetime.now(UTC) - timedelta(seconds=1))
    create_key(path, "good")
    access = Authenticator(AuthSettings(mode="keys", keys_file=str(path)))
    answers = set()
    for credential in (
        revoked,
        expired,
        "ak_unknown",
        "",
        "wt_unknown",
        "a.b.c",
        "\ud800",
        "x" * 100_000,
        "ä",
    ):
        with pytest.raises(AuthFailed) as caught:
            access.authenticate(credential)
        answers.add((type(caught.value), str(caught.value), caught.value.retry_after_s))
    assert len(answers) == 1


@pytest.mark.slow
def test_a_known_and_an_unknown_key_take_the_same_time(keys: Authenticator) -> None:
    near, far = KEY[:-1] + "X", "ak_" + "Z" * (len(KEY) - 3)

    def took(credential: str) -> float:
        samples = []
        for _ in range(20_000):
            start = perf_counter_ns()
            try:
                keys.authenticate(credential)
            except AuthFailed:
                pass
            samples.append(perf_counter_ns() - start)
        return median(samples)

    took(near)
    assert took(near) == pytest.approx(took(far), rel=0.2)


def test_secrets_stand_in_no_repr(keys: Authenticator) -> None:
    caller = keys.authenticate(KEY)
    assert KEY not in repr(caller)
    assert caller.fingerprint not in repr(caller)


def test_a_revoked_key_fails_the_recheck(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    key = create_key(path, "website")
    access = Authenticator(AuthSettings(mode="keys", keys_file=str(path)))
    caller = access.authenticate(key)
    access.recheck(caller)
    revoke_key(path, "website")
    access.reload()
    with pytest.raises(AuthFailed):
        access.recheck(caller)


def test_a_new_key_under_an_old_name_is_the_same_owner(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    old = create_key(path, "website")
    access = Authenticator(AuthSettings(mode="keys", keys_file=str(path)))
    owner = access.authenticate(old).owner
    revoke_key(path, "website")
    new = create_key(path, "website")
    access.reload()
    assert access.authenticate(new).owner == owner


def test_a_token_is_its_subject(tokens: Authenticator) -> None:
    caller = tokens.authenticate(token(scope="openid instructions:custom"))
    assert (caller.owner, caller.name, caller.kind) == ("token:mary", "mary", "token")
    assert "instructions:custom" in caller.scopes
    assert caller.expires_at == pytest.approx(time() + 60 + 30, abs=5)
    tokens.recheck(caller)


def test_a_token_cannot_take_a_keys_place(tokens: Authenticator) -> None:
    assert tokens.authenticate(token(sub="backend")).owner != tokens.authenticate(KEY).owner
    assert tokens.authenticate(token(sub="key:backend")).owner != tokens.authenticate(KEY).owner


def test_a_token_that_expires_fails_the_recheck(clock) -> None:
    clock.now = time()
    signing = JwtKeySettings(algorithm="HS256", secret=SIGNING_SECRET)
    settings = JwtSettings(issuer="https://id.example", audience="tornado-live", keys=(signing,))
    access = Authenticator(AuthSettings(mode="jwt", jwt=settings), clock=clock)
    caller = access.authenticate(token())
    clock.advance(89)
    access.recheck(caller)
    clock.advance(2)
    with pytest.raises(AuthFailed):
        access.recheck(caller)


def test_tokens_are_refused_where_only_keys_are_asked_for(keys: Authenticator) -> None:
    with pytest.raises(AuthFailed):
        keys.authenticate(token())


def test_a_ticket_stands_for_its_key_once_and_from_its_page(keys: Authenticator) -> None:
    caller = keys.authenticate(KEY)
    ticket = keys.issue_ticket(caller, PAGE)
    assert keys.authenticate(ticket, origin=PAGE) == caller
    for _ in range(1000):
        with pytest.raises(AuthFailed):
            keys.authenticate(ticket, origin=PAGE)
    with pytest.raises(AuthFailed):
        keys.authenticate(keys.issue_ticket(caller, PAGE), origin="https://evil.example")


def test_a_ticket_of_a_revoked_key_is_worthless(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    key = create_key(path, "website")
    access = Authenticator(AuthSettings(mode="keys", keys_file=str(path)))
    ticket = access.issue_ticket(access.authenticate(key), PAGE)
    revoke_key(path, "website")
    access.reload()
    with pytest.raises(AuthFailed):
        access.authenticate(ticket, origin=PAGE)


@pytest.mark.parametrize(
    ("settings", "word"),
    [(AuthSettings(mode="keys"), "keys"), (AuthSettings(mode="jwt"), "jwt"),
     (AuthSettings(mode="keys", keys_file="nowhere.yaml"), "nowhere.yaml")],
)  # fmt: skip
def test_a_mode_with_nothing_to_accept_stops_the_start(settings: AuthSettings, word: str) -> None:
    with pytest.raises(SettingsError, match=word):
        Authenticator(settings)
