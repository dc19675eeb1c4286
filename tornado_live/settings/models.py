"""Every setting: its name, type, default and meaning.

`config/default.yaml` and `docs/settings.md` are made from these models (`settings.show`).
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    model_validator,
)

from tornado_live.settings.units import Duration, Port, PositiveDuration, PositiveSize, Size

Scope = Literal["instructions:custom"]
"""What a key or token may do beyond using the server: send its own system instruction."""


class Section(BaseModel):
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
    )


class TlsSettings(Section):
    """A certificate and its key."""

    cert_file: str
    """Certificate chain, PEM."""
    key_file: str
    """Its private key, PEM."""


class ServerSettings(Section):
    """Where the server listens, and what it takes from a connection."""

    host: str = "localhost"
    """Address to listen on. `localhost` is 127.0.0.1 and ::1; `0.0.0.0` is every IPv4 address."""
    port: Port = 3000
    """Port of REST, page and `/ws/live-audio`; 0 takes a free one. The variable `PORT` sets it too."""
    websocket_port: Port | None = None
    """A second port that serves the WebSocket at its root path, for clients that expect it there."""
    tls: TlsSettings | None = None
    """Serve HTTPS and WSS with this certificate; null for plain HTTP, behind a proxy or on this machine."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses or networks (`10.0.0.0/8`) whose X-Forwarded-For is believed."""
    processes: PositiveInt = 1
    """Server processes. More than one needs a store that they share."""
    loop: Literal["auto", "asyncio", "uvloop"] = "auto"
    """Event loop; `auto` takes uvloop where it is installed."""
    max_message: PositiveSize = 2**20
    """Largest WebSocket message."""
    max_body: PositiveSize = 64 * 2**10
    """Largest body of a REST call other than `/transcribe`."""
    max_transcribe_body: PositiveSize = 70 * 10**6
    """Largest body of `/transcribe`: base64 of `audio.max_whole` with its JSON around it."""
    max_header: PositiveSize = 16 * 2**10
    """Largest header of an HTTP request."""
    body_timeout: PositiveDuration = 60.0
    """A body must have arrived by then."""
    idle_connection_timeout: PositiveDuration = 75.0
    """An HTTP connection without a request is closed after this."""
    ping_interval: Duration = 20.0
    """A WebSocket is pinged this often; 0 never."""
    ping_timeout: Duration = 20.0
    """A WebSocket that has not answered a ping by then is closed; not above `ping_interval`."""
    drain_timeout: Duration = 30.0
    """When the server is told to stop, open exchanges may finish within this."""


class CorsSettings(Section):
    """Which web pages may use the server."""

    origins: tuple[str, ...] = tuple(
        f"http://{host}:{port}" for host in ("localhost", "127.0.0.1") for port in (3000, 3009, 3010)
    )
    """Origins of those pages, exactly as browsers send them; `*` for any."""
    max_age: Duration = 600.0
    """Browsers may remember the answer to a preflight this long."""
    credentials: bool = False
    """Let pages send cookies; never together with `*`."""


class QuotaSettings(Section):
    """What may be used; 0 means no limit."""

    requests_per_minute: NonNegativeInt = 0
    """REST calls."""
    messages_per_second: NonNegativeInt = 0
    """WebSocket messages of one connection (of all together where it stands for an address or the total);
    twice as many may come at once."""
    audio_bytes_per_minute: Size = 0
    """Bytes of audio as they arrive, after base64."""
    sessions: NonNegativeInt = 0
    """Sessions open at once; 0 for an owner: `sessions.per_owner`."""
    new_sessions_per_minute: NonNegativeInt = 0
    """Sessions started."""
    audio_seconds_per_day: NonNegativeInt = 0
    """Decoded audio; the day begins with its first second."""
    tokens_per_day: NonNegativeInt = 0
    """Tokens that the model bills; the day begins with the first."""


