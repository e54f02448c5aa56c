"""
Study 1: knowledge and implicature.

A speaker has looked at some of three items and reports a number. What does a
listener believe about all three, and does the listener think that the speaker
knows? The design is that of Goodman and Stuhlmüller (2013), "Knowledge and
implicature: Modeling language understanding as social cognition", Topics in
Cognitive Science 5(1), 173-184; the betting instruction follows their web
experiment.
"""

import re
from collections.abc import Mapping

from grace.studies.probes import Answer, CandidateProbe, ResponseProbe, Turn
from grace.studies.study import (
    Agreement,
    AnswerField,
    Coherence,
    Column,
    Exclusion,
    FieldSum,
    Measure,
    ProbabilityColumn,
    Study,
    VariableFault,
)

STATES = (0, 1, 2, 3)
PERCENTS = tuple(range(0, 101, 10))

_PRIOR_QUESTION = re.compile(
    r"How many of the 3 (?P<items>.+?) do you think (?P<verb>\w+)(?P<rest>\b.*)\?", re.DOTALL
)
_SHOWN = 100
_SINGULAR = {"have": "has", "are": "is", "were": "was", "do": "does"}
_LINE_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)

_PERCENT_LIST = ", ".join(f"{percent}%" for percent in PERCENTS)
_STORY_AND_SPEECH = "{story}\n\n{speech_text}"

_BETTING = (
    "Imagine that you have $100 and divide your money between the answers 0, 1, 2 and 3. The "
    "amount of money you bet on each answer should correspond to how confident you are that it "
    "is correct. Your bets over all the answers must sum to 100. Write your four bets on one line, "
    "in the form 0: $__, 1: $__, 2: $__, 3: $__."
)


def _plain(text: str) -> str:
    # White space around a break is not matched: many of it would be looked at again and again.
    return "\n".join(piece.strip() for piece in _LINE_BREAK.split(text)).strip()


def _derive(values: Mapping[str, str]) -> dict[str, str]:
    prior = values["priorQ"].strip()
    match = _PRIOR_QUESTION.fullmatch(prior)
    if match is None or match["verb"] not in _SINGULAR:
        raise VariableFault(
            "priorQ",
            f"is {prior[:_SHOWN]!r}; expected 'How many of the 3 ITEMS do you think have ...?' "
            "(or are, were, do in place of have)",
        )
    if int(values["observe"]) > int(values["access"]):
        raise VariableFault(
            "observe",
            f"is {values['observe']!r}; expected at most access, {values['access']}: a speaker "
            "cannot report more items than were looked at",
        )
    plural = f"{match['verb']}{match['rest']}"
    singular = f"{_SINGULAR[match['verb']]}{match['rest']}"
    claims = {
        f"claim{state}": f"exactly {state} of the 3 {match['items']} "
        f"{singular if state == 1 else plural}"
        for state in STATES
    }
    return {
        "story": _plain(values["story_setup"]),
        "speech_text": _plain(values["speech"]),
        "prior_question": _plain(prior),
        "speech_question": _plain(values["speechQ"]),
        "knowledge_question": _plain(values["knowledgeQ"]),
        **claims,
    }


_NEUTRAL_QUESTION = "What is your answer?"
_PERCENT_INSTRUCTION = f"Answer with one of these percentages and nothing else: {_PERCENT_LIST}."
_YES_NO_INSTRUCTION = "Answer yes or no."
_NUMBER_INSTRUCTION = "Answer with one number from 0 to 3 and nothing else."


def _premise(instruction: str) -> Turn:
    return Turn(instruction=instruction, question=_NEUTRAL_QUESTION)


def _state_probe(state: int) -> CandidateProbe:
    return CandidateProbe(
        name=f"state{state}",
        turn=Turn(
            context=_STORY_AND_SPEECH,
            instruction=_PERCENT_INSTRUCTION,
            question=f"How likely is it that {{claim{state}}}?",
        ),
        answers=tuple(
            Answer(label=f"{percent}%", surface_forms=(f"{percent}%",), value=float(percent))
            for percent in PERCENTS
        ),
        premise=_premise(_PERCENT_INSTRUCTION),
    )


_KNOWLEDGE_PROBE = CandidateProbe(
    name="knowledge",
    turn=Turn(
        context=_STORY_AND_SPEECH,
        instruction=_YES_NO_INSTRUCTION,
        question="{knowledge_question}",
    ),
    answers=(
        Answer(label="yes", surface_forms=("yes", "Yes")),
        Answer(label="no", surface_forms=("no", "No")),
    ),
    premise=_premise(_YES_NO_INSTRUCTION),
)

_DIRECT_PROBE = CandidateProbe(
    name="direct",
    turn=Turn(
        context=_STORY_AND_SPEECH,
        instruction=_NUMBER_INSTRUCTION,
        question="{speech_question}",
    ),
    answers=tuple(
        Answer(label=str(state), surface_forms=(str(state),), value=float(state))
        for state in STATES
    ),
    premise=_premise(_NUMBER_INSTRUCTION),
)


