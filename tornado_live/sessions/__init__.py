"""Conversations: what they take in, what they say, and who may use them. No sockets, no HTTP."""
