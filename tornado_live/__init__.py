"""tornado-live: a server between web frontends and Google's Gemini Live API."""

from importlib.metadata import PackageNotFoundError, version

import pluggy

try:
    __version__ = version("tornado-live")
except PackageNotFoundError:  # running from a checkout that was never installed
    __version__ = "0+unknown"

hookimpl = pluggy.HookimplMarker("tornado_live")
"""Marks a plugin's implementation of a hook of `tornado_live.hookspecs`."""

__all__ = ["__version__", "hookimpl"]
