"""A cluster's API: plain objects in and out, patient, and with errors in words."""

from grace.cluster.client.api import Patience
from grace.cluster.client.asking import Rule
from grace.cluster.client.client import ClusterClient
from grace.cluster.client.objects import (
    Kind,
    Manifest,
    ObjectId,
    annotations_of,
    at,
    id_of,
    kind_of,
    labels_of,
    number,
    parts,
    text,
)
from grace.cluster.client.pods import Output
from grace.cluster.client.running import Ended, RunningCommand
from grace.cluster.client.storing import FIELD_MANAGER, Propagation, digest_manager
from grace.cluster.client.watching import Change, ChangeKind

__all__ = [
    "FIELD_MANAGER",
    "Change",
    "ChangeKind",
    "ClusterClient",
    "Ended",
    "Kind",
    "Manifest",
    "ObjectId",
    "Output",
    "Patience",
    "Propagation",
    "Rule",
    "RunningCommand",
    "annotations_of",
    "at",
    "digest_manager",
    "id_of",
    "kind_of",
    "labels_of",
    "number",
    "parts",
    "text",
]
