"""The gateway against its own OpenAPI document: what schemathesis makes of it."""

import functools
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from gateway import ask, plain_app
from grace.serving.gateway.examples import REQUEST_EXAMPLES

TOKEN = "schemathesis-shows-this-token"  # noqa: S105
OPERATIONS = (
    ("/v1/distributions", "POST"),
    ("/v1/model", "GET"),
    ("/health", "GET"),
    ("/health/ready", "GET"),
    ("/metrics", "GET"),
)
QUIET = settings(
    max_examples=10,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@functools.cache
def schema() -> BaseSchema:
    return schemathesis.openapi.from_asgi("/openapi.json", plain_app(TOKEN))


def explore(path: str, method: str, mode: GenerationMode, examples: settings) -> dict[int, int]:
    """Send what fits the schema, or what does not; check every reply against the document."""
    statuses: dict[int, int] = {}
    # A set that fits the schema may still be one that cannot be scored.
    excluded = [positive_data_acceptance]

    @examples
    @given(case=schema()[path][method].as_strategy(generation_mode=mode))
    def send(case: Any) -> None:
        reply = case.call(headers={"Authorization": f"Bearer {TOKEN}"})
        statuses[reply.status_code] = statuses.get(reply.status_code, 0) + 1
        # A body beyond the bound is refused before it is read: the checks do not count 413.
        beyond = [negative_data_rejection] if reply.status_code == 413 else []
        case.validate_response(reply, excluded_checks=[*excluded, *beyond])

    send()
    return statuses


def test_every_operation_is_explored() -> None:
    operations = [one for one in schema().get_all_operations() if isinstance(one, Ok)]
    found = {(one.ok().path, one.ok().method.upper()) for one in operations}
    assert found == set(OPERATIONS)


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_what_fits_the_schema_gets_a_documented_reply(path: str, method: str) -> None:
    examples = QUIET if method == "POST" else settings(QUIET, max_examples=1)
    assert set(explore(path, method, GenerationMode.POSITIVE, examples)) <= {200, 422}


def test_what_does_not_fit_the_schema_is_refused() -> None:
    # What is wrong may stand beside the body, where more is allowed; `negative_data_rejection`,
    # one of the checks, knows the difference.
    statuses = explore(*OPERATIONS[0], GenerationMode.NEGATIVE, QUIET)
    assert set(statuses) <= {200, 400, 401, 413, 415, 422}
    assert set(statuses) & {400, 415, 422}


@pytest.mark.slow
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_many_more_requests_find_nothing(mode: GenerationMode) -> None:
    many = settings(QUIET, max_examples=400, derandomize=False)
    assert set(explore(*OPERATIONS[0], mode, many)) <= {200, 400, 401, 413, 415, 422}


@pytest.mark.parametrize("name", REQUEST_EXAMPLES)
async def test_the_examples_of_the_document_work(name: str) -> None:
    reply = await ask(plain_app(), REQUEST_EXAMPLES[name]["value"])
    assert reply.status == 200, reply.body
