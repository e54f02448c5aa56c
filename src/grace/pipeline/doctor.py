"""
The examination of a model before a run: encoding, masses, server, repeatability.

All distinct prompts are rendered and encoded; a few of them, chosen so that they
cover the design, are scored. Nothing is written. What is found is put together
here; what it means is decided in `grace.pipeline.diagnosis`.
"""

import importlib.metadata
from collections.abc import Sequence

from grace.catalogue.progress import ProgressHook, SilentProgress
from grace.catalogue.spec import load_catalogue
from grace.catalogue.store import default_store
from grace.engine.events import RunHook, StopFlag
from grace.engine.pace import Pace
from grace.engine.plan import ScorePlan, ScoreQuery, plan_scores
from grace.engine.score import Scorer, ScoringMethod, choose_method
from grace.engine.soundness import Inspected, Inspector
from grace.engine.workers import run_workers
from grace.errors import (
    InferenceError,
    ScoringError,
    ServerUnavailable,
    UnsupportedByServer,
    UsageError,
)
from grace.inference.transport import check_url
from grace.pipeline.connection import Connection, ModelUse, connect_model, models_of
from grace.pipeline.cover import sample_rows, spread
from grace.pipeline.diagnosis import findings_of, verdict_of
from grace.pipeline.doctor_measures import Measures, TokenTexts, forced, repeats
from grace.pipeline.doctor_report import DoctorReport, RepeatReport, ServerReport
from grace.pipeline.doctor_summary import ExaminedProbe, probe_report
from grace.pipeline.inputs import load_inputs
from grace.pipeline.patience import patiently
from grace.settings import RunSettings
from grace.studies.prompts import PromptMode

DEFAULT_PROMPTS = 3
# Without a chat template's header, each answer is encoded after each prompt.
_MOST_PLAIN_PROMPTS = 40
_REPEATED = 8


async def examine(
    settings: RunSettings,
    hook: RunHook,
    progress: ProgressHook | None = None,
    prompts: int = DEFAULT_PROMPTS,
) -> DoctorReport:
    """
    Examine a model for some studies.

    Args:
        settings: Studies, inputs, one model and where it is served.

        hook: Hears what is being done.

        progress: Hears of downloads.

        prompts: How many prompts of each probe are scored.

    Raises:
        UsageError: The settings are wrong.

        GraceError: The server cannot be reached, started or used.
    """
    if prompts < 1:
        raise UsageError(f"--prompts is {prompts}; expected at least 1")
    if settings.endpoint is not None:
        check_url(settings.endpoint)
    if len(settings.model) != 1 and not settings.dry_run:
        raise UsageError(
            f"{len(settings.model)} models are given; `grace doctor` examines one: --model KEY"
        )
    catalogue = load_catalogue(settings.catalogue)
    (use,) = models_of(settings, catalogue)
    plans = [plan_scores(trials) for trials in load_inputs(settings)]
    hook.message(f"{use.key}: connecting")
    async with connect_model(
        use,
        settings,
        catalogue,
        default_store(),
        progress or SilentProgress(),
        settings.endpoint,
    ) as connection:
        return await _Examination(use, connection, settings, hook, prompts).report(plans)


