"""HTTP and WebSocket: parse, call, write."""
