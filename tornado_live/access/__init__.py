"""Who may do how much: identity, origins, limits, audit. Knows no web framework."""
