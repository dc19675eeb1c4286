"""Every hook that a plugin can implement (pluggy, project name `tornado_live`)."""

from __future__ import annotations

from collections.abc import Iterable

import pluggy

from tornado_live.audio import Codec

hookspec = pluggy.HookspecMarker("tornado_live")


@hookspec
def tornado_live_codecs() -> Iterable[Codec]:  # type: ignore[empty-body]
    """Return the codecs that this plugin offers.

    Called once, at start. The order decides: plugins registered later are asked first, and the
    built-in codecs, which are marked ``trylast=True``, last; so a plugin's codec wins over a
    built-in one for the same bytes. A name that is taken already is refused at start, unless the
    earlier codec is disabled in the settings.
    """
