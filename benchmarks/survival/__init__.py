"""Fault runs: real servers, a Gemini that misbehaves on purpose, networks that fail, and clients that count."""
