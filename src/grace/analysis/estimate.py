"""
Means with uncertainty that respects repeated stimuli.

Rows that show the same stimulus are not independent: 300 rows may hold 36
stimuli. The standard error is therefore cluster-robust by stimulus (Liang and
Zeger 1986, with the factor G/(G-1) for G clusters), and the interval uses a t
distribution with G-1 degrees of freedom. With one value per stimulus this is
the ordinary standard error of a mean.
"""

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Estimate:
    """
    A mean and its uncertainty.

    Attributes:
        mean: Of all values.

        se: Standard error; None with fewer than two stimuli.

        ci_low, ci_high: 95% interval; None with fewer than two stimuli.

        n: Values.

        n_stimuli: Stimuli.
    """

    mean: float
    se: float | None
    ci_low: float | None
    ci_high: float | None
    n: int
    n_stimuli: int


class Tally:
    """
    Values of any number of rows, as counts: what repeats takes no memory.

    Means of it are exact: sums are rounded once, so the order of values does not
    matter.
    """

    def __init__(self) -> None:
        self.n = 0
        self._counts: Counter[tuple[str, float]] = Counter()

    def add(self, stimulus: str, value: float) -> None:
        """Add the value of a row that shows a stimulus."""
        self.n += 1
        self._counts[stimulus, value] += 1

    def estimate(self) -> Estimate | None:
        """
        Estimate the mean with a standard error by stimulus.

        Returns:
            The estimate, or None if there is nothing to estimate from.
        """
        n = self.n
        if n == 0:
            return None
        mean = math.fsum(value for _, value in self._counts.elements()) / n
        residuals: dict[str, list[tuple[float, int]]] = defaultdict(list)
        for (stimulus, value), times in self._counts.items():
            residuals[stimulus].append((value - mean, times))
        clusters = len(residuals)
        if clusters < 2:
            return Estimate(mean, None, None, None, n, clusters)
        squares = math.fsum(_sum(values) ** 2 for values in residuals.values())
        se = math.sqrt(clusters / (clusters - 1) * squares) / n
        half = _t_quantile(clusters - 1) * se
        return Estimate(mean, se, mean - half, mean + half, n, clusters)


def _sum(counted: Iterable[tuple[float, int]]) -> float:
    return math.fsum(
        itertools.chain.from_iterable(itertools.repeat(value, times) for value, times in counted)
    )


def _t_quantile(degrees: int) -> float:
    """Return the 97.5% quantile of Student's t distribution."""
    # Loading scipy takes longer than most commands run; few of them need it.
    from scipy.special import stdtrit

    return float(stdtrit(degrees, 0.975))
