"""Where the server listens: sockets, TLS, and Tornado's HTTP servers on them."""

from __future__ import annotations

import errno
import socket
import ssl

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application

from tornado_live.errors import SettingsError
from tornado_live.settings import ServerSettings, TlsSettings

SEND_BUFFER_BYTES = 64 * 2**10


class Listeners:
    """The HTTP servers of one process, all with the same limits and certificate.

    Raises:
        SettingsError: the certificate cannot be read.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self._settings = settings
        self._servers: list[HTTPServer] = []
        self._tls: ssl.SSLContext | None = None
        if settings.tls is not None:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.minimum_version = ssl.TLSVersion.TLSv1_2
            _load_certificate(self._tls, settings.tls)

    def open(self, application: Application, setting: str, port: int) -> int:
        """Listens; `setting` is the one to blame where it cannot. Returns the port, a free one for 0.

        Raises:
            SettingsError: the port is taken, or the host is not an address of this machine.
        """
        settings = self._settings
        http = HTTPServer(
            application,
            ssl_options=self._tls,
            max_body_size=settings.max_transcribe_body,
            max_header_size=settings.max_header,
            body_timeout=settings.body_timeout,
            idle_connection_timeout=settings.idle_connection_timeout,
        )
        try:
            sockets = _bound(settings.host, port)
        except OSError as exc:
            variable = f"TORNADO_LIVE__SERVER__{setting.upper()}"
            raise SettingsError(
                [
                    f"server.{setting}: {settings.host}:{port} cannot be listened on: {exc.strerror}; "
                    f"set another one, for example by the variable {variable}."
                ]
            ) from exc
        for each in sockets:
            # The kernel's default hides a minute of audio from a reader that has stopped reading.
            each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        http.add_sockets(sockets)
        self._servers.append(http)
        return int(sockets[0].getsockname()[1])

    def reload_certificate(self) -> None:
        """Reads the certificate's files again. Raises SettingsError; then the old one stays."""
        if self._tls is not None and self._settings.tls is not None:
            _load_certificate(self._tls, self._settings.tls)

    def stop(self) -> None:
        """Takes no new connections."""
        for server in self._servers:
            server.stop()

    async def close_connections(self) -> None:
        for server in self._servers:
            await server.close_all_connections()


def _bound(host: str, port: int) -> list[socket.socket]:
    """Listening sockets; `localhost` is 127.0.0.1 and, with IPv6, ::1, whatever the hosts file says.

    Raises:
        OSError: taken, or not an address of this machine.
    """
    if host != "localhost":
        return bind_sockets(port, host)
    sockets = bind_sockets(port, "127.0.0.1")
    try:
        return sockets + bind_sockets(sockets[0].getsockname()[1], "::1")
    except OSError as exc:
        if exc.errno == errno.EADDRINUSE:
            for each in sockets:
                each.close()
            raise
        return sockets


def _load_certificate(context: ssl.SSLContext, tls: TlsSettings) -> None:
    try:
        # A pair that does not match would spoil the context that is in use.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tls.cert_file, tls.key_file)
        context.load_cert_chain(tls.cert_file, tls.key_file)
    except OSError as exc:
        raise SettingsError([f"server.tls: the certificate or its key cannot be read: {exc}."]) from exc
