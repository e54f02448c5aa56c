"""Exit codes: what a shell, a Job or a workflow is told."""

from grace.errors import GraceError, RunInterrupted, UsageError

EXIT_COMPLETE = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INCOMPLETE = 3


def exit_code(error: GraceError) -> int:
    """Return the exit code of a command that an error ended."""
    if isinstance(error, UsageError):
        return EXIT_USAGE
    return EXIT_INCOMPLETE if isinstance(error, RunInterrupted) else EXIT_FAILED