class LimitSettings(QuotaSettings):
    """What one owner may use; a shared key, and everyone without auth, count per address. 0: no limit."""

    requests_per_minute: NonNegativeInt = 600
    """REST calls."""
    messages_per_second: NonNegativeInt = 60
    """WebSocket messages of one connection; twice as many may come at once."""
    per_address: QuotaSettings = QuotaSettings()
    """Of one client address (an IPv6 network of 64 bits), whoever sends."""
    total: QuotaSettings = QuotaSettings()
    """Of everyone together."""
    redis_url: SecretStr | None = None
    """Count in this Redis, for all servers together, instead of in memory."""


class KeySettings(Section):
    """One API key: its secret, or the SHA-256 of it."""

    name: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+$")
    """Who holds it. The name owns the sessions: a new key under an old name goes on with them."""
    secret: Annotated[SecretStr, Field(min_length=16)] | None = None
    """The key itself, best as `${VARIABLE}`; at least 16 characters."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    """Instead of `secret`: its SHA-256, 64 hexadecimal digits."""
    shared: bool = False
    """Built into a public page: lists no sessions, and its limits count per address."""
    scopes: tuple[Scope, ...] = ()
    """What else the key may do."""
    limits: QuotaSettings | None = None
    """What is named here replaces the same limit of `limits`."""
    created_at: AwareDatetime | None = None
    """When it was made, ISO 8601 with a time zone."""
    expires_at: AwareDatetime | None = None
    """Refused from then on."""
    revoked_at: AwareDatetime | None = None
    """Refused since then."""

    @model_validator(mode="after")
    def _one_secret(self) -> Self:
        if (self.secret is None) == (self.sha256 is None):
            raise ValueError("needs either secret or sha256")
        return self


class JwtKeySettings(Section):
    """One key that tokens may be signed with, for one algorithm only."""

    algorithm: Literal["HS256", "RS256", "ES256"]
    """Tokens with this key are accepted under this algorithm alone."""
    kid: str | None = None
    """The `kid` that a token names it by; without one, a token without `kid` is tried."""
    secret: Annotated[SecretStr, Field(min_length=32)] | None = None
    """For HS256, at least 32 characters, best as `${VARIABLE}`."""
    public_key_file: str | None = None
    """PEM, for RS256 (2048 bits or more) and ES256."""

    @model_validator(mode="after")
    def _fits_the_algorithm(self) -> Self:
        needed, other = "secret", "public_key_file"
        if self.algorithm != "HS256":
            needed, other = other, needed
        if getattr(self, needed) is None or getattr(self, other) is not None:
            raise ValueError(f"{self.algorithm} needs {needed} and no {other}")
        return self


class JwtSettings(Section):
    """Which tokens are good (RFC 7519): `exp`, `iat`, `aud`, `iss` and `sub` are required."""

    issuer: str = Field(min_length=1)
    """The `iss` that a token must have."""
    audience: str = Field(min_length=1)
    """The `aud` that a token must have."""
    keys: tuple[JwtKeySettings, ...] = ()
    """Keys that tokens may be signed with."""
    jwks_file: str | None = None
    """Public keys as a JSON Web Key Set (RFC 7517), read again when it changes."""
    leeway: Duration = 30.0
    """How far the clocks of issuer and server may differ."""

    @model_validator(mode="after")
    def _some_key(self) -> Self:
        if not self.keys and self.jwks_file is None:
            raise ValueError("needs keys or jwks_file")
        return self


class AuthSettings(Section):
    """Who may use the server."""

    mode: Literal["none", "keys", "jwt"] = "none"
    """`none`: everyone. `keys`: API keys. `jwt`: JSON Web Tokens, and the API keys that are listed."""
    allow_public_without_auth: bool = False
    """Say true to run with `mode: none` on an address that other machines can reach."""
    keys: tuple[KeySettings, ...] = ()
    """API keys."""
    keys_file: str | None = None
    """More of them: what `tornado-live keys` writes; read again when it changes."""
    jwt: JwtSettings | None = None
    """Which tokens `mode: jwt` accepts."""
    timeout: PositiveDuration = 10.0
    """A WebSocket that needs to authenticate and has not by then is closed."""
    ticket_lifetime: PositiveDuration = 30.0
    """A one-use WebSocket ticket must be used within this."""
    failures_per_minute: PositiveInt = 20
    """Wrong keys or tokens from one address, after which it must wait."""
    unauthenticated_per_address: PositiveInt = 20
    """WebSockets of one address that have not authenticated yet."""
    audit_file: str | None = None
    """Who did what, one JSON object a line; without it, part of the log."""


class SessionSettings(Section):
    """How long sessions live, and how many."""

    duration: PositiveDuration = 900.0
    """A session expires after this."""
    extend_by: Duration = 0.0
    """`extend_session` moves the end by so much; 0: clients may not extend their sessions."""
    max_duration: PositiveDuration = 3600.0
    """However often it is extended, a session expires after this."""
    idle_timeout: PositiveDuration = 300.0
    """A session ends when nothing was received and no reply was under way for this long."""
    resume_grace: Duration = 30.0
    """A session whose WebSocket is gone waits this long for it to come back."""
    replay_window: PositiveDuration = 12.0
    """Events of so long are kept for a client that comes back; a second of speech costs 48 kB."""
    max: PositiveInt = 500
    """Sessions open at once on this server."""
    per_owner: PositiveInt = 50
    """Sessions open at once of one owner."""
    cleanup_interval: PositiveDuration = 5.0
    """How often expired and idle sessions are looked for."""
    keep_records: Duration = 7 * 86_400.0
    """Records and transcripts of ended sessions are deleted after this."""
    start_wait: Duration = 3.0
    """Starting a session waits this long for the model before it answers `connecting`."""
    end_wait: Duration = 3.0
    """Ending a session waits this long for the open exchange."""


class VadSettings(Section):
    """The model's voice activity detection; null leaves a value to the model."""

    start_sensitivity: Literal["high", "low"] | None = None
    """How readily speech is found to begin."""
    end_sensitivity: Literal["high", "low"] | None = None
    """How readily speech is found to be over."""
    prefix_padding_ms: Annotated[int, Field(ge=0, le=5000)] | None = None
    """Milliseconds of speech that make a beginning."""
    silence_duration_ms: Annotated[int, Field(ge=0, le=10_000)] | None = None
    """Milliseconds of silence that make an end."""


