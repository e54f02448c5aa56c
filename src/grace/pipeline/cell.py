"""One cell: an experiment on a model, and what its stages work with."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from grace.engine.events import RunHook, StageCounts, StopFlag
from grace.engine.journal import JournalReader, JournalRecords
from grace.engine.plan import (
    QueryKey,
    ResponsePlan,
    ScorePlan,
    plan_responses,
    plan_scores,
)
from grace.engine.score import ScoringMethod, choose_method
from grace.engine.shards import Shard
from grace.extraction.model_extractor import extraction_layout_sha256
from grace.inference.client import Sampling
from grace.pipeline.connection import Connection, ModelUse
from grace.pipeline.extractor import ExtractorChoice
from grace.runs.folder import RunFolder, RunRecord
from grace.runs.identity import (
    ExtractorIdentity,
    InputIdentity,
    RunIdentity,
    check_extractor,
    check_identity,
)
from grace.runs.manifest import StageCost
from grace.settings import Experiment, RunSettings
from grace.studies.prompts import PLAIN, layout_sha256
from grace.studies.trials import TrialSet


@dataclass(slots=True)
class Cell:
    """
    What a cell works with.

    Attributes:
        experiment: `exp1` or `exp2`.

        use: The model.

        inputs: The trials of each study.

        settings: The run's settings.

        folder: The run's folder.

        extractor: Who extracts, in Experiment 1.

        hook: Who hears of progress.

        stop: Whether to stop.

        seconds: Wall time by stage, filled as stages end.

        costs: What each stage cost, by study and stage, filled as stages end.

        shard: The part of the queries that this process asks; None is all.

        tally: How the queries of this process stand, by study and stage, filled
            as stages end, however they do.
    """

    experiment: Experiment
    use: ModelUse
    inputs: tuple[TrialSet, ...]
    settings: RunSettings
    folder: RunFolder
    extractor: ExtractorChoice
    hook: RunHook
    stop: StopFlag
    seconds: dict[str, float] = field(default_factory=dict)
    costs: dict[str, StageCost] = field(default_factory=dict)
    shard: Shard | None = None
    tally: dict[str, StageCounts] = field(default_factory=dict)
    _journal: JournalReader | None = field(default=None, init=False, repr=False)

    def identity(self, server: Mapping[str, object], scoring: str) -> RunIdentity:
        """Return the cell's identity on a server."""
        asking: dict[str, object]
        if self.experiment == "exp1":
            asking = {
                "sampling": sampling_of(self.settings).model_dump(),
                "seed": self.settings.seed,
                "replicates": self.settings.replicates,
                "extractor": self.extractor.label,
            }
        else:
            asking = {"scoring": scoring}
            # Only what is asked beyond the usual: runs without it stay what they were.
            if self.settings.terminators:
                asking["terminators"] = True
            if self.settings.pmi:
                asking["premises_sha256"] = {
                    trials.study.key: trials.study.premises_sha256() for trials in self.inputs
                }
        # Responses have no prefix of their own: see `Respondent`.
        convention = PLAIN if self.experiment == "exp1" else self.use.convention
        asking["layout_sha256"] = layout_sha256(self.use.mode, convention)
        return RunIdentity.model_validate(
            {
                "experiment": self.experiment,
                "model": dict(self.use.identity),
                "studies": {
                    trials.study.key: InputIdentity(
                        input_sha256=trials.sha256,
                        rows=len(trials.trials),
                        stimuli=trials.stimuli(),
                        definition_sha256=trials.study.definition_sha256(),
                    )
                    for trials in self.inputs
                },
                "server": dict(server),
                "asking": asking,
            }
        )

    def response_plans(self) -> tuple[ResponsePlan, ...]:
        """Plan Experiment 1."""
        return tuple(
            plan_responses(
                trials,
                seed=self.settings.seed,
                replicates=self.settings.replicates,
                deterministic=self.settings.temperature == 0,
            )
            for trials in self.inputs
        )

    def score_plans(self) -> tuple[ScorePlan, ...]:
        """Plan Experiment 2."""
        return tuple(plan_scores(trials, pmi=self.settings.pmi) for trials in self.inputs)

    @property
    def writer(self) -> str:
        """What sets the files of this process apart; "" if it has the run for itself."""
        return self.shard.name if self.shard is not None else ""

    def lock(self) -> AbstractContextManager[None]:
        """Keep other processes out of this one's part of the run."""
        return self.folder.lock(self.shard.span if self.shard is not None else None)

    def asked_responses(self) -> tuple[ResponsePlan, ...]:
        """Plan what this process asks of Experiment 1."""
        plans = self.response_plans()
        return plans if self.shard is None else tuple(map(self.shard.of_responses, plans))

    def asked_scores(self) -> tuple[ScorePlan, ...]:
        """Plan what this process asks of Experiment 2."""
        plans = self.score_plans()
        return plans if self.shard is None else tuple(map(self.shard.of_scores, plans))

    def asks(self, key: QueryKey) -> bool:
        """Whether this process asks a query whose place in a plan is not fixed."""
        return self.shard is None or self.shard.takes_key(key)

    def records(self) -> JournalRecords:
        """Read what the journal has more since it was last looked at, and return all of it."""
        if self._journal is None:
            self._journal = JournalReader(self.folder.journal)
        return self._journal.read().records


