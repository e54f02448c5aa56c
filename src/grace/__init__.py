"""
Grace runs cognitive-science experiments on open-weight language models.

The functions of `grace.api` are here: `grace.run(...)`, `grace.plan(...)`,
`grace.doctor(...)`, `grace.read_dataframe(...)`. They are loaded when they are first used, because
the command line and the model server's process need none of them.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from grace.api import DoctorReport, RunResult, RunResults, doctor, plan, read_dataframe, run

__all__ = ["DoctorReport", "RunResult", "RunResults", "doctor", "plan", "read_dataframe", "run"]


def __getattr__(name: str) -> Any:  # noqa: ANN401  any of the names above
    if name not in __all__:
        raise AttributeError(f"module 'grace' has no attribute {name!r}")
    from grace import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted(__all__)
