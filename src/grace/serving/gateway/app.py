"""
The gateway as an ASGI application: routes, and errors as problem documents.

The application is given a service and owns nothing that must be closed.
"""

import asyncio
import importlib.metadata
import logging
import time
from typing import Annotated, Any

from fastapi import Body, FastAPI, Request, Security
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp

from grace.errors import GraceError
from grace.serving.gateway.docs import add_docs, openapi_document
from grace.serving.gateway.examples import REQUEST_EXAMPLES
from grace.serving.gateway.gate import Gate, GatewayLimits
from grace.serving.gateway.guard import Guard
from grace.serving.gateway.messages import (
    MAX_CANDIDATES,
    MAX_FORMS,
    MAX_FORMS_EACH,
    DistributionReply,
    DistributionRequest,
    HealthReply,
    ModelReply,
)
from grace.serving.gateway.metrics import CONTENT_TYPE, GatewayMetrics
from grace.serving.gateway.problems import (
    MEDIA_TYPE,
    Kind,
    Problem,
    Refusal,
    RefusedRequest,
    invalid,
    refusal_of,
    refuse,
    schema_faults,
)
from grace.serving.gateway.service import DistributionService

_READY_SECONDS = 5.0
_READY_FOR_SECONDS = 1.0
_DESCRIPTION = """Exact probabilities of fixed answers from an open-weight language model.

Send a text or a chat and a set of candidates. The reply has, for each candidate, the natural
logarithm of its joint probability after the prompt, the probability normalised over the set, and
its tokens. `coverage` is the probability of the whole set before normalising.

A number in a reply was measured. What cannot be measured is answered with a problem document
(RFC 9457, `application/problem+json`) that says why and what to do, never with a default."""

_log = logging.getLogger("grace.gateway")


def make_app(
    service: DistributionService,
    limits: GatewayLimits | None = None,
    *,
    token: str | None = None,
) -> ASGIApp:
    """
    Return the gateway's application.

    Args:
        service: Measures the distributions.

        limits: Bytes, requests at a time, seconds.

        token: What clients must show; None for a gateway that only this
            machine can reach.

    Raises:
        ServingError: The page's scripts are not installed.
    """
    limits = limits or GatewayLimits()
    gate = Gate(limits)
    metrics = GatewayMetrics(gate, service)
    app = FastAPI(
        title="Grace gateway",
        version=importlib.metadata.version("grace"),
        description=_DESCRIPTION,
        docs_url=None,
        redoc_url=None,
    )
    _add_handlers(app)
    # Tokens are checked at the door; the routes only document that they need one.
    secured: list[Any] = [Security(HTTPBearer(auto_error=False))] if token is not None else []
    _add_asking(app, service, limits, gate, metrics, secured)
    _add_watching(app, service, metrics, secured)
    add_docs(app)
    app.openapi = lambda: openapi_document(app)  # type: ignore[method-assign]
    return metrics.around(Guard(app, limits, gate, token))


def _add_asking(
    app: FastAPI,
    service: DistributionService,
    limits: GatewayLimits,
    gate: Gate,
    metrics: GatewayMetrics,
    secured: list[Any],
) -> None:
    @app.post(
        "/v1/distributions",
        summary="Measure a distribution",
        description="Returns the exact probability of each candidate after the prompt.",
        operation_id="measureDistribution",
        responses=_problems(400, 401, 408, 413, 415, 421, 422, 429, 500, 502, 503, 504),
        dependencies=secured,
        tags=["distributions"],
    )
    async def distributions(
        request: Annotated[DistributionRequest, Body(openapi_examples=REQUEST_EXAMPLES)],
    ) -> DistributionReply:
        async with gate.turn():
            reply = await service.answer(request)
        metrics.measured(reply)
        return reply

    @app.get(
        "/v1/model",
        summary="Say who answers",
        description="Returns the model, the server behind the gateway, and the limits.",
        operation_id="describeModel",
        responses=_problems(401, 421, 500),
        dependencies=secured,
        tags=["distributions"],
    )
    async def model() -> ModelReply:
        return ModelReply(
            model=service.model_detail(),
            server=service.server_detail(),
            methods=[method.value for method in service.methods],
            limits={
                "max_body_bytes": limits.max_body_bytes,
                "max_candidates": MAX_CANDIDATES,
                "max_forms_each": MAX_FORMS_EACH,
                "max_forms": MAX_FORMS,
                "concurrency": limits.concurrency,
                "waiting": limits.waiting,
                "deadline_seconds": limits.deadline_seconds,
            },
        )


