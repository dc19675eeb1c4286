"""Every error that can reach a client, each knowing how it is told.

    LiveError
    ├── RequestError                 the client's message is wrong
    │   ├── InvalidJson              invalid_json
    │   ├── InvalidField             invalid_field
    │   ├── UnknownMessage           unknown_message
    │   ├── InvalidBase64            invalid_base64
    │   ├── UnknownModel             unknown_model
    │   ├── TooLarge                 too_large
    │   ├── PathNotFound             not_found
    │   └── MethodNotAllowed         method_not_allowed
    ├── AudioError                   the audio is wrong
    │   ├── EmptyAudio               empty_audio
    │   ├── UnsupportedAudio         unsupported_audio
    │   ├── AudioHeaderMissing       audio_header_missing
    │   ├── AudioMalformed           audio_malformed
    │   ├── AudioBomb                audio_bomb
    │   ├── AudioTooFast             audio_too_fast
    │   ├── AudioTooLong             audio_too_long
    │   └── CodecFailed              codec_failed
    ├── SessionError                 the session cannot do this
    │   ├── NoSession                no_session
    │   ├── SessionNotFound          session_not_found
    │   ├── SessionEnded             session_ended
    │   ├── SessionExpired           session_expired
    │   ├── InactivityTimeout        inactivity_timeout
    │   ├── SessionReplaced          session_replaced
    │   ├── ResumeRefused            resume_refused
    │   ├── TooManySessions          too_many_sessions
    │   ├── UplinkBusy               uplink_busy
    │   ├── ExtensionRefused         extension_refused
    │   └── SlowReader               slow_reader
    ├── AccessError                  the caller may not do this
    │   ├── AuthRequired             auth_required
    │   ├── AuthFailed               auth_failed
    │   ├── AuthTimeout              auth_timeout
    │   ├── OriginRefused            origin_refused
    │   ├── Forbidden                forbidden
    │   └── RateLimited              rate_limit_exceeded
    ├── UpstreamError                Gemini, or the way to it, failed
    │   ├── UpstreamUnavailable      upstream_unavailable
    │   ├── UpstreamTimeout          upstream_timeout
    │   ├── UpstreamRefused          upstream_refused
    │   └── UpstreamQuota            upstream_quota
    └── ServerError                  this server failed or is busy
        ├── InternalError            internal_error
        ├── ShuttingDown             server_shutting_down
        └── StoreUnavailable         store_unavailable

`SettingsError` stands apart: it is told to the operator at start, never to a client.
"""

from __future__ import annotations

from typing import ClassVar


class LiveError(Exception):
    """An error with a stable `code`, an HTTP `status` and a WebSocket `close_code`.

    The text is one sentence for a person; it never holds a path, a key or a traceback.

    Args:
        message: the sentence; the class's `default_message` if left out.
        retry_after_s: seconds after which trying again makes sense, if known.
    """

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    close_code: ClassVar[int] = 1011
    retryable: ClassVar[bool] = False
    default_message: ClassVar[str] = "Something went wrong on the server."

    def __init__(self, message: str | None = None, *, retry_after_s: float | None = None) -> None:
        super().__init__(message or self.default_message)
        self.retry_after_s = retry_after_s

    @property
    def message(self) -> str:
        return str(self)


# The client's message is wrong.


class RequestError(LiveError):
    code = "bad_request"
    status = 400
    close_code = 1007
    default_message = "The request cannot be understood."


class InvalidJson(RequestError):
    code = "invalid_json"
    default_message = "The message is not valid JSON."


class InvalidField(RequestError):
    """A field is missing or has the wrong type or value; the sentence names it."""

    code = "invalid_field"
    default_message = "A field of the message has a wrong value."


class UnknownMessage(RequestError):
    code = "unknown_message"
    default_message = "The server does not know this message type."


class InvalidBase64(RequestError):
    code = "invalid_base64"
    default_message = "audio_data is not valid base64."


class UnknownModel(RequestError):
    code = "unknown_model"
    default_message = "The server does not know this model."


class TooLarge(RequestError):
    code = "too_large"
    status = 413
    close_code = 1009
    default_message = "The message is larger than the server accepts."


class PathNotFound(RequestError):
    code = "not_found"
    status = 404
    default_message = "There is nothing at this address."


class MethodNotAllowed(RequestError):
    code = "method_not_allowed"
    status = 405
    default_message = "This address does not accept this HTTP method."


# The audio is wrong.


class AudioError(LiveError):
    code = "audio_error"
    status = 400
    close_code = 1007
    default_message = "The audio cannot be used."


class EmptyAudio(AudioError):
    code = "empty_audio"
    default_message = "audio_data is empty; send at least one byte of audio."


class UnsupportedAudio(AudioError):
    """No codec recognises the first bytes; the sentence lists what is supported."""

    code = "unsupported_audio"
    status = 415
    close_code = 1003
    default_message = "The server cannot decode this kind of audio."


class AudioHeaderMissing(AudioError):
    """A continuation of a stream whose header this session never received."""

    code = "audio_header_missing"
    default_message = (
        "This chunk continues a recording whose first chunk, which holds the header, never arrived; "
        "stop and start the recorder."
    )


class AudioMalformed(AudioError):
    code = "audio_malformed"
    default_message = "The audio data is damaged."


