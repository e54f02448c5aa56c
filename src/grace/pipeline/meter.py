"""What a stage cost: counted at both of its ends, and compared with what was expected."""

import time
from dataclasses import dataclass

from grace.engine.execute import Asker
from grace.engine.forecast import BLOCK_SIZE, Forecast
from grace.inference.usage import Usage
from grace.inference.vllm_metrics import ServerMetrics, read_metrics
from grace.pipeline.connection import Connection
from grace.runs.manifest import StageCost, StageForecast


@dataclass(frozen=True, slots=True)
class Meter:
    """
    The figures at a stage's beginning.

    Attributes:
        connection: Whose figures.

        started: Moment, on the monotonic clock.

        usage: What had been sent before.

        metrics: What the server had counted before.
    """

    connection: Connection
    started: float
    usage: Usage
    metrics: ServerMetrics

    @classmethod
    async def start(cls, connection: Connection) -> "Meter":
        """Read all figures."""
        metrics = await _metrics(connection)
        transport = connection.transport
        usage = transport.usage.copy() if transport is not None else Usage()
        return cls(connection, time.monotonic(), usage, metrics)

    @property
    def block_size(self) -> int:
        """Tokens in a block of the server's prefix cache: as it tells, or as is usual."""
        if self.connection.server.dialect == "llamacpp":
            return 1
        return self.metrics.block_size or BLOCK_SIZE

    async def cost(self, asker: Asker, forecast: Forecast | None) -> StageCost:
        """Read all figures again, and return what was added."""
        seconds = round(time.monotonic() - self.started, 3)
        transport = self.connection.transport
        used = transport.usage.copy().since(self.usage) if transport is not None else Usage()
        measured: dict[str, object] = {}
        if used.prompts:
            measured = {
                "prompts": used.prompts,
                "prompt_tokens": used.prompt_tokens,
                "generated_tokens": used.generated_tokens,
            }
            if used.cached_tokens is not None:
                measured["computed_tokens"] = used.prompt_tokens - used.cached_tokens
                measured["computed_from"] = "replies"
            elif (computed := _computed(self.metrics, await _metrics(self.connection))) is not None:
                measured["computed_tokens"] = computed
                measured["computed_from"] = "server"
        return StageCost.model_validate(
            {
                "queries": asker.asked,
                "retries": asker.retries,
                "seconds": seconds,
                "requests": used.requests if transport is not None else None,
                **measured,
                "requests_at_once": asker.pace.limit,
                "queries_per_request": asker.pace.size,
                "forecast": None
                if forecast is None or transport is None
                else StageForecast(
                    prompts=forecast.prompts,
                    prompt_tokens=forecast.prompt_tokens,
                    computed_tokens=forecast.computed_tokens,
                    generated_tokens=forecast.generated_tokens,
                    requests=forecast.requests,
                ),
            }
        )


def _computed(before: ServerMetrics, after: ServerMetrics) -> int | None:
    if before.prompt_tokens is None or after.prompt_tokens is None:
        return None
    if before.cached_tokens is None or after.cached_tokens is None:
        return None
    sent = after.prompt_tokens - before.prompt_tokens
    cached = after.cached_tokens - before.cached_tokens
    # A server that was started again counts from zero.
    return sent - cached if 0 <= cached <= sent else None


async def _metrics(connection: Connection) -> ServerMetrics:
    if connection.transport is None or connection.server.dialect != "vllm":
        return ServerMetrics()
    return await read_metrics(connection.transport)
