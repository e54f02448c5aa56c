"""A cluster that is not there, and a client of it that never waits."""

from collections.abc import AsyncIterator

import pytest
from fake_api import FakeApi

from grace.cluster.client import ClusterClient, Patience


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    """A cluster's API with nothing in it."""
    fake = FakeApi()
    async with fake.served():
        yield fake


@pytest.fixture
async def client(api: FakeApi) -> AsyncIterator[ClusterClient]:
    """Its client; what fails twice has failed."""
    patience = Patience(attempts=2, first_wait_seconds=0, longest_wait_seconds=0)
    async with ClusterClient.at(api.url, patience=patience) as made:
        yield made
