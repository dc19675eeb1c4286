"""A local Gemini Live: the BidiGenerateContent protocol over TLS on loopback, for tests and for work offline.

`Emulator` runs in the current event loop, `EmulatorThread` on a loop of its own. Google's SDKs reach it by
its address and certificate alone:

    http_options = HttpOptions(
        base_url=emulator.url,
        api_version="v1beta",
        async_client_args={"ssl": ssl.create_default_context(cafile=emulator.ca_file), "proxy": None},
    )
"""

from tornado_live.emulator.options import EmulatorOptions
from tornado_live.emulator.server import Emulator
from tornado_live.emulator.thread import EmulatorThread

__all__ = ["Emulator", "EmulatorOptions", "EmulatorThread"]
