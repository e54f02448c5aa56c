"""
What a live cluster says about itself, as far as a profile can be wrong about it.

Plain data; `grace.cluster.profile_check` compares it with a profile. Reading it
is the client's work. What could not be read is None, which is not the same as
empty.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Taint:
    """
    What keeps pods off a node unless they tolerate it.

    Attributes:
        key, value, effect: As the node says.
    """

    key: str
    value: str = ""
    effect: str = "NoSchedule"


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """
    One node.

    Attributes:
        name: Its name.

        labels: All of them.

        allocatable: By resource, as written: `{"cpu": "2", "nvidia.com/gpu": "4"}`;
            empty where users may only list names and labels.

        taints: All of them.

        schedulable: False while it is drained.
    """

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    allocatable: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    schedulable: bool = True


@dataclass(frozen=True, slots=True)
class StorageClassFacts:
    """
    One storage class.

    Attributes:
        name: Its name.

        provisioner: Who makes its volumes.

        default: Whether claims that name no class get it.
    """

    name: str
    provisioner: str = ""
    default: bool = False


@dataclass(frozen=True, slots=True)
class QuotaFacts:
    """
    One ResourceQuota of the namespace.

    Attributes:
        name: Its name.

        hard, used: By resource, as written: `{"requests.nvidia.com/a100": "0"}`.
    """

    name: str
    hard: Mapping[str, str]
    used: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """
    A cluster, as seen with the user's permissions.

    Attributes:
        server_version: `v1.36.2`.

        namespace: The one that was looked at.

        namespace_exists: Whether it is there; None if that may not be asked.

        namespace_labels: Its labels, with the Pod Security levels among them.

        storage_classes: All of them.

        nodes: All of them.

        quotas: Of the namespace.

        permissions: Whether the user may, by (verb, resource); a resource of a
            group is written `jobs.batch`, a subresource `pods/log`.

        api_groups: Groups that the server knows: `argoproj.io`, `keda.sh`.

        secrets: By name, the keys of the Secrets that the profile refers to;
            None for a Secret that is not there. Never a value.
    """

    server_version: str
    namespace: str
    namespace_exists: bool | None = None
    namespace_labels: Mapping[str, str] | None = None
    storage_classes: tuple[StorageClassFacts, ...] | None = None
    nodes: tuple[NodeFacts, ...] | None = None
    quotas: tuple[QuotaFacts, ...] | None = None
    permissions: Mapping[tuple[str, str], bool] = field(default_factory=dict)
    api_groups: frozenset[str] | None = None
    secrets: Mapping[str, frozenset[str] | None] | None = None
