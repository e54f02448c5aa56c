"""The servers of a run: connected to when they are first needed, and once."""

from contextlib import AsyncExitStack

from grace.catalogue.progress import ProgressHook
from grace.catalogue.spec import Catalogue
from grace.catalogue.store import default_store
from grace.errors import ServerUnavailable
from grace.pipeline.cell import Cell
from grace.pipeline.connection import Connection, ModelUse, connect_model
from grace.pipeline.waiting import Waiting
from grace.settings import RunSettings


class Connections:
    """
    Connects to models when they are first needed, and once.

    Args:
        settings: The run's settings.

        catalogue: Where the models' entries are.

        progress: Hears of downloads.

        waiting: How long a server may take to be ready.

        stack: Closes the connections.
    """

    def __init__(
        self,
        settings: RunSettings,
        catalogue: Catalogue,
        progress: ProgressHook,
        waiting: Waiting,
        stack: AsyncExitStack,
    ) -> None:
        self._settings = settings
        self._catalogue = catalogue
        self._progress = progress
        self._waiting = waiting
        self._stack = stack
        self._open: dict[tuple[str, str | None], Connection] = {}

    async def model(self, use: ModelUse) -> Connection:
        """
        Return the connection to a cell's model.

        Raises:
            GraceError: The server cannot be reached, started or used.
        """
        return await self._connect(use, self._settings.endpoint)

    async def extractor(self, cell: Cell) -> Connection | None:
        """
        Return the connection to the model that extracts; None if the rules work alone.

        Raises:
            GraceError: The server cannot be reached, started or used.
        """
        use = cell.extractor.use
        if use is None:
            return None
        endpoint = self._settings.extractor_endpoint
        if endpoint is None and use.key in self._settings.model:
            endpoint = self._settings.endpoint
        return await self._connect(use, endpoint)

    async def _connect(self, use: ModelUse, endpoint: str | None) -> Connection:
        key = (use.key, endpoint)
        if key not in self._open:
            hook = self._waiting.hook
            hook.message(f"{use.key}: connecting")

            async def attempt() -> Connection:
                return await self._stack.enter_async_context(
                    connect_model(
                        use,
                        self._settings,
                        self._catalogue,
                        default_store(),
                        self._progress,
                        endpoint,
                    )
                )

            what = f"{use.key}: its server"
            server = await self._waiting.until(attempt, ServerUnavailable, what)
            self._open[key] = server
            # The wheel's version stands for llama.cpp's own, which its build does not tell.
            version = server.server.details.get("xllamacpp") or server.server.version
            hook.message(f"{use.key}: answered by {server.server.dialect} {version}".rstrip())
        return self._open[key]
