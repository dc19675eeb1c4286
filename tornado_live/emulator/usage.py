"""Tokens, counted the way Google bills them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

AUDIO_TOKENS_PER_S = 25
VIDEO_FRAME_TOKENS = {"MEDIA_RESOLUTION_LOW": 64, "MEDIA_RESOLUTION_MEDIUM": 256}


def text_tokens(text: str) -> int:
    """A token is about four characters."""
    return -(-len(text) // 4)


@dataclass(slots=True)
class TokenMeter:
    """One session's tokens. The prompt grows from turn to turn: each turn is billed for all that was before
    it.

    Attributes:
        context: tokens of the whole conversation so far, by modality.
        response: tokens of the reply under way, by modality.
    """

    context: dict[str, float] = field(default_factory=dict)
    response: dict[str, float] = field(default_factory=dict)

    def heard(self, modality: str, tokens: float) -> None:
        self.context[modality] = self.context.get(modality, 0) + tokens

    def said(self, modality: str, tokens: float) -> None:
        self.response[modality] = self.response.get(modality, 0) + tokens

    @property
    def context_tokens(self) -> int:
        return round(sum(self.context.values()))

    def slide(self, target_tokens: int) -> None:
        """The context window is compressed: the oldest tokens leave."""
        factor = target_tokens / max(1.0, sum(self.context.values()))
        self.context = {modality: tokens * factor for modality, tokens in self.context.items()}

    def end_turn(self) -> dict[str, Any]:
        """The `usageMetadata` of the turn; its reply becomes part of the context."""
        prompt = _details(self.context)
        response = _details(self.response)
        prompt_tokens = sum(detail["tokenCount"] for detail in prompt)
        response_tokens = sum(detail["tokenCount"] for detail in response)
        for modality, tokens in self.response.items():
            self.heard(modality, tokens)
        self.response.clear()
        return {
            "promptTokenCount": prompt_tokens,
            "responseTokenCount": response_tokens,
            "totalTokenCount": prompt_tokens + response_tokens,
            "promptTokensDetails": prompt,
            "responseTokensDetails": response,
        }


def _details(tokens: dict[str, float]) -> list[dict[str, Any]]:
    return [{"modality": modality, "tokenCount": round(count)} for modality, count in tokens.items() if count]