def _add_watching(
    app: FastAPI, service: DistributionService, metrics: GatewayMetrics, secured: list[Any]
) -> None:
    readiness = _Readiness(service)

    @app.get(
        "/health",
        summary="Whether the gateway lives",
        description="Asks nobody else. For a liveness probe.",
        operation_id="health",
        responses=_problems(421, 500),
        tags=["watching"],
    )
    async def health() -> HealthReply:
        return HealthReply(status="alive")

    @app.get(
        "/health/ready",
        summary="Whether the model server answers",
        description="Asks the model server. For a readiness probe.",
        operation_id="ready",
        responses=_problems(421, 500, 502, 503, 504),
        tags=["watching"],
    )
    async def ready() -> HealthReply:
        await readiness.check()
        return HealthReply(status="ready")

    @app.get(
        "/metrics",
        summary="Metrics for Prometheus",
        operation_id="metrics",
        response_class=Response,
        responses={
            200: {
                "description": "Metrics",
                "content": {"text/plain": {"schema": {"type": "string"}}},
            },
            **_problems(401, 421, 500),
        },
        dependencies=secured,
        tags=["watching"],
    )
    async def show_metrics() -> Response:
        return Response(metrics.text(), media_type=CONTENT_TYPE)


class _Readiness:
    """Asks the server at most once a second, however many ask for it."""

    def __init__(self, service: DistributionService) -> None:
        self._service = service
        self._asking = asyncio.Lock()
        self._asked = -_READY_FOR_SECONDS
        self._refusal: Refusal | None = None

    async def check(self) -> None:
        async with self._asking:
            if time.monotonic() - self._asked >= _READY_FOR_SECONDS:
                self._refusal = await self._ask()
                self._asked = time.monotonic()
        if self._refusal is not None:
            raise RefusedRequest(self._refusal)

    async def _ask(self) -> Refusal | None:
        try:
            async with asyncio.timeout(_READY_SECONDS):
                await self._service.check()
        except TimeoutError:
            return refuse(
                Kind.TIMEOUT, f"the model server did not answer within {_READY_SECONDS:g} s"
            )
        except GraceError as error:
            return refusal_of(error)
        return None


def _add_handlers(app: FastAPI) -> None:
    @app.exception_handler(RefusedRequest)
    async def refused(_: Request, error: RefusedRequest) -> Response:
        return _response(error.refusal)

    @app.exception_handler(GraceError)
    async def failed(_: Request, error: GraceError) -> Response:
        refusal = refusal_of(error)
        if refusal.kind.status >= 500:
            _log.warning("%s: %s", refusal.kind.slug, error)
        return _response(refusal)

    @app.exception_handler(RequestValidationError)
    async def misfit(_: Request, error: RequestValidationError) -> Response:
        return _response(invalid(schema_faults(error.errors())))

    @app.exception_handler(HTTPException)
    async def not_here(request: Request, error: HTTPException) -> Response:
        path = request.url.path[:200]
        match error.status_code:
            case 404:
                refusal = refuse(Kind.NOT_FOUND, f"no page {path!r}", remedy="See /docs.")
            case 405:
                refusal = refuse(
                    Kind.METHOD_NOT_ALLOWED,
                    f"{path} does not take {request.method}",
                    headers=error.headers,
                    remedy="See /docs.",
                )
            case _:
                refusal = refuse(Kind.NOT_JSON, str(error.detail))
        return _response(refusal)

    @app.exception_handler(Exception)
    async def broken(_: Request, error: Exception) -> Response:
        return _response(
            refuse(
                Kind.INTERNAL,
                f"unexpected {type(error).__name__}; nothing was measured",
                remedy="Please report it with the gateway's log.",
            )
        )


def _response(refusal: Refusal) -> Response:
    return Response(
        refusal.body(),
        status_code=refusal.kind.status,
        headers=dict(refusal.headers),
        media_type=MEDIA_TYPE,
    )


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    titles = {
        status: "; or: ".join(kind.title for kind in Kind if kind.status == status)
        for status in statuses
    }
    return {status: {"model": Problem, "description": titles[status]} for status in statuses}