class GeminiSettings(Section):
    """The model, and the way to it."""

    api_key: SecretStr | None = None
    """Google's API key; better left to the variables of `api_key_env`."""
    api_key_env: tuple[str, ...] = ("GOOGLE_API_KEY", "GEMINI_API_KEY")
    """Environment variables to take the key from; the first that is set counts."""
    base_url: str | None = None
    """Another address than Google's, https only; it is trusted with the key."""
    base_url_hosts: tuple[str, ...] = ("*.googleapis.com",)
    """Hosts that `base_url` may name besides this machine; `*.` stands for any subdomain."""
    ca_file: str | None = None
    """Certificates to trust for `base_url`, PEM; null for the system's."""
    api_version: str = "v1beta"
    """Version of the Gemini API."""
    default_model: str = "gemini-3.8-live"
    """Model of a session that asks for none."""
    aliases: dict[str, str] = Field(
        default_factory=lambda: {
            "gemini-live-2.5-flash-preview": "gemini-3.8-live",
            "gemini-2.0-flash-live-001": "gemini-3.8-live",
            "gemini-2.0-flash-exp": "gemini-3.8-live",
            "gemini-2.5-flash-preview-native-audio-dialog": "gemini-3.8-live",
            "gemini-2.5-flash-exp-native-audio-thinking-dialog": "gemini-3.8-live-extended-thinking",
        }
    )
    """Names that clients may ask for, and the model that serves each. A table here replaces this one."""
    voice: str | None = None
    """Voice of audio replies; null for the model's."""
    language: str | None = None
    """Language of the conversation (BCP 47, `en-US`); null lets the model find out."""
    system_instruction: str | None = None
    """What the model is told before every conversation."""
    client_system_instruction: bool = False
    """Let every client add its own instruction, after the one above."""
    vad: VadSettings = VadSettings()
    """The model's voice activity detection."""
    compression: bool = True
    """Let the model's context slide when it is full; false ends long conversations."""
    connect_timeout: PositiveDuration = 10.0
    """A connection to the model must be ready by then."""
    nudge: str | None = None
    """Written once, in the user's name, to a model that ends its turn without an answer; null for nothing."""


