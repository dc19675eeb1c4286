"""The Python client of a tornado-live server: `LiveClient` by WebSocket, `RestClient` by REST.

Both speak the wire as it is documented for every client; nothing here is known to this server alone.
"""

from tornado_live.client.base import ClientError, Message, StartOptions
from tornado_live.client.rest import RestClient
from tornado_live.client.ws import LiveClient

__all__ = ["ClientError", "LiveClient", "Message", "RestClient", "StartOptions"]