class _Examination:
    def __init__(
        self,
        use: ModelUse,
        connection: Connection,
        settings: RunSettings,
        hook: RunHook,
        prompts: int,
    ) -> None:
        self._use = use
        self._connection = connection
        self._client = connection.client
        self._hook = hook
        self._prompts = prompts
        self._texts = TokenTexts(connection.client)
        self._wanted = None if settings.scoring == "auto" else ScoringMethod(settings.scoring)

    async def report(self, plans: Sequence[ScorePlan]) -> DoctorReport:
        capabilities = self._client.capabilities
        method, refusal = None, ""
        try:
            method = choose_method(capabilities, self._wanted)
        except UnsupportedByServer as error:
            refusal = str(error)
        identity = self._connection.server
        server = ServerReport(
            dialect=identity.dialect,
            version=str(identity.details.get("xllamacpp") or identity.version),
            model=identity.model,
            details=dict(identity.details),
            token_ids=capabilities.token_ids,
            next_token=capabilities.next_token,
            sequence=capabilities.sequence,
            json_schema=capabilities.json_schema,
            seed=capabilities.seed,
            scoring=None if method is None else method.value,
            refusal=refusal,
            context_length=identity.context_length,
        )
        probes: list[ExaminedProbe] = []
        repeated: list[RepeatReport] = []
        if capabilities.token_ids:
            scorer = self._scorer(method or ScoringMethod.TRIE)
            inspector = Inspector(self._client, scorer, identity.context_length)
            for plan in plans:
                probes += await self._inspect(plan, inspector)
            if method is not None:
                measures = Measures(self._client, scorer, inspector)
                for plan in plans:
                    await self._measure(plan, probes, measures)
                repeated = await self._repeat(probes, scorer, method)
                server = await self._force(server, probes, method)
        reports = tuple([await probe_report(probe, self._texts) for probe in probes])
        findings = findings_of(server, reports, repeated)
        return DoctorReport(
            model=self._use.key,
            grace_version=importlib.metadata.version("grace"),
            server=server,
            probes=reports,
            repeats=tuple(repeated),
            findings=findings,
            verdict=verdict_of(findings),
        )

    def _scorer(self, method: ScoringMethod) -> Scorer:
        return Scorer(self._client, self._use.mode, method, self._use.convention)

    async def _inspect(self, plan: ScorePlan, inspector: Inspector) -> list[ExaminedProbe]:
        study = plan.trials.study
        found = []
        for probe in study.candidate_probes:
            queries = [query for query in plan.queries if query.probe.name == probe.name]
            chosen: Sequence[ScoreQuery] = queries
            if self._use.mode is PromptMode.COMPLETION:
                wanted = {row.queries[probe.name].key for row in sample_rows(plan, self._prompts)}
                some = {query.key for query in spread(queries, _MOST_PLAIN_PROMPTS)} | wanted
                chosen = [query for query in queries if query.key in some]
            self._hook.message(f"{study.key}, {probe.name}: encoding {len(chosen)} prompts")
            ends: dict[str, Inspected] = {}

            async def work(
                queries: Sequence[ScoreQuery], ends: dict[str, Inspected] = ends
            ) -> None:
                for query in queries:
                    ends[query.key] = await patiently(inspector.inspect, query)

            # The first one fills the scorer's memory of encoded answers for the rest.
            await work(chosen[:1])
            pace = Pace(self._connection.concurrency, adaptive=False)
            await run_workers(chosen[1:], work, pace=pace, stop=StopFlag())
            inspected = [ends[query.key] for query in chosen]
            found.append(ExaminedProbe(study.key, probe.name, len(queries), inspected))
        return found

    async def _measure(
        self, plan: ScorePlan, probes: list[ExaminedProbe], measures: Measures
    ) -> None:
        study = plan.trials.study.key
        by_key = {
            one.query.key: (probe, one)
            for probe in probes
            if probe.study == study
            for one in probe.inspected
        }
        rows = sample_rows(plan, self._prompts)
        for number, row in enumerate(rows, start=1):
            self._hook.message(f"{study}: scoring sample {number} of {len(rows)}")
            for query in row.queries.values():
                probe, inspected = by_key[query.key]
                if not inspected.sound or any(m.query.key == query.key for m in probe.measured):
                    continue
                try:
                    probe.measured.append(await patiently(measures.measure, inspected))
                except ServerUnavailable:
                    raise
                except (InferenceError, ScoringError) as error:
                    probe.failures.append(str(error))

    async def _repeat(
        self, probes: Sequence[ExaminedProbe], scorer: Scorer, method: ScoringMethod
    ) -> list[RepeatReport]:
        capabilities = self._client.capabilities
        other = None
        if capabilities.next_token and capabilities.sequence:
            turned = ScoringMethod.SEQUENCE if method is ScoringMethod.TRIE else ScoringMethod.TRIE
            other = (turned, self._scorer(turned))
        # One prompt of each probe, then the second of each, and so on.
        deepest = max((len(probe.measured) for probe in probes), default=0)
        measured = [
            probe.measured[depth]
            for depth in range(deepest)
            for probe in probes
            if depth < len(probe.measured)
        ][:_REPEATED]
        self._hook.message(f"asking {len(measured)} distributions again")
        return await repeats(measured, scorer, other)

    async def _force(
        self, server: ServerReport, probes: Sequence[ExaminedProbe], method: ScoringMethod
    ) -> ServerReport:
        for probe in probes:
            for measured in probe.measured:
                inspected = next(
                    one for one in probe.inspected if one.query.key == measured.query.key
                )
                found = await forced(
                    inspected, measured.likeliest, self._client, method, self._texts
                )
                return server.model_copy(update={"forced": found})
        return server
