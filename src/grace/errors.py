"""
Every exception that Grace raises on purpose, in one tree.

A class exists because some caller handles it differently.

    GraceError                      the command line prints it and exits with 1
    ├── UsageError                  wrong flags, files or values: exit 2
    │   ├── InputFaults             many faults of one input file, all at once
    │   ├── StudyDefinitionError    a study file does not describe a study
    │   └── CatalogueError          a model that does not exist, a bad entry
    ├── RunInterrupted              stopped at once, on request: exit 3
    ├── IdentityMismatch            a resume, or a server, under another identity
    ├── AccessRefused               the server refuses whatever it is asked
    ├── RunFolderError              a run folder that cannot be used
    │   ├── CorruptJournal          something else wrote to a journal
    │   └── RunLocked               another process works on this run
    ├── WeightsError                weights that cannot be had or verified
    ├── ServingError                the embedded server did not start
    ├── ValidationFailed            tables that break their contract
    ├── ClusterError                the cluster, or what it holds, does not allow it
    │   ├── ClusterUnavailable      transient: retried
    │   ├── ClusterDenied           not permitted; what is only wanted becomes unknown
    │   ├── FieldConflict           somebody else keeps an object: perhaps another run
    │   └── ObjectMissing           gone, perhaps since it was last seen
    ├── ScoringError                an answer set that cannot be scored exactly
    │   └── TokenBoundaryError      a seam inside a token
    └── InferenceError              one query did not get its answer
        ├── ServerUnavailable       transient: retried
        │   └── GarbledReply        not JSON: cut off, or not from the server
        ├── QueryRejected           permanent: never retried
        ├── BadReply                the server answered with something else
        └── UnsupportedByServer     the server cannot do this exactly
"""

from collections.abc import Sequence


class GraceError(Exception):
    """The base of all errors that a user can cause or meet."""


class UsageError(GraceError):
    """The command, a file or a value is wrong; the message says what to change."""


class InputFaults(UsageError):
    """
    Everything that is wrong with one input file.

    Args:
        source: The file's name, as the user gave it.

        faults: One line each, already naming row, column, value and remedy.
    """

    def __init__(self, source: str, faults: Sequence[str]) -> None:
        self.source = source
        self.faults = tuple(faults)
        count = len(self.faults)
        noun = "fault" if count == 1 else "faults"
        super().__init__("\n".join([f"{source}: {count} {noun}; nothing was sent", *self.faults]))


class StudyDefinitionError(UsageError):
    """A study's definition is not usable."""


class CatalogueError(UsageError):
    """A model is not in the catalogue, or its entry is wrong."""


class RunInterrupted(GraceError):
    """The user wants to leave at once; what was finished is kept."""


class IdentityMismatch(GraceError):
    """
    A run would be resumed under another identity, or its server became another one.

    Args:
        message: What was to be continued, and what to do instead.

        differences: One line for each field that differs.
    """

    def __init__(self, message: str, differences: Sequence[str]) -> None:
        self.differences = tuple(differences)
        super().__init__("\n".join([message, *(f"  {line}" for line in self.differences)]))


class AccessRefused(GraceError):
    """The server refuses whatever it is asked: its key, account or address is at fault."""


class RunFolderError(GraceError):
    """A run folder is missing, incomplete or unusable."""


class CorruptJournal(RunFolderError):
    """A journal holds a line that Grace did not write."""


class RunLocked(RunFolderError):
    """Another process is working on this run."""


class WeightsError(GraceError):
    """A model's weights cannot be had, or are not what was promised."""


class ServingError(GraceError):
    """The embedded model server did not start or died."""


class ValidationFailed(GraceError):
    """
    Tables or manifest break their contract.

    Args:
        source: The run folder.

        faults: One line each.
    """

    def __init__(self, source: str, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        count = len(self.faults)
        noun = "fault" if count == 1 else "faults"
        super().__init__("\n".join([f"{source}: {count} {noun}", *self.faults]))


class ClusterError(GraceError):
    """The cluster refuses, or holds something that stands in the way."""


class ClusterUnavailable(ClusterError):
    """
    The cluster's API did not answer, or asked for patience; worth another try.

    Args:
        message: What happened.

        retry_after_seconds: How long the API asked to wait, if it did.
    """

    def __init__(self, message: str, retry_after_seconds: float | None = None) -> None:
        self.retry_after_seconds = retry_after_seconds
        super().__init__(message)


class ClusterDenied(ClusterError):
    """The user may not do this on the cluster."""


class FieldConflict(ClusterError):
    """Somebody else owns fields of an object that would be changed."""


class ObjectMissing(ClusterError):
    """An object of the cluster is not there, perhaps no longer."""


class ScoringError(GraceError):
    """A candidate set cannot be scored exactly on this model."""


class TokenBoundaryError(ScoringError):
    """The seam between a prompt and a continuation falls inside a token."""


class InferenceError(GraceError):
    """A query did not get its answer."""


class ServerUnavailable(InferenceError):
    """
    The server did not answer, or asked for patience; worth another try.

    Args:
        message: What happened.

        retry_after_seconds: How long the server asked to wait, if it did.
    """

    def __init__(self, message: str, retry_after_seconds: float | None = None) -> None:
        self.retry_after_seconds = retry_after_seconds
        super().__init__(message)


class GarbledReply(ServerUnavailable):
    """The reply is not JSON: it was cut off, or comes from something before the server."""


class QueryRejected(InferenceError):
    """
    The server refuses this query; asking again would not help.

    Args:
        message: What happened.

        http_status: The status of the refusal, if the server gave one.
    """

    def __init__(self, message: str, http_status: int | None = None) -> None:
        self.http_status = http_status
        super().__init__(message)


class BadReply(InferenceError):
    """The server's reply is not what its interface promises."""


class UnsupportedByServer(InferenceError):
    """The server has no exact way to do what is asked."""
