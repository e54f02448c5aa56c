"""What a hostile server does while Grace gets to know it is not taken for what the server is."""

import pytest

from grace.errors import ServerUnavailable
from grace.inference.transport import Transport
from grace.inference.vllm import VllmClient
from hostile.process import Hostile
from hostile.script import Rule


@pytest.mark.parametrize("fault", ["truncated-json", "html", "http-503"])
@pytest.mark.parametrize("request_number", [1, 4])
async def test_a_fault_during_a_probe_is_not_a_missing_ability(
    hostile_vllm: Hostile, fault: str, request_number: int
) -> None:
    hostile_vllm.follow()
    client = VllmClient(Transport(hostile_vllm.url))
    healthy = await client.connect()
    able = client.capabilities
    # Two requests are fetched first, and three texts are encoded.
    hostile_vllm.follow(Rule(fault, at=(5 + request_number,)))
    with pytest.raises(ServerUnavailable):
        await client.connect()
    assert hostile_vllm.befell() == {fault: 1}
    assert await client.connect() == healthy
    assert client.capabilities == able
    await client.aclose()
