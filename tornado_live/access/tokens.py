"""JSON Web Tokens (RFC 7519), verified by the advice of RFC 8725."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tornado_live.access.watched import WatchedFile
from tornado_live.errors import AuthFailed, SettingsError
from tornado_live.settings import JwtKeySettings, JwtSettings

_REQUIRED_CLAIMS = ["exp", "iat", "aud", "iss", "sub"]
_MIN_RSA_BITS = 2048
_MAX_SUBJECT_CHARS = 255

_Key = bytes | rsa.RSAPublicKey | ec.EllipticCurvePublicKey


@dataclass(frozen=True, slots=True)
class Token:
    """What a verified token says.

    Attributes:
        expires_at: seconds since 1970, the leeway included.
        kid: name of the key that signed it; "" for the key without a name.
    """

    subject: str
    scopes: frozenset[str]
    expires_at: float
    kid: str


@dataclass(frozen=True, slots=True)
class _SigningKey:
    algorithm: str
    key: _Key


class TokenVerifier:
    """Verifies tokens against a fixed list of keys, each bound to one algorithm.

    The token's header only chooses among these keys by `kid`; its `alg` must be the chosen key's, and
    `jku`, `jwk`, `x5u` are never looked at.

    Args:
        monotonic: times how often the key set is looked at.

    Raises:
        SettingsError: a key or the key set cannot be used, or two keys have the same `kid`.
    """

    def __init__(self, settings: JwtSettings, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._listed = _listed_keys(settings.keys)
        if settings.jwks_file is None:
            self._key_set = None
        else:
            self._key_set = WatchedFile(settings.jwks_file, self._read_key_set, clock=monotonic)

    def verify(self, token: str) -> Token:
        """What the token says.

        Raises:
            AuthFailed: it is not a token, or not one of ours, or not valid now.
        """
        try:
            kid = jwt.get_unverified_header(token).get("kid", "")
            signing_key = self._keys().get(kid)
            if signing_key is None:
                raise AuthFailed()
            claims = jwt.decode(
                token,
                signing_key.key,
                algorithms=[signing_key.algorithm],
                audience=self._settings.audience,
                issuer=self._settings.issuer,
                leeway=self._settings.leeway,
                options={"require": _REQUIRED_CLAIMS, "enforce_minimum_key_length": True},
            )
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise AuthFailed() from error
        subject = claims["sub"]
        if not 0 < len(subject) <= _MAX_SUBJECT_CHARS or not subject.isprintable():
            raise AuthFailed()
        return Token(subject, _scopes(claims), float(claims["exp"]) + self._settings.leeway, kid)

    def is_trusted(self, kid: str) -> bool:
        """Whether tokens signed by that key are still good: it may have left the key set."""
        return kid in self._keys()

    def reload(self) -> None:
        """Reads the key set again."""
        if self._key_set:
            self._key_set.reload()

    def _keys(self) -> dict[str, _SigningKey]:
        return self._key_set.value if self._key_set else self._listed

    def _read_key_set(self, path: Path) -> dict[str, _SigningKey]:
        try:
            entries = json.loads(path.read_text(encoding="utf-8"))["keys"]
            if not isinstance(entries, list):
                raise TypeError("keys is not a list")
        except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise SettingsError([f"{path}: is not a readable JSON Web Key Set"]) from error
        keys = dict(self._listed)
        for number, entry in enumerate(entries):
            usable = _key_of_set(entry)
            if usable is None:
                continue
            kid, key = usable
            if kid in keys:
                raise SettingsError([f"{path}: keys.{number}: another key has the same kid"])
            keys[kid] = key
        if not keys:
            raise SettingsError([f"{path}: holds no public key for RS256 (2048 bits or more) or ES256"])
        return keys


def _listed_keys(listed: tuple[JwtKeySettings, ...]) -> dict[str, _SigningKey]:
    keys: dict[str, _SigningKey] = {}
    for number, entry in enumerate(listed):
        place = f"auth.jwt.keys.{number}"
        kid = entry.kid or ""
        if kid in keys:
            raise SettingsError([f"{place}: another key has the same kid, or none as well"])
        keys[kid] = _SigningKey(entry.algorithm, _key_of_settings(entry, place))
    return keys


def _key_of_settings(entry: JwtKeySettings, place: str) -> _Key:
    if entry.secret is not None:
        return entry.secret.get_secret_value().encode()
    assert entry.public_key_file is not None  # JwtKeySettings sees to it
    try:
        pem = Path(entry.public_key_file).read_bytes()
        key = _trusted(jwt.get_algorithm_by_name(entry.algorithm).prepare_key(pem))
    except (OSError, ValueError, TypeError, jwt.PyJWTError):
        key = None
    if key is None:
        needed = "an RSA key of 2048 bits or more" if entry.algorithm == "RS256" else "an EC key on P-256"
        raise SettingsError([f"{place}.public_key_file: needs {needed}, public, in PEM"])
    return key


def _key_of_set(entry: Any) -> tuple[str, _SigningKey] | None:
    """One key of a JSON Web Key Set; None if it is of no use here, as RFC 7517 §5 asks for.

    Only public keys: a file of them is not kept secret.
    """
    try:
        jwk = jwt.PyJWK.from_dict(entry)
        kid = entry.get("kid", "")
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError):
        return None
    if jwk.algorithm_name not in ("RS256", "ES256") or entry.get("use", "sig") != "sig":
        return None
    key = _trusted(jwk.key)
    return None if key is None or not isinstance(kid, str) else (kid, _SigningKey(jwk.algorithm_name, key))


def _trusted(key: Any) -> rsa.RSAPublicKey | ec.EllipticCurvePublicKey | None:
    """The key, if it is public and strong enough."""
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= _MIN_RSA_BITS:
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    return None


def _scopes(claims: dict[str, Any]) -> frozenset[str]:
    """The `scope` claim (RFC 8693 §4.2): words with spaces between."""
    scope = claims.get("scope", "")
    return frozenset(scope.split()) if isinstance(scope, str) else frozenset()