def _probability_columns() -> tuple[ProbabilityColumn, ...]:
    probabilities = [
        ProbabilityColumn(
            name=f"state{state}_prob_{percent}",
            probe=f"state{state}",
            measure=Measure.PROBABILITY,
            answers=(f"{percent}%",),
            description=f"Probability of the answer {percent}% to: how likely is it that exactly "
            f"{state} of the 3 items have the property?",
        )
        for state in STATES
        for percent in PERCENTS
    ]
    wording = {
        Measure.MEAN: "Mean, in percent points, of the distribution over answers for state",
        Measure.STD: "Standard deviation (population), in percent points, of the distribution "
        "for state",
        Measure.ENTROPY: "Entropy, in bits, of the distribution over the 11 answers for state",
    }
    statistics = [
        ProbabilityColumn(
            name=f"state{state}_{measure}",
            probe=f"state{state}",
            measure=measure,
            description=f"{words} {state}.",
        )
        for state in STATES
        for measure, words in wording.items()
    ]
    knowledge = [
        ProbabilityColumn(
            name=f"prob_knowledge_{answer}",
            probe="knowledge",
            measure=Measure.PROBABILITY,
            answers=(answer,),
            description=f"Probability of the answer {answer} to: does the speaker know exactly "
            "how many?",
        )
        for answer in ("yes", "no")
    ]
    entropy = ProbabilityColumn(
        name="entropy_knowledge",
        probe="knowledge",
        measure=Measure.ENTROPY,
        description="Entropy, in bits, of the yes/no distribution.",
    )
    return (*probabilities, *statistics, *knowledge, entropy)


def _bets(row: Mapping[str, str]) -> list[str]:
    return [row[str(state)] for state in STATES]


def _incomplete(row: Mapping[str, str]) -> bool:
    bets = _bets(row)
    return "" in bets or sum(int(bet) for bet in bets) != 100


def _wrong_knowledge(row: Mapping[str, str]) -> bool:
    return row["Knowledge_A"] != ("yes" if row["access"] == "3" else "no")


KNOWLEDGE = Study(
    key="study1",
    title="Knowledge and implicature",
    description="What a listener believes after a speaker who saw only some of 3 items reports "
    "a number.",
    citation="Goodman, N. D., & Stuhlmüller, A. (2013). Knowledge and implicature: Modeling "
    "language understanding as social cognition. Topics in Cognitive Science, 5(1), 173-184.",
    columns=(
        Column("participant_id", "Participant, as numbered in the input."),
        Column("story_shortname", "Short name of the story."),
        Column("story_setup", "The story; `<br>` marks a line break."),
        Column(
            "priorQ",
            "Question before the speech, about all 3 items.",
            expected="'How many of the 3 ITEMS do you think have ...?'",
        ),
        Column("speech", "What the speaker says.", aliases=("speach",)),
        Column("speechQ", "Question after the speech.", aliases=("speachQ",)),
        Column("knowledgeQ", "Whether the speaker knows exactly how many."),
        Column(
            "access", "How many of the 3 items the speaker looked at.", choices=("0", "1", "2", "3")
        ),
        Column("observe", "How many of those have the property.", choices=("0", "1", "2", "3")),
    ),
    stimulus_columns=("story_setup", "priorQ", "speech", "speechQ", "knowledgeQ"),
    conditions=("access", "observe"),
    derive=_derive,
    dialogue=(
        ResponseProbe(
            name="prior",
            turn=Turn(
                context="{story}",
                instruction="Answer with one number from 0 to 3.",
                question="{prior_question}",
            ),
            max_tokens=64,
        ),
        ResponseProbe(
            name="speech",
            turn=Turn(context="{speech_text}", instruction=_BETTING, question="{speech_question}"),
            max_tokens=160,
        ),
        ResponseProbe(
            name="knowledge",
            turn=Turn(instruction="Answer yes or no.", question="{knowledge_question}"),
            max_tokens=64,
        ),
    ),
    candidate_probes=(
        *(_state_probe(state) for state in STATES),
        _KNOWLEDGE_PROBE,
        _DIRECT_PROBE,
    ),
    probability_columns=_probability_columns(),
    fields=(
        AnswerField(
            name="Prior_A",
            kind="integer",
            minimum=0,
            maximum=3,
            probe="prior",
            description="How many of the 3 items have the property, as answered before the speech.",
        ),
        *(
            AnswerField(
                name=str(state),
                kind="integer",
                minimum=0,
                maximum=100,
                probe="speech",
                description=f"Bet in dollars on the answer {state} after the speech.",
            )
            for state in STATES
        ),
        AnswerField(
            name="Knowledge_A",
            kind="choice",
            choices=("yes", "no"),
            uncertain=True,
            probe="knowledge",
            description="Whether the speaker knows exactly how many.",
        ),
    ),
    sums=(FieldSum(fields=tuple(str(state) for state in STATES), total=100),),
    exclusions=(
        Exclusion("incomplete", "A bet is missing, or the bets do not sum to 100.", _incomplete),
        Exclusion(
            "wrong_prior",
            "The answer before the speech is not 3.",
            lambda row: row["Prior_A"] != "3",
        ),
        Exclusion(
            "wrong_knowledge",
            "The answer about the speaker's knowledge is uncertain, missing, or not yes exactly "
            "when access is 3.",
            _wrong_knowledge,
        ),
    ),
    coherence=Coherence(
        name="states",
        labels=tuple(str(state) for state in STATES),
        columns=tuple(f"state{state}_mean" for state in STATES),
        direct="direct",
    ),
    agreements=(
        Agreement("knowledge", "knowledge", ("Knowledge_A",), "joined"),
        Agreement("state", "direct", tuple(str(state) for state in STATES), "largest"),
    ),
    headlines={
        **{f"{state}_mean": f"bet on {state}" for state in STATES},
        "Knowledge_A_prop_yes": "says knows",
        **{f"state{state}_mean": f"% for {state}" for state in STATES},
        "prob_knowledge_yes": "P(knows)",
    },
)
"""The study as `grace` runs it under the key `study1`."""
