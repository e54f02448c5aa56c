import pytest
from aiohttp import web
from fake_server import replying, serving

from grace.inference.transport import Transport
from grace.inference.vllm_metrics import ServerMetrics, parse_metrics, read_metrics

TEXT = """\
# HELP vllm:prompt_tokens_total Number of prefill tokens processed.
# TYPE vllm:prompt_tokens_total counter
vllm:prompt_tokens_total{engine="0",model_name="m"} 3013.0
vllm:prompt_tokens_total{engine="1",model_name="m"} 7.0
vllm:prompt_tokens_created{engine="0",model_name="m"} 1.7e+09
vllm:prefix_cache_hits_total{engine="0",model_name="m"} 2560.0
vllm:prefix_cache_hits_created{engine="0",model_name="m"} 1.7e+09
vllm:cache_config_info{block_size="32",enable_prefix_caching="True",engine="0"} 1.0
"""


def test_counters_are_summed_over_engines_and_the_block_size_is_read() -> None:
    assert parse_metrics(TEXT) == ServerMetrics(32, 3020, 2560)


def test_without_a_prefix_cache_there_is_no_block() -> None:
    text = TEXT.replace('caching="True"', 'caching="False"')
    assert parse_metrics(text).block_size is None


@pytest.mark.parametrize("text", ["", "nonsense", "vllm:prompt_tokens_total much"])
def test_what_is_not_there_is_not_known(text: str) -> None:
    assert parse_metrics(text) == ServerMetrics()


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (web.Response(text=TEXT), ServerMetrics(32, 3020, 2560)),
        (web.Response(status=404), ServerMetrics()),
    ],
    ids=["shown", "hidden"],
)
async def test_a_server_may_keep_its_metrics_to_itself(
    reply: web.Response, expected: ServerMetrics
) -> None:
    async with serving(replying(reply)) as url:
        transport = Transport(url)
        assert await read_metrics(transport) == expected
        await transport.aclose()
