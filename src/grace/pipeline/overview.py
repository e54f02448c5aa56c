"""What a run would ask, counted before anything is sent."""

from collections.abc import Sequence
from dataclasses import dataclass

from grace.engine.plan import ResponsePlan, ScorePlan, plan_responses, plan_scores
from grace.pipeline.inputs import load_inputs
from grace.settings import RunSettings
from grace.studies.probes import Turn
from grace.studies.trials import TrialSet


@dataclass(frozen=True, slots=True)
class PlanLine:
    """
    One probe of one study and experiment, for each model.

    Attributes:
        study, experiment, probe: Which.

        rows: Table rows that need an answer from it.

        distinct: Distinct stimuli (a dialogue's turn) or prompts (a distribution).

        queries: How many are asked: one for each row's own sample, or one for
            each distinct prompt.

        answers: Size of the answer set; 0 for free text.

        characters: Total length of the prompts asked, without chat templates
            and earlier turns.
    """

    study: str
    experiment: str
    probe: str
    rows: int
    distinct: int
    queries: int
    answers: int
    characters: int


def plan_overview(settings: RunSettings) -> tuple[PlanLine, ...]:
    """
    Count what a run would ask of each model.

    Raises:
        UsageError: The inputs are wrong.
    """
    return overview_of(load_inputs(settings), settings)


def overview_of(inputs: Sequence[TrialSet], settings: RunSettings) -> tuple[PlanLine, ...]:
    """Count what trials would ask under some settings."""
    lines: list[PlanLine] = []
    for trials in inputs:
        if "exp1" in settings.experiment:
            responses = plan_responses(
                trials,
                seed=settings.seed,
                replicates=settings.replicates,
                deterministic=settings.temperature == 0,
            )
            lines += _response_lines(responses)
        if "exp2" in settings.experiment:
            lines += _score_lines(plan_scores(trials, pmi=settings.pmi))
    return tuple(lines)


def _response_lines(plan: ResponsePlan) -> list[PlanLine]:
    lines = []
    for position, probe in enumerate(plan.trials.study.dialogue):
        turns = [dialogue.queries[position].turn for dialogue in plan.dialogues]
        up_to = {
            tuple(query.turn for query in dialogue.queries[: position + 1])
            for dialogue in plan.dialogues
        }
        lines.append(
            PlanLine(
                study=plan.trials.study.key,
                experiment="exp1",
                probe=probe.name,
                rows=len(plan.rows),
                distinct=len(up_to),
                queries=len(turns),
                answers=0,
                characters=sum(_length(turn) for turn in turns),
            )
        )
    return lines


def _score_lines(plan: ScorePlan) -> list[PlanLine]:
    lines = []
    probes = plan.trials.study.candidate_probes
    premises = [probe.after_premise() for probe in probes if plan.pmi]
    for probe in (*probes, *(premise for premise in premises if premise is not None)):
        turns = [query.turn for query in plan.queries if query.probe.name == probe.name]
        lines.append(
            PlanLine(
                study=plan.trials.study.key,
                experiment="exp2",
                probe=probe.name,
                rows=len(plan.rows),
                distinct=len(turns),
                queries=len(turns),
                answers=len(probe.answers),
                characters=sum(_length(turn) for turn in turns),
            )
        )
    return lines


def _length(turn: Turn) -> int:
    return len(turn.context) + len(turn.instruction) + len(turn.question)
