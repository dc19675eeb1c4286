"""What the handlers call: the parts that `app.py` put together."""

from __future__ import annotations

from dataclasses import dataclass

from tornado_live.access.identity import Authenticator, Caller
from tornado_live.access.limits import Limiter
from tornado_live.access.origins import OriginPolicy
from tornado_live.access.proxies import TrustedProxies
from tornado_live.errors import Forbidden
from tornado_live.handlers.arrival import ArrivalOrders
from tornado_live.plugins import CodecRegistry
from tornado_live.sessions.oneshot import OneShot
from tornado_live.sessions.options import SessionOptions
from tornado_live.sessions.registry import SessionRegistry
from tornado_live.settings import Settings
from tornado_live.upstream.gemini import GeminiConnector
from tornado_live.upstream.models import ModelCatalogue

INSTRUCTIONS = "instructions:custom"
"""The scope that lets a caller send a system instruction."""


@dataclass(slots=True)
class Services:
    """One server's parts.

    Attributes:
        engine: what answers, for people: `Gemini`, or the name of the offline demo engine.
        draining: the server is about to stop; new sessions are refused.
    """

    settings: Settings
    authenticator: Authenticator
    origins: OriginPolicy
    proxies: TrustedProxies
    limiter: Limiter
    registry: SessionRegistry
    one_shot: OneShot
    catalogue: ModelCatalogue
    codecs: CodecRegistry
    arrivals: ArrivalOrders
    engine: str
    connector: GeminiConnector
    draining: bool = False

    def not_ready(self) -> list[str]:
        """What keeps new sessions from being started."""
        reasons = {
            "the server is shutting down": self.draining,
            "the link to the model is still loading": not self.connector.ready,
            "the session store fails": any(session.store_failed for session in self.registry.live),
        }
        return [reason for reason, holds in reasons.items() if holds]

    def check_options(self, options: SessionOptions, caller: Caller) -> SessionOptions:
        """The options, if this caller may have them.

        Raises:
            UnknownModel
            Forbidden: the caller may not send a system instruction.
        """
        self.catalogue.resolve(options.model)
        allowed = self.settings.gemini.client_system_instruction or INSTRUCTIONS in caller.scopes
        if options.system_instruction is not None and not allowed:
            raise Forbidden("This server does not take system_instruction from this caller.")
        return options