class AudioSettings(Section):
    """What recordings may hold, and how replies are delivered."""

    transcribe_wait: Duration = 1.0
    """`/transcribe` answers a chunk this long after a newer one has arrived."""
    transcribe_max: PositiveDuration = 20.0
    """`/transcribe` answers by then, whatever has been heard."""
    one_shot_max: PositiveDuration = 900.0
    """Longest recording that one call of `/transcribe` may hold."""
    output_lead: PositiveDuration = 2.0
    """Reply audio is sent at most this far ahead of its playback."""
    credit_rate: PositiveFloat = 2.0
    """Live audio may arrive this many times faster than real time …"""
    credit_burst: Duration = 30.0
    """… and this far ahead besides."""
    max_header: PositiveSize = 64 * 2**10
    """Largest header of a recording, or element of it."""
    max_block: PositiveSize = 64 * 2**10
    """Largest single packet or block of audio."""
    max_pending: PositiveSize = 128 * 2**10
    """Most that is held of an element that has not arrived whole."""
    max_whole: PositiveSize = 50 * 10**6
    """Largest file of a format that can only be decoded whole."""
    max_seconds_per_byte: PositiveFloat = 0.01
    """Audio that one encoded byte may stand for, on average."""
    min_rate_hz: PositiveInt = 8_000
    """Lowest sample rate that a recording may declare."""
    max_rate_hz: PositiveInt = 192_000
    """Highest sample rate that a recording may declare."""
    max_channels: PositiveInt = 8
    """Most channels that a recording may declare."""


class CodecSettings(Section):
    """Codec plugins."""

    disabled: tuple[str, ...] = ()
    """Plugins that are not loaded: `[mp3]`."""
    plugins_dir: str | None = None
    """Folder of single-file plugins to load besides the installed ones."""


class StoreSettings(Section):
    """What survives a restart."""

    path: Annotated[str, Field(min_length=1)] = "tornado-live.sqlite3"
    """SQLite file of sessions and transcripts, for one server at a time; `:memory:` keeps nothing."""


class LoggingSettings(Section):
    """What the server writes about itself."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least that is logged."""
    format: Literal["auto", "console", "json"] = "auto"
    """`auto`: for people on a terminal, JSON lines otherwise."""


class MetricsSettings(Section):
    """Numbers for monitoring."""

    enabled: bool = False
    """Serve Prometheus metrics at `/metrics`."""


class EmulatorSettings(Section):
    """The local stand-in for Gemini."""

    mode: Literal["auto", "always", "never"] = "auto"
    """`auto`: used when there is no key; `never`: without a key the server does not start."""
    scenario: str | None = None
    """YAML file of faults and scripts that it plays."""


class Settings(Section):
    server: ServerSettings = ServerSettings()
    cors: CorsSettings = CorsSettings()
    auth: AuthSettings = AuthSettings()
    sessions: SessionSettings = SessionSettings()
    gemini: GeminiSettings = GeminiSettings()
    audio: AudioSettings = AudioSettings()
    codecs: CodecSettings = CodecSettings()
    store: StoreSettings = StoreSettings()
    limits: LimitSettings = LimitSettings()
    logging: LoggingSettings = LoggingSettings()
    metrics: MetricsSettings = MetricsSettings()
    emulator: EmulatorSettings = EmulatorSettings()