class AudioBomb(AudioError):
    """The bytes claim more audio, or larger structures, than any honest recording holds."""

    code = "audio_bomb"
    status = 413
    close_code = 1008
    default_message = "The audio claims to hold more than the server is willing to decode."


class AudioTooFast(AudioError):
    code = "audio_too_fast"
    status = 429
    close_code = 4429
    retryable = True
    default_message = "Audio arrives faster than real time allows; slow down."


class AudioTooLong(AudioError):
    code = "audio_too_long"
    status = 413
    close_code = 1009
    default_message = "The audio is longer than the server accepts in one request."


class CodecFailed(AudioError):
    """A codec plugin raised, hung or returned something that is not audio; the sentence names it."""

    code = "codec_failed"
    status = 500
    close_code = 1011
    default_message = "The codec for this audio failed."


# The session cannot do this.


class SessionError(LiveError):
    code = "session_error"
    status = 400
    close_code = 4404


class NoSession(SessionError):
    code = "no_session"
    default_message = "No session is open on this connection; send start_session first."


class SessionNotFound(SessionError):
    """There is no such session for this caller: it does not exist, or it is someone else's."""

    code = "session_not_found"
    status = 404
    default_message = "There is no session with this id."


class SessionEnded(SessionError):
    code = "session_ended"
    status = 410
    default_message = "This session has ended; start a new one."


class SessionExpired(SessionError):
    code = "session_expired"
    status = 410
    close_code = 4410
    default_message = "This session has reached its maximum duration; start a new one."


class InactivityTimeout(SessionError):
    code = "inactivity_timeout"
    status = 410
    close_code = 4408
    default_message = "The session was closed because nothing was sent for a while; start a new one."


class SessionReplaced(SessionError):
    code = "session_replaced"
    status = 409
    close_code = 4409
    default_message = "Another connection has taken this session over."


class ResumeRefused(SessionError):
    """The resume token is not the session's newest one; nothing else is said about the session."""

    code = "resume_refused"
    status = 404
    default_message = "The session cannot be resumed with this token; start a new one."


class TooManySessions(SessionError):
    code = "too_many_sessions"
    status = 503
    close_code = 1013
    retryable = True
    default_message = "The server is at its limit of sessions; try again soon."


class UplinkBusy(SessionError):
    code = "uplink_busy"
    status = 409
    close_code = 1008
    retryable = True
    default_message = "Another connection is sending audio to this session."


class ExtensionRefused(SessionError):
    code = "extension_refused"
    status = 403
    default_message = "This server does not let sessions be extended any further."


class SlowReader(SessionError):
    code = "slow_reader"
    status = 503
    close_code = 4413
    retryable = True
    default_message = "The connection reads more slowly than the session speaks; reconnect and resume."


# The caller may not do this.


class AccessError(LiveError):
    code = "access_denied"
    status = 403
    close_code = 1008


class AuthRequired(AccessError):
    code = "auth_required"
    status = 401
    default_message = "Authentication is needed: send X-API-Key, Authorization: Bearer, or an auth message."


class AuthFailed(AccessError):
    code = "auth_failed"
    status = 401
    default_message = "The key or token is not valid."


class AuthTimeout(AccessError):
    code = "auth_timeout"
    status = 401
    default_message = "No authentication arrived in time."


class OriginRefused(AccessError):
    code = "origin_refused"
    default_message = "Pages of this origin may not use this server."


class Forbidden(AccessError):
    code = "forbidden"
    default_message = "This key may not do that."


class RateLimited(AccessError):
    code = "rate_limit_exceeded"
    status = 429
    close_code = 4429
    retryable = True
    default_message = "Too many requests; wait before trying again."


# Gemini, or the way to it, failed.


class UpstreamError(LiveError):
    code = "upstream_error"
    status = 502
    close_code = 4502
    retryable = True
    default_message = "The speech model failed."


class UpstreamUnavailable(UpstreamError):
    code = "upstream_unavailable"
    default_message = "The speech model cannot be reached; try again soon."


class UpstreamTimeout(UpstreamError):
    code = "upstream_timeout"
    default_message = "The speech model did not answer in time; try again soon."


class UpstreamRefused(UpstreamError):
    """Refused for a reason that trying again does not mend: set-up, model name or key."""

    code = "upstream_refused"
    retryable = False
    default_message = "The speech model refused this session."


class UpstreamQuota(UpstreamError):
    code = "upstream_quota"
    status = 503
    close_code = 4429
    default_message = "The speech model's quota is used up; try again later."


# This server failed or is busy.


class ServerError(LiveError):
    code = "server_error"
    status = 500


class InternalError(ServerError):
    code = "internal_error"
    default_message = "Something went wrong on the server; it has been logged."


class ShuttingDown(ServerError):
    code = "server_shutting_down"
    status = 503
    close_code = 1012
    retryable = True
    default_message = "The server is restarting; try again soon."


class StoreUnavailable(ServerError):
    code = "store_unavailable"
    status = 503
    close_code = 1013
    retryable = True
    default_message = "The server cannot reach its session store; try again soon."


class SettingsError(Exception):
    """The settings cannot be used.

    Args:
        problems: one sentence each, naming the file (or variable), the key and the cure.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
