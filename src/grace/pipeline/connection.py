"""
From a model's key to a connected client: toy, endpoint, hosted or embedded.

Whoever asks for a model gets the same thing back, so that no stage needs to
know where the model runs.
"""

import dataclasses
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import JsonValue

from grace.catalogue.progress import ProgressHook
from grace.catalogue.spec import Catalogue, ModelSpec
from grace.catalogue.weights import ensure_weights
from grace.engine.respond import ReasoningTags
from grace.errors import UsageError
from grace.inference.client import InferenceClient, ServerIdentity
from grace.inference.dating import TemplateDate
from grace.inference.detect import detect
from grace.inference.llamacpp import LlamaCppClient
from grace.inference.openai import OpenAiClient
from grace.inference.tgi import TgiClient
from grace.inference.toy import ToyClient
from grace.inference.transport import Transport
from grace.inference.vllm import VllmClient
from grace.keys import FILE_SUFFIX, read_key
from grace.pipeline.patience import patience_of
from grace.pipeline.vigil import Vigil
from grace.serving.embedded import EmbeddedSettings, embedded_server
from grace.settings import RunSettings
from grace.studies.prompts import PLAIN, Convention, PromptMode

# Tokens are computed one at a time (see `grace.serving.llamacpp_process`): more slots would gain
# nothing, and split the prompts whose beginnings are shared.
EMBEDDED_SLOTS = 1
ENDPOINT_CONCURRENCY = 16
MAX_EMBEDDED_SLOTS = 32

EXTRACTOR_KEY = "GRACE_EXTRACTOR_API_KEY"
"""The variable of the key to `--extractor-endpoint`, where that is another server."""

NOT_PINNED = "not pinned"
"""What the identity has for a template's date where Grace cannot hold it fixed."""


@dataclass(frozen=True, slots=True)
class ModelUse:
    """
    How a model is prompted, and what of it belongs to a run's identity.

    Attributes:
        key: Its catalogue key; names files and folders.

        mode: Chat or completion.

        convention: Where its answers begin and end.

        reasoning: Its reasoning tags, if any.

        identity: Repository, revision, weights, prompt mode, convention, reasoning.

        pinned: Whether the weights are fixed by a revision or hash.
    """

    key: str
    mode: PromptMode
    convention: Convention
    reasoning: ReasoningTags | None
    identity: Mapping[str, JsonValue]
    pinned: bool


@dataclass(frozen=True, slots=True)
class Connection:
    """
    A connected client.

    Attributes:
        client: The client.

        server: Who answered, and which date its chats are given if they have one.

        concurrency: Most requests at a time.

        adaptive: Whether fewer may suit the server better.

        transport: The way to the server; None for a model in this process.

        vigil: Watches whether it is still the same; None where Grace started it.
    """

    client: InferenceClient
    server: ServerIdentity
    concurrency: int
    adaptive: bool = False
    transport: Transport | None = None
    vigil: Vigil | None = None


TOY = ModelUse(
    key="toy",
    mode=PromptMode.CHAT,
    convention=PLAIN,
    reasoning=None,
    identity={"key": "toy"},
    pinned=True,
)


def model_use(spec: ModelSpec, *, elsewhere: bool = False) -> ModelUse:
    """
    Return how a catalogue entry is prompted and identified.

    Args:
        spec: The entry.

        elsewhere: Whether the user's own endpoint serves it; Grace then cannot
            know which weights are served.
    """
    return ModelUse(
        key=spec.key,
        mode=spec.prompt_mode,
        convention=Convention(
            answer_prefix=spec.answer_prefix,
            answer_separator=spec.answer_separator,
            end_of_turn=spec.end_of_turn or "",
        ),
        reasoning=_reasoning(spec),
        identity={
            "key": spec.key,
            "repository": spec.repository,
            "revision": None if elsewhere else spec.revision,
            "weights": str(spec.source) if spec.source is not None and not elsewhere else None,
            "prompt_mode": spec.prompt_mode.value,
            "answer_prefix": spec.answer_prefix,
            "answer_separator": spec.answer_separator,
            "end_of_turn": spec.end_of_turn,
            "reasoning": spec.reasoning.model_dump() if spec.reasoning else None,
            "lora_base": spec.lora_base,
        },
        pinned=spec.pinned and not elsewhere,
    )


def models_of(
    settings: RunSettings, catalogue: Catalogue, *, asked: bool = True
) -> tuple[ModelUse, ...]:
    """
    Return the models of a run.

    Args:
        settings: The run's settings.

        catalogue: Where the models' entries are.

        asked: Whether the models will be asked, and so need a server.

    Raises:
        CatalogueError: A key is not in the catalogue.

        UsageError: A model is given twice, or needs a server that is not given.
    """
    if settings.dry_run:
        # A name that is wrong would be found out only when it matters.
        for key in settings.model:
            if key != TOY.key:
                catalogue.get(key)
        return (TOY,)
    if len(set(settings.model)) != len(settings.model):
        raise UsageError(f"a model is given twice: {', '.join(settings.model)}")
    specs = [catalogue.get(key) for key in settings.model]
    if settings.endpoint is not None and len(specs) > 1:
        raise UsageError(
            "--endpoint serves one model; give one --model, and one command for each endpoint"
        )
    for spec in specs:
        if asked and settings.endpoint is None and not spec.hosted and spec.server != "llamacpp":
            raise UsageError(
                f"{spec.key} is served by {spec.server}, which Grace does not start on this "
                f"machine; start it yourself and give its address: --endpoint http://HOST:PORT"
            )
    elsewhere = settings.endpoint is not None and not settings.as_catalogued
    return tuple(model_use(spec, elsewhere=elsewhere) for spec in specs)


