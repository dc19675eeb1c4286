"""Fault runs: real servers, a Gemini that misbehaves on purpose, failing networks, and clients that count."""
