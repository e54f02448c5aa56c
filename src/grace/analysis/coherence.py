"""
Whether likelihoods that were asked one by one fit together.

A model may be asked how likely each of several exclusive states is. Nothing
makes the answers add up to 100%. Their sum is a measure of coherence; divided by
it, they are a belief over the states, to be held against the direct measure.
"""

import math
from collections.abc import Callable, Mapping

from grace.studies.study import Coherence

Reader = Callable[[Mapping[str, str]], float | None]
"""Takes a value from a row's cells; None if there is none."""


def coherence_measures(coherence: Coherence) -> dict[str, Reader]:
    """
    Return the measures of how far separate likelihoods of exclusive states fit together.

    With m_k the mean likelihood of state k, in percent points, and d_k the
    probability of the state in the direct measure:

        {name}_sum            S = Σ_k m_k; 100 if coherent
        {name}_belief_{k}     b_k = m_k / S, the belief made of them
        {name}_from_direct    ½ Σ_k |b_k - d_k|, total variation, 0 to 1
    """

    def means(values: Mapping[str, str]) -> list[float] | None:
        texts = [values.get(column, "") for column in coherence.columns]
        return None if "" in texts else [float(text) for text in texts]

    def beliefs(values: Mapping[str, str]) -> list[float] | None:
        found = means(values)
        total = 0.0 if found is None else math.fsum(found)
        return None if found is None or total <= 0 else [mean / total for mean in found]

    def total(values: Mapping[str, str]) -> float | None:
        found = means(values)
        return None if found is None else math.fsum(found)

    def belief(place: int) -> Reader:
        def read(values: Mapping[str, str]) -> float | None:
            found = beliefs(values)
            return None if found is None else found[place]

        return read

    def from_direct(values: Mapping[str, str]) -> float | None:
        found = beliefs(values)
        texts = [values.get(f"{coherence.direct}_prob_{label}", "") for label in coherence.labels]
        if found is None or "" in texts:
            return None
        direct = [float(text) for text in texts]
        return math.fsum(abs(b - d) for b, d in zip(found, direct, strict=True)) / 2

    return {
        f"{coherence.name}_sum": total,
        **{
            f"{coherence.name}_belief_{label}": belief(place)
            for place, label in enumerate(coherence.labels)
        },
        f"{coherence.name}_from_{coherence.direct}": from_direct,
    }