@asynccontextmanager
async def connect_model(
    use: ModelUse,
    settings: RunSettings,
    catalogue: Catalogue,
    store: Path,
    progress: ProgressHook,
    endpoint: str | None = None,
) -> AsyncIterator[Connection]:
    """
    Connect to a model for the length of a `with` block.

    Args:
        use: The model.

        settings: The run's settings.

        catalogue: Where the model's entry is.

        store: Where weights are kept.

        progress: Hears of downloads.

        endpoint: Where it is served; None for as catalogued.

    Raises:
        GraceError: The server cannot be reached, started or used.
    """
    if use is TOY:
        toy = ToyClient()
        yield Connection(toy, await toy.connect(), settings.concurrency or 8)
        return
    spec = catalogue.get(use.key)
    address = endpoint or spec.endpoint
    if address is not None:
        transport, client = await _endpoint_client(spec, settings, address, own=endpoint is None)
        try:
            server = _dated(await client.connect(), spec)
            vigil = Vigil(server, client.identify, lambda: transport.doubts, patience_of(settings))
            most = settings.concurrency or ENDPOINT_CONCURRENCY
            yield Connection(client, server, most, adaptive=True, transport=transport, vigil=vigil)
        finally:
            await client.aclose()
        return
    weights = ensure_weights(spec, store, progress)
    slots = min(settings.concurrency or EMBEDDED_SLOTS, MAX_EMBEDDED_SLOTS)
    wanted = EmbeddedSettings(slots=slots, threads=settings.threads)
    async with embedded_server(weights.path, spec.key, wanted) as running:
        transport = Transport(running.url, timeout_seconds=settings.request_seconds)
        embedded = LlamaCppClient(transport, running.details, _template_date(spec))
        try:
            server = _dated(await embedded.connect(), spec)
            yield Connection(embedded, server, slots, transport=transport)
        finally:
            await embedded.aclose()


async def _endpoint_client(
    spec: ModelSpec, settings: RunSettings, address: str, *, own: bool
) -> tuple[Transport, InferenceClient]:
    variable = spec.api_key_env if own else _key_variable(settings, address)
    key = read_key(variable) if variable is not None else None
    if own and spec.api_key_env and not key:
        raise UsageError(
            f"{spec.key} needs a key: set the environment variable {spec.api_key_env}, or "
            f"{spec.api_key_env}{FILE_SUFFIX} to the path of a file that holds it"
        )
    transport = Transport(
        address,
        api_key=key,
        key_variable=variable,
        timeout_seconds=settings.request_seconds,
        connections=max(64, settings.concurrency or 0),
    )
    try:
        dialect = settings.server if not own and settings.server != "auto" else None
        if dialect is None:
            dialect = "openai" if own else await detect(transport)
    except BaseException:
        await transport.aclose()
        raise
    date = _template_date(spec)
    match dialect:
        case "llamacpp":
            return transport, LlamaCppClient(transport, template_date=date)
        case "vllm":
            # A server of ours has adapters beside their base, each by its own name.
            name = spec.name_on_server if settings.as_catalogued else spec.served_name
            return transport, VllmClient(transport, name, template_date=date)
        case "tgi":
            return transport, TgiClient(transport, spec.served_name, template_date=date)
        case "openai":
            return transport, OpenAiClient(
                transport,
                spec.name_on_server if own else spec.served_name,
                json_mode=spec.json_mode,
                request_fields=spec.request_fields,
            )


def _key_variable(settings: RunSettings, address: str) -> str:
    """Return the variable of the key to a server that the user named; one key opens one server."""
    if address != settings.extractor_endpoint:
        return settings.api_key_env
    elsewhere = settings.endpoint is not None and _origin(settings.endpoint) != _origin(address)
    if elsewhere or read_key(EXTRACTOR_KEY) is not None:
        return EXTRACTOR_KEY
    return settings.api_key_env


def _origin(address: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(address)
    return parts.scheme, parts.hostname, parts.port


def _template_date(spec: ModelSpec) -> TemplateDate | None:
    date = spec.template_date
    return None if date is None else TemplateDate(date.written, date.pinned)


def _dated(server: ServerIdentity, spec: ModelSpec) -> ServerIdentity:
    """Add to the identity which date the model's chats have, if its template writes one."""
    if spec.template_date is None:
        return server
    date = NOT_PINNED if server.dialect == "openai" else spec.template_date.pinned
    return dataclasses.replace(server, details={**server.details, "template_date": date})


def _reasoning(spec: ModelSpec) -> ReasoningTags | None:
    tags = spec.reasoning
    if tags is None:
        return None
    return ReasoningTags(
        opening=tags.open,
        closing=tags.close,
        final=tags.final,
        end=spec.end_of_turn or "",
        opened=tags.opened_by_template,
        max_tokens=tags.max_tokens,
    )
