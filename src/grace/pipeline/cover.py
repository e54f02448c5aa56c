"""
Which prompts to try: few, and yet of every kind.

The choice depends on the plan only, so that two examinations look at the same.
"""

from collections.abc import Sequence

from grace.engine.plan import ScorePlan, ScoreQuery, ScoreRow


def spread(queries: Sequence[ScoreQuery], most: int) -> list[ScoreQuery]:
    """Return at most *most* queries: the longest prompt first, then evenly spread ones."""
    longest = max(range(len(queries)), key=lambda index: _length(queries[index]))
    step = max(1.0, len(queries) / most)
    places = dict.fromkeys([longest, *(int(n * step) for n in range(min(most, len(queries))))])
    return [queries[place] for place in places][:most]


def sample_rows(plan: ScorePlan, most: int) -> list[ScoreRow]:
    """
    Choose rows that cover a design: each adds the most levels that are new.

    Levels are the values of the conditions and of the columns that reach a
    prompt. Rows with one stimulus are taken once.
    """
    study = plan.trials.study
    names = [*study.conditions, *study.stimulus_columns]
    first: dict[str, ScoreRow] = {}
    for row in plan.rows:
        first.setdefault(row.trial.stimulus_id, row)
    levels = {
        stimulus: {(name, row.trial.variables[name]) for name in names}
        for stimulus, row in first.items()
    }
    chosen: list[ScoreRow] = []
    while levels and len(chosen) < most:
        best = max(levels, key=lambda stimulus: len(levels[stimulus]))
        new = levels.pop(best)
        levels = {stimulus: held - new for stimulus, held in levels.items()}
        chosen.append(first[best])
    return chosen


def _length(query: ScoreQuery) -> int:
    turn = query.turn
    return len(turn.context) + len(turn.instruction) + len(turn.question)
