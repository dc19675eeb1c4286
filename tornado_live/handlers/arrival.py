"""The order in which one client's requests reached this server.

A browser posts its chunks on several connections at once; the one whose head arrived first was sent
first. A ticket is taken before the body is read.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Final

WAIT_S: Final = 1.0


class Ticket:
    """A request's place; give it back with `release` when its chunk has been handed over."""

    def __init__(self, order: dict[Ticket, None]) -> None:
        self._order = order
        self._released: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        order[self] = None

    async def turn(self) -> None:
        """Waits until every earlier request has been released, but not longer than a second."""
        earlier = []
        for ticket in self._order:
            if ticket is self:
                break
            earlier.append(ticket._released)
        if earlier:
            await asyncio.wait(earlier, timeout=WAIT_S)

    def release(self) -> None:
        """May be called twice."""
        self._order.pop(self, None)
        if not self._released.done():
            self._released.set_result(None)


class ArrivalOrders:
    """One order for each client: its owner and address, since the session is named in the body only."""

    def __init__(self) -> None:
        self._orders: defaultdict[tuple[str, str], dict[Ticket, None]] = defaultdict(dict)

    def take(self, owner: str, address: str) -> Ticket:
        for key in [key for key, order in self._orders.items() if not order]:
            del self._orders[key]
        return Ticket(self._orders[owner, address])
