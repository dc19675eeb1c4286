"""JSON Web Tokens: every known way of forging one."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tornado_live.access.tokens import TokenVerifier
from tornado_live.errors import AuthFailed, SettingsError
from tornado_live.settings import JwtKeySettings, JwtSettings

ISSUER, AUDIENCE = "https://id.example", "tornado-live"
SECRET = "only-for-this-test-0123456789-abcdefgh"

RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())


def public_pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def claims(**changed: Any) -> dict[str, Any]:
    now = int(time.time())
    standard = {"iss": ISSUER, "aud": AUDIENCE, "sub": "mary", "iat": now, "exp": now + 60}
    return {name: value for name, value in {**standard, **changed}.items() if value is not None}


def encoded(value: Any) -> bytes:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")


def forged(header: dict[str, Any], payload: dict[str, Any], secret: bytes | None) -> str:
    """Signed by hand, since PyJWT refuses to make such tokens."""
    signed = encoded(header) + b"." + encoded(payload)
    signature = b"" if secret is None else hmac.new(secret, signed, hashlib.sha256).digest()
    return (signed + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


@pytest.fixture
def rsa_file(tmp_path: Path) -> Path:
    path = tmp_path / "rsa.pem"
    path.write_bytes(public_pem(RSA_KEY))
    return path


@pytest.fixture
def verifier(tmp_path: Path, rsa_file: Path) -> TokenVerifier:
    """One key of each algorithm."""
    ec_file = tmp_path / "ec.pem"
    ec_file.write_bytes(public_pem(EC_KEY))
    return TokenVerifier(
        JwtSettings(
            issuer=ISSUER,
            audience=AUDIENCE,
            keys=(
                JwtKeySettings(algorithm="HS256", secret=SECRET, kid="hs"),
                JwtKeySettings(algorithm="RS256", public_key_file=str(rsa_file), kid="rs"),
                JwtKeySettings(algorithm="ES256", public_key_file=str(ec_file), kid="es"),
            ),
        )
    )


def refused(verifier: TokenVerifier, token: str) -> bool:
    try:
        verifier.verify(token)
    except AuthFailed:
        return True
    return False


@pytest.mark.parametrize(("key", "kid"), [(SECRET, "hs"), (RSA_KEY, "rs"), (EC_KEY, "es")])
def test_a_good_token_of_each_algorithm_is_accepted(verifier: TokenVerifier, key: Any, kid: str) -> None:
    token = jwt.encode(claims(scope="a b"), key, algorithm=f"{kid.upper()}256", headers={"kid": kid})
    verified = verifier.verify(token)
    assert verified.subject == "mary"
    assert verified.scopes == {"a", "b"}
    assert verified.kid == kid


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", ""])
@pytest.mark.parametrize("kid", ["hs", "rs", "es"])
def test_an_unsigned_token_is_refused(verifier: TokenVerifier, algorithm: str, kid: str) -> None:
    assert refused(verifier, forged({"alg": algorithm, "typ": "JWT", "kid": kid}, claims(), None))


@pytest.mark.parametrize("kid", ["hs", "rs", "es", None])
def test_a_public_key_is_no_secret_to_sign_with(
    verifier: TokenVerifier, rsa_file: Path, kid: str | None
) -> None:
    """The HS256/RS256 confusion: whoever has the public key signs with it as an HMAC secret."""
    pem = rsa_file.read_bytes()
    header = {"alg": "HS256", "typ": "JWT"} | ({} if kid is None else {"kid": kid})
    for secret in (pem, pem.strip(), pem.replace(b"\n", b"")):
        assert refused(verifier, forged(header, claims(), secret))


@pytest.mark.parametrize(
    "kid",
    [
        "../../../../dev/null",
        "/etc/passwd",
        "rs\0",
        "' OR 1=1 --",
        "",
        "HS",
        7,
        None,
        ["hs"],
        {"a": 1},
        "x" * 5000,
    ],
)
def test_only_listed_key_names_are_looked_at(verifier: TokenVerifier, kid: Any) -> None:
    for secret in (b"", SECRET.encode()):
        assert refused(verifier, forged({"alg": "HS256", "typ": "JWT", "kid": kid}, claims(), secret))


def test_a_key_that_comes_with_the_token_is_not_used(verifier: TokenVerifier) -> None:
    attacker = ec.generate_private_key(ec.SECP256R1())
    own = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(attacker.public_key()))
    for headers in ({"jwk": own}, {"jku": "https://evil.example/jwks"}, {"x5u": "https://evil.example/x"}):
        token = jwt.encode(claims(), attacker, algorithm="ES256", headers={"kid": "es", **headers})
        assert refused(verifier, token)


@pytest.mark.parametrize("missing", ["exp", "iat", "aud", "iss", "sub"])
def test_every_claim_is_required(verifier: TokenVerifier, missing: str) -> None:
    assert refused(verifier, jwt.encode(claims(**{missing: None}), SECRET, headers={"kid": "hs"}))


@pytest.mark.parametrize(
    "changed",
    [
        {"exp": int(time.time()) - 31, "iat": int(time.time()) - 90},
        {"iat": int(time.time()) + 9_000, "exp": int(time.time()) + 9_999},
        {"nbf": int(time.time()) + 9_000},
        {"aud": "another-service"},
        {"aud": []},
        {"iss": "https://evil.example"},
        {"exp": "tomorrow"},
        {"sub": ""},
        {"sub": "x" * 256},
        {"sub": "two\nlines"},
    ],
    ids=lambda changed: repr(changed)[:40],
)
def test_a_token_that_is_not_for_us_or_not_for_now_is_refused(verifier: TokenVerifier, changed: Any) -> None:
    assert refused(verifier, jwt.encode(claims(**changed), SECRET, headers={"kid": "hs"}))


@pytest.mark.parametrize(
    "payload", [{"sub": 7}, {"sub": {"a": 1}}, {"iss": 7}, {"exp": None}, {"exp": 1e400}]
)
def test_claims_of_the_wrong_type_are_refused(verifier: TokenVerifier, payload: dict[str, Any]) -> None:
    token = forged({"alg": "HS256", "typ": "JWT", "kid": "hs"}, {**claims(), **payload}, SECRET.encode())
    assert refused(verifier, token)


def test_clocks_may_differ_by_the_leeway(verifier: TokenVerifier) -> None:
    now = int(time.time())
    token = jwt.encode(claims(iat=now + 20, exp=now - 20), SECRET, headers={"kid": "hs"})
    assert verifier.verify(token).subject == "mary"


@pytest.mark.parametrize("token", ["", ".", "..", "a.b.c", "eyJ", "é.é.é", "\0", "." * 8000, "[" * 8000])
def test_what_is_no_token_is_refused(verifier: TokenVerifier, token: str) -> None:
    assert refused(verifier, token)


def test_a_changed_payload_is_refused(verifier: TokenVerifier) -> None:
    header, _, signature = jwt.encode(claims(), SECRET, headers={"kid": "hs"}).split(".")
    assert refused(verifier, f"{header}.{encoded(claims(sub='admin')).decode()}.{signature}")


def key_set(*keys: tuple[str, Any]) -> str:
    entries = []
    for kid, key in keys:
        public = key.public_key()
        algorithm = (
            jwt.algorithms.RSAAlgorithm
            if isinstance(public, rsa.RSAPublicKey)
            else jwt.algorithms.ECAlgorithm
        )
        entries.append({**json.loads(algorithm.to_jwk(public)), "kid": kid, "use": "sig"})
    return json.dumps({"keys": entries})


def test_keys_come_and_go_with_the_key_set(tmp_path: Path, clock) -> None:
    path = tmp_path / "jwks.json"
    path.write_text(key_set(("one", RSA_KEY)))
    verifier = TokenVerifier(
        JwtSettings(issuer=ISSUER, audience=AUDIENCE, jwks_file=str(path)), monotonic=clock
    )
    old = jwt.encode(claims(), RSA_KEY, algorithm="RS256", headers={"kid": "one"})
    new = jwt.encode(claims(), EC_KEY, algorithm="ES256", headers={"kid": "two"})
    assert verifier.verify(old).kid == "one"
    assert refused(verifier, new)
    path.write_text(key_set(("two", EC_KEY)))
    clock.advance(1.0)
    assert verifier.verify(new).kid == "two"
    assert refused(verifier, old)
    assert not verifier.is_trusted("one")


def test_keys_of_the_set_that_are_of_no_use_here_are_passed_over(tmp_path: Path) -> None:
    """Identity providers publish encryption keys and newer algorithms beside the one that counts."""
    entries = json.loads(key_set(("one", RSA_KEY)))["keys"]
    encryption = json.loads(key_set(("enc", rsa.generate_private_key(public_exponent=65537, key_size=2048))))
    entries.append({**encryption["keys"][0], "use": "enc", "alg": "RSA-OAEP"})
    entries += [{"kty": "unheard-of", "kid": "x"}, {"kty": "OKP", "crv": "Ed25519", "x": "AAAA", "kid": "y"}]
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps({"keys": entries}))
    verifier = TokenVerifier(JwtSettings(issuer=ISSUER, audience=AUDIENCE, jwks_file=str(path)))
    assert verifier.is_trusted("one")
    assert not any(verifier.is_trusted(kid) for kid in ("enc", "x", "y"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"keys": 7}',
        '{"keys": [7]}',
        '{"keys": [{}]}',
        '{"keys": [{"kty": "oct", "k": "AAAA"}]}',
        key_set(("a", RSA_KEY), ("a", EC_KEY)),
        key_set(("a", rsa.generate_private_key(public_exponent=65537, key_size=1024))),
        key_set(("a", ec.generate_private_key(ec.SECP384R1()))),
    ],
)
def test_a_key_set_that_cannot_be_trusted_stops_the_start(tmp_path: Path, text: str) -> None:
    path = tmp_path / "jwks.json"
    path.write_text(text)
    with pytest.raises(SettingsError):
        TokenVerifier(JwtSettings(issuer=ISSUER, audience=AUDIENCE, jwks_file=str(path)))


def test_a_private_or_foreign_key_file_stops_the_start(tmp_path: Path, rsa_file: Path) -> None:
    private = tmp_path / "private.pem"
    private.write_bytes(
        RSA_KEY.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("not a key")
    for algorithm, path in (
        ("RS256", private),
        ("RS256", garbage),
        ("ES256", rsa_file),
        ("RS256", tmp_path / "no"),
    ):
        entry = JwtKeySettings(algorithm=algorithm, public_key_file=str(path))
        with pytest.raises(SettingsError, match="public_key_file: needs"):
            TokenVerifier(JwtSettings(issuer=ISSUER, audience=AUDIENCE, keys=(entry,)))


def test_a_short_secret_stops_the_start() -> None:
    with pytest.raises(ValueError, match="secret"):
        JwtKeySettings(algorithm="HS256", secret="x" * 31)
