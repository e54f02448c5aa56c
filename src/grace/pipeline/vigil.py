"""
Watching whether a server is still the one that a run began with.

A server may be restarted with another version or another model behind the same
address, without a single request failing. Whenever a query may have reached
another server, the server is asked again who it is before the answer counts.
"""

import asyncio
from collections.abc import Awaitable, Callable

from grace.engine.execute import RetryPolicy
from grace.errors import BadReply, IdentityMismatch, QueryRejected, ServerUnavailable
from grace.inference.client import ServerIdentity
from grace.pipeline.patience import patiently


class Vigil:
    """
    One server, and who it was when it was connected to.

    Args:
        server: Who it was.

        identify: Asks it again.

        doubts: Returns how often there was reason to doubt so far.

        patience: How often a server that does not answer is asked.
    """

    def __init__(
        self,
        server: ServerIdentity,
        identify: Callable[[], Awaitable[ServerIdentity]],
        doubts: Callable[[], int],
        patience: RetryPolicy,
    ) -> None:
        self._server = server
        self._identify = identify
        self._doubts = doubts
        self._patience = patience
        self._settled = doubts()
        self._asking = asyncio.Lock()

    async def confirm(self) -> None:
        """
        Make sure that answers so far are of the same server, if there is doubt.

        Raises:
            IdentityMismatch: They may not be.

            ServerUnavailable: The server does not say who it is.
        """
        seen = self._doubts()
        if seen <= self._settled:
            return
        async with self._asking:
            # Whoever was here before may have asked since.
            if seen <= self._settled:
                return
            begun = self._doubts()
            differences = self._server.differences_to(await self._ask())
            if differences:
                raise IdentityMismatch("the server is another one than before", differences)
            self._settled = begun

    async def _ask(self) -> ServerIdentity:
        async def ask(_: None) -> ServerIdentity:
            try:
                return await self._identify()
            except (QueryRejected, BadReply) as error:
                # It told before: something else answers, perhaps only for now.
                raise ServerUnavailable(f"the server does not say who it is: {error}") from error

        return await patiently(ask, None, self._patience)
