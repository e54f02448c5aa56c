"""Grace runs cognitive-science experiments on open-weight language models."""

from grace.api import RunResult, RunResults, plan, read_dataframe, run

__all__ = ["RunResult", "RunResults", "plan", "read_dataframe", "run"]
