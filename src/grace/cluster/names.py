"""
Names of Kubernetes objects, made from catalogue keys and timestamps.

A name is a DNS label: at most 63 lower-case letters, digits and hyphens. Keys
may be longer and may hold dots; what has to be changed or cut gets a digest of
the whole behind it, so that different keys never share a name, and a key always
has the same one.
"""

import hashlib
import re

from grace.cluster.steps import Step

LONGEST = 63
LONGEST_JOB = 52
"""A Job's pods are called by its name and up to 11 characters more."""
_DIGEST = 6
_OTHER = re.compile(r"[^a-z0-9]+")
# What ends like this may be the slug of something else.
_DIGESTED = re.compile(rf".*-[0-9a-f]{{{_DIGEST}}}")


def slug(text: str, longest: int = 24) -> str:
    """
    Return *text* as part of a name.

    Args:
        text: Any text: a catalogue key, a study's key, the hash of an input.

        longest: The most characters that the result may have; at least 8.

    >>> slug("gemma-2-2b"), slug("a.b"), slug("a-b")
    ('gemma-2-2b', 'a-b-2e7336', 'a-b')
    """
    plain = _OTHER.sub("-", text.lower()).strip("-")
    if plain == text and len(plain) <= longest and not _DIGESTED.fullmatch(plain):
        return plain
    digest = hashlib.sha256(text.encode()).hexdigest()[:_DIGEST]
    kept = plain[: longest - _DIGEST - 1].rstrip("-") or "x"
    return f"{kept}-{digest}"


def joined(*parts: str, longest: int = LONGEST) -> str:
    """
    Return the parts as one name.

    Raises:
        ValueError: The name is longer than *longest*: a programming mistake,
            since the parts are bounded.
    """
    name = "-".join(part for part in parts if part)
    if len(name) > longest:
        raise ValueError(f"{name!r} has {len(name)} characters; expected {longest} at most")
    return name


def server_name(key: str) -> str:
    """
    Return what the server of a model is called: its StatefulSet or Job, and its Service.

    >>> server_name("gemma-2-2b")
    'model-gemma-2-2b'
    """
    return joined("model", slug(key))


def peers_name(key: str) -> str:
    """Return what the headless Service of a model's pods is called."""
    return joined("peers", slug(key))


def weights_name(key: str) -> str:
    """Return what the claim for a model's weights is called."""
    return joined("weights", slug(key))


def step_job_name(run_id: str, step: Step) -> str:
    """
    Return what the Job of a step is called: `respond-exp1-gemma-2-2b-20260131t235959z`.

    Args:
        run_id: Of the run, 16 characters.

        step: The step.
    """
    return joined(
        step.kind, step.experiment or "", slug(step.model, 22), run_id, longest=LONGEST_JOB
    )


def files_job_name(run_id: str) -> str:
    """Return what the Job is called whose pod hands a run's files over."""
    return joined("files", run_id, longest=LONGEST_JOB)


def driver_job_name(run_id: str) -> str:
    """Return what the Job is called that drives a run."""
    return joined("driver", run_id, longest=LONGEST_JOB)


def step_label(name: str) -> str:
    """
    Return a step's name as the value of a label.

    >>> step_label("respond.exp1.gemma-2-2b")
    'respond.exp1.gemma-2-2b'
    """
    # A step's name holds a key, which may be as long as a value may be.
    return name if len(name) <= LONGEST else slug(name, LONGEST)
