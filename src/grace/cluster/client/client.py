"""
A cluster as Grace uses it: plain objects in and out, every failure a `ClusterError`.

Nothing here knows what a run is.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from grace.cluster.client.api import Api, Patience
from grace.cluster.client.asking import Questions
from grace.cluster.client.connection import Access, read_access
from grace.cluster.client.pods import PodAccess
from grace.cluster.client.storing import ObjectStore


class ClusterClient(ObjectStore, PodAccess, Questions):
    """
    One cluster.

    Args:
        api: Its API.
    """

    @classmethod
    async def connect(cls, context: str | None = None, kubeconfig: Path | None = None) -> Self:
        """
        Return a client for the cluster that a kubeconfig names; nothing is sent yet.

        Args:
            context: Of the kubeconfig; None takes its current one.

            kubeconfig: The file; None takes `KUBECONFIG`, `~/.kube/config`, or
                in a pod its service account.

        Raises:
            UsageError: There is no kubeconfig, or no such context in it.

            ClusterDenied: The login program that it names gave no credentials.
        """

        async def renew() -> Access:
            return await read_access(context, kubeconfig)

        return cls(Api(await renew(), renew=renew))

    @classmethod
    def at(cls, server: str, *, patience: Patience | None = None, seconds: float = 60) -> Self:
        """Return a client for an API that asks for no credentials, such as `kubectl proxy`."""
        return cls(Api(Access(server.rstrip("/")), patience=patience, request_seconds=seconds))

    @property
    def server(self) -> str:
        """The API's address."""
        return self._api.access.server

    @property
    def context(self) -> str:
        """The kubeconfig's context."""
        return self._api.access.context

    def now(self) -> datetime:
        """Return the time as the cluster has it, which the times of its objects are compared with."""
        return datetime.now(UTC) + self._api.ahead

    @property
    def namespace(self) -> str | None:
        """The context's namespace, if it has one."""
        return self._api.access.namespace

    async def aclose(self) -> None:
        """Close all connections."""
        await self._api.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
