"""Every way of getting at somebody's session by its id."""

from __future__ import annotations

from raw import KeepAlive, connected, request

API = "/api/v1/live-audio"
LABEL = "session_1700000000000_k3v9x2q1z"


def takeover(label: str, key: str) -> list[bytes]:
    """One request of each kind."""
    return [
        request("GET", f"{API}/session/{label}/status", X_API_Key=key),
        request("GET", f"{API}/session/{label}/transcript", X_API_Key=key),
        request("POST", f"{API}/session/end", {"session_id": label}, X_API_Key=key),
        request(
            "POST",
            f"{API}/transcribe",
            {"session_id": label, "audio_data": "AAAA", "format": "pcm"},
            X_API_Key=key,
        ),
    ]


async def sessions_taken(port: int, tries: int, owner: str, attacker: str) -> int:
    """Answers that the attacker got about the owner's session."""
    async with connected(port) as streams:
        client = KeepAlive(*streams)
        started = request("POST", f"{API}/session/start", {"session_id": LABEL}, X_API_Key=owner)
        assert (await client.ask(started))[0] == 200
        wires = takeover(LABEL, attacker)
        answers = [await client.ask(wires[number % len(wires)]) for number in range(tries)]
    return sum(status != 404 for status, _ in answers)
