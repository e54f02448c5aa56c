"""
Study 2: polite speech.

Someone asks how good their work was. Given how the speaker really felt (0 to 3
hearts) and what the speaker wants (to be kind, to inform, both), which of eight
utterances would the speaker choose? The design is that of Yoon, Tessler,
Goodman and Frank (2020), "Polite speech emerges from competing social goals",
Open Mind 4, 71-87.
"""

import re
from collections.abc import Mapping

from grace.studies.document import shown
from grace.studies.probes import Answer, CandidateProbe, ResponseProbe, Turn
from grace.studies.study import (
    Agreement,
    AnswerField,
    Column,
    Measure,
    ProbabilityColumn,
    Study,
    VariableFault,
)

FRAMES = ("was", "wasn't")
ASSESSMENTS = ("terrible", "bad", "good", "amazing")

_GOALS = (
    (
        "both",
        re.compile(
            r"If .+ wanted to both make .+ feel good and give accurate and informative feedback",
            re.IGNORECASE,
        ),
    ),
    ("social", re.compile(r"If .+ wanted to make .+ feel good\b.*", re.IGNORECASE)),
    (
        "informational",
        re.compile(
            r"If .+ wanted to give (as )?accurate and informative feedback\b.*", re.IGNORECASE
        ),
    ),
)
_GOAL_EXPECTED = (
    "'If NAME wanted to make NAME feel good, rather than give informative feedback', "
    "'If NAME wanted to give as accurate and informative feedback as possible' or "
    "'If NAME wanted to BOTH make NAME feel good AND give accurate and informative feedback'"
)


def _derive(values: Mapping[str, str]) -> dict[str, str]:
    goal_clause = values["Goal"].strip().rstrip(".,")
    goal = next((name for name, pattern in _GOALS if pattern.fullmatch(goal_clause)), None)
    if goal is None:
        raise VariableFault("Goal", f"is {shown(values['Goal'])}; expected {_GOAL_EXPECTED}")
    return {
        "goal": goal,
        "state": values["State"].strip()[0],
        "goal_clause": goal_clause,
        "hearts": values["State"].strip(),
    }


_UTTERANCES = tuple(f"It {frame} {assessment}" for frame in FRAMES for assessment in ASSESSMENTS)
_OPTIONS = ", ".join(f'"{utterance}."' for utterance in _UTTERANCES)

_CHOICE = f"A speaker answers a listener's question with one of these eight sentences: {_OPTIONS}"

_TURN = Turn(
    context=f"{_CHOICE} Read the situation and write the one sentence that the speaker would be most "
    "likely to say, and nothing else.\n\n"
    "{Precontext} {Scenario}\n\n"
    "Here is how {SP_Name} actually felt about it, on a scale of 0 to 3 hearts: {hearts}.",
    question="{goal_clause}, what would {SP_Name} be most likely to say?",
)

_PREMISE = Turn(
    context=f"{_CHOICE} Write the one sentence that the speaker would be most likely to say, and "
    "nothing else.",
    question="What would the speaker be most likely to say?",
)


def _label(frame: str, assessment: str) -> str:
    return f"{frame} {assessment}"


def _column(frame: str) -> str:
    return frame.replace("'", "")