def sampling_of(settings: RunSettings) -> Sampling:
    """Return the sampling of Experiment 1."""
    return Sampling(
        temperature=settings.temperature,
        top_p=settings.top_p,
        top_k=settings.top_k,
        min_p=settings.min_p,
    )


def server_identity(connection: Connection) -> dict[str, object]:
    """Return a server's identity as JSON."""
    server = connection.server
    return {
        "dialect": server.dialect,
        "version": server.version,
        "model": server.model,
        **server.details,
    }


def scoring_method(cell: Cell, connection: Connection) -> ScoringMethod | None:
    """
    Return how Experiment 2 asks this server; None in Experiment 1.

    Raises:
        UnsupportedByServer: The server cannot score exactly.
    """
    if cell.experiment == "exp1":
        return None
    wanted = None if cell.settings.scoring == "auto" else ScoringMethod(cell.settings.scoring)
    return choose_method(connection.client.capabilities, wanted)


def begin(cell: Cell, identity: RunIdentity) -> RunRecord:
    """
    Record the identity of a new run, or check that of one that was begun.

    Raises:
        IdentityMismatch: The run was begun under another identity.
    """
    if not cell.folder.begun:
        record = RunRecord(
            started=datetime.now(UTC).isoformat(timespec="seconds"),
            request=_absolute(cell.settings),
            identity=identity,
        )
        cell.folder.write_record(record, cell.writer)
    # Another process may have been a moment faster.
    record = cell.folder.read_record()
    check_identity(record.identity, identity, str(cell.folder.path))
    return record


def begin_extraction(cell: Cell, connection: Connection) -> None:
    """
    Record which model extracts on which server, or check that it is the same as before.

    Raises:
        IdentityMismatch: Another one began.
    """
    if cell.extractor.use is None:
        return
    wanted = ExtractorIdentity.model_validate(
        {
            "model": dict(cell.extractor.use.identity),
            "server": server_identity(connection),
            "layout_sha256": extraction_layout_sha256(
                [trials.study for trials in cell.inputs], cell.extractor.mode
            ),
        }
    )
    if cell.folder.read_extractor() is None:
        cell.folder.write_extractor(wanted, cell.writer)
    recorded = cell.folder.read_extractor()
    if recorded is not None:
        check_extractor(recorded, wanted, str(cell.folder.path))


def _absolute(settings: RunSettings) -> RunSettings:
    """Return settings whose paths mean the same from any folder."""
    return settings.model_copy(
        update={
            "study": tuple(
                str(Path(name).absolute()) if name.endswith((".yaml", ".yml")) else name
                for name in settings.study
            ),
            "input": {key: path.absolute() for key, path in settings.input.items()},
            "out": settings.out.absolute(),
            "catalogue": settings.catalogue.absolute() if settings.catalogue else None,
        }
    )
