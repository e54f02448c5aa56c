"""
What the gateway counts, for Prometheus.

Labels take few values, fixed beforehand: no prompt, candidate, address, token
or id of a client is ever one.
"""

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from grace.serving.gateway.gate import Gate
from grace.serving.gateway.messages import DistributionReply
from grace.serving.gateway.service import DistributionService

CONTENT_TYPE = CONTENT_TYPE_LATEST
_ROUTES = frozenset(
    {"/v1/distributions", "/v1/model", "/health", "/health/ready", "/metrics", "/openapi.json"}
)
_CLIENT_LEFT = "499"
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_COVERAGES = (1e-6, 1e-4, 0.001, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)


class GatewayMetrics:
    """
    The gateway's counters, in a registry of its own.

    Args:
        gate: Knows who is here.

        service: Knows the model.
    """

    def __init__(self, gate: Gate, service: DistributionService) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = Counter(
            "grace_gateway_requests",
            "Requests, by route and HTTP status (499: the client left).",
            ("route", "status"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "grace_gateway_request_seconds",
            "Seconds from a request's arrival to the end of its reply.",
            ("route",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._forms = Counter(
            "grace_gateway_forms_scored",
            "Surface forms of candidates that were scored.",
            registry=self.registry,
        )
        self._prompt_tokens = Counter(
            "grace_gateway_prompt_tokens",
            "Tokens of the prompts that distributions were measured after.",
            registry=self.registry,
        )
        self._coverage = Histogram(
            "grace_gateway_coverage",
            "Coverage of the distributions.",
            buckets=_COVERAGES,
            registry=self.registry,
        )
        here = Gauge(
            "grace_gateway_requests_here",
            "Requests for distributions that are being answered or wait.",
            registry=self.registry,
        )
        here.set_function(lambda: gate.inside)
        asking = Gauge(
            "grace_gateway_requests_asking",
            "Requests for distributions that the model server is being asked for.",
            registry=self.registry,
        )
        asking.set_function(lambda: gate.asking)
        server = service.server_detail()
        Info("grace_gateway_model", "What is served.", registry=self.registry).info(
            {"model": service.model.key, "dialect": server.dialect, "version": server.version}
        )

    def measured(self, reply: DistributionReply) -> None:
        """Count a distribution."""
        self._forms.inc(sum(len(one.forms) for one in reply.candidates))
        self._prompt_tokens.inc(reply.prompt.tokens)
        self._coverage.observe(reply.coverage)

    def text(self) -> bytes:
        """Return everything in Prometheus's text form."""
        return generate_latest(self.registry)

    def around(self, app: ASGIApp) -> ASGIApp:
        """Return an application that counts the requests of another one."""

        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            status = _CLIENT_LEFT

            async def noting(message: Message) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = str(message["status"])
                await send(message)

            path = scope["path"]
            route = path if path in _ROUTES else "/docs" if path.startswith("/docs") else "other"
            started = time.perf_counter()
            try:
                await app(scope, receive, noting)
            finally:
                self._requests.labels(route, status).inc()
                self._seconds.labels(route).observe(time.perf_counter() - started)

        return counted