def _labels(frames: tuple[str, ...], assessments: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(_label(frame, assessment) for frame in frames for assessment in assessments)


def _probability_columns() -> tuple[ProbabilityColumn, ...]:
    joint = [
        ProbabilityColumn(
            name=f"prob_{_column(frame)}_{assessment}",
            probe="utterance",
            measure=Measure.PROBABILITY,
            answers=(_label(frame, assessment),),
            description=f'Probability of the answer "It {frame} {assessment}".',
        )
        for frame in FRAMES
        for assessment in ASSESSMENTS
    ]
    by_frame = [
        ProbabilityColumn(
            name=f"prob_{_column(frame)}",
            probe="utterance",
            measure=Measure.PROBABILITY,
            answers=_labels((frame,), ASSESSMENTS),
            description=f'Probability of all four answers with "{frame}".',
        )
        for frame in FRAMES
    ]
    by_assessment = [
        ProbabilityColumn(
            name=f"prob_{assessment}",
            probe="utterance",
            measure=Measure.PROBABILITY,
            answers=_labels(FRAMES, (assessment,)),
            description=f'Probability of both answers with "{assessment}".',
        )
        for assessment in ASSESSMENTS
    ]
    entropies = [
        ProbabilityColumn(
            name="entropy_frame",
            probe="utterance",
            measure=Measure.ENTROPY,
            partition=tuple(_labels((frame,), ASSESSMENTS) for frame in FRAMES),
            description="Entropy, in bits, of was/wasn't.",
        ),
        ProbabilityColumn(
            name="entropy_assessment",
            probe="utterance",
            measure=Measure.ENTROPY,
            partition=tuple(_labels(FRAMES, (assessment,)) for assessment in ASSESSMENTS),
            description="Entropy, in bits, of terrible/bad/good/amazing.",
        ),
        ProbabilityColumn(
            name="entropy_joint",
            probe="utterance",
            measure=Measure.ENTROPY,
            description="Entropy, in bits, of the eight answers.",
        ),
    ]
    return (*joint, *by_frame, *by_assessment, *entropies)


POLITENESS = Study(
    key="study2",
    title="Polite speech",
    description="What a speaker would say, given a goal and how good the work really was.",
    citation="Yoon, E. J., Tessler, M. H., Goodman, N. D., & Frank, M. C. (2020). Polite speech "
    "emerges from competing social goals. Open Mind, 4, 71-87.",
    columns=(
        Column("Participant_ID", "Participant, as numbered in the input."),
        Column("Domain", "Short name of the kind of work."),
        Column("Precontext", "Sentence that says what the listener made."),
        Column("Scenario", "Sentence in which the listener asks how it was."),
        Column(
            "Utterance",
            "Left over from another experiment; never part of a prompt.",
            may_be_empty=True,
        ),
        Column("Goal", "If-clause with the speaker's goal.", expected=_GOAL_EXPECTED),
        Column(
            "State",
            "How the speaker really felt, in hearts.",
            pattern=r"\s*(0 hearts|1 hearts?|2 hearts|3 hearts)\s*",
            expected="0 hearts, 1 heart, 2 hearts or 3 hearts",
        ),
        Column("SP_Name", "The speaker's name."),
        Column("LS_Name", "The listener's name."),
    ),
    stimulus_columns=("Precontext", "Scenario", "Goal", "State", "SP_Name"),
    conditions=("goal", "state"),
    derive=_derive,
    derived_columns=(
        Column(
            "goal",
            "The speaker's goal, from Goal.",
            choices=("informational", "social", "both"),
        ),
        Column("state", "Hearts, from State.", choices=("0", "1", "2", "3")),
    ),
    dialogue=(ResponseProbe(name="utterance", turn=_TURN, max_tokens=48),),
    candidate_probes=(
        CandidateProbe(
            name="utterance",
            turn=_TURN,
            answers=tuple(
                Answer(label=_label(frame, assessment), surface_forms=(f"It {frame} {assessment}",))
                for frame in FRAMES
                for assessment in ASSESSMENTS
            ),
            premise=_PREMISE,
        ),
    ),
    probability_columns=_probability_columns(),
    fields=(
        AnswerField(
            name="Was/Wasn't",
            kind="choice",
            choices=FRAMES,
            probe="utterance",
            description='Whether the utterance says "was" or "wasn\'t".',
        ),
        AnswerField(
            name="Assessment",
            kind="choice",
            choices=ASSESSMENTS,
            probe="utterance",
            description="The word that says how good it was.",
        ),
        AnswerField(
            name="response_text",
            kind="text",
            probe="utterance",
            description="The response, without quotation marks around all of it.",
        ),
    ),
    joint_fields=(("Was/Wasn't", "Assessment"),),
    agreements=(Agreement("utterance", "utterance", ("Was/Wasn't", "Assessment"), "joined"),),
    headlines={
        f"{prefix}_{written}_{assessment}": f"{frame} {assessment}"
        for frame in FRAMES
        for assessment in ASSESSMENTS
        for prefix, written in (("prop", frame), ("prob", _column(frame)))
    },
)
"""The study as `grace` runs it under the key `study2`."""
