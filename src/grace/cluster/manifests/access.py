"""
Who may do what: a service account for each role of a pod, and one Role.

One pod of ours talks to the API, that of the driver, and has a token. Its Role
may also be bound to whoever drives runs without being an administrator of the
namespace: a person, or a workflow controller.
"""

from collections.abc import Iterator, Mapping, Sequence

from kubernetes.client import (
    RbacV1Subject,
    V1PolicyRule,
    V1Role,
    V1RoleBinding,
    V1RoleRef,
    V1ServiceAccount,
)

from grace.cluster.manifests.labels import Component, labelled, metadata
from grace.cluster.request import ClusterRun

DRIVER = "grace-driver"

_ACCOUNTS: Mapping[Component, str] = {
    Component.QUERY: "grace-query",
    Component.SERVER: "grace-server",
    Component.WEIGHTS: "grace-weights",
    Component.RESULTS: "grace-results",
    Component.DRIVER: DRIVER,
}
# It is for more than the pod: a person or a workflow may have it.
_PURPOSES = {Component.DRIVER: Component.SETUP}
_RBAC = "rbac.authorization.k8s.io"
# Server-side apply is a patch, of an object that may not be there yet.
_OWN = ["get", "list", "watch", "create", "patch", "delete"]
_READ = ["get", "list", "watch"]

DRIVER_RULES: Sequence[tuple[str, Sequence[str], Sequence[str]]] = (
    ("", ("configmaps", "persistentvolumeclaims", "services", "serviceaccounts"), _OWN),
    ("batch", ("jobs",), _OWN),
    ("apps", ("statefulsets",), _OWN),
    ("policy", ("poddisruptionbudgets",), _OWN),
    ("autoscaling", ("horizontalpodautoscalers",), _OWN),
    ("networking.k8s.io", ("networkpolicies",), _OWN),
    ("", ("pods",), [*_READ, "delete"]),
    ("", ("pods/log",), ["get"]),
    # A websocket is opened by GET, what went before it by POST.
    ("", ("pods/exec",), ["get", "create"]),
    ("", ("events", "resourcequotas", "limitranges"), _READ),
)
"""What driving a run needs: API group, resources, verbs."""

_KEDA = ("keda.sh", ("scaledobjects",), _OWN)


def account_of(component: Component) -> str:
    """Return the service account of pods that are for something."""
    return _ACCOUNTS[component]


def service_accounts(run: ClusterRun) -> tuple[V1ServiceAccount, ...]:
    """Return the accounts of pods; no token is mounted unless a pod asks for it."""
    return tuple(
        V1ServiceAccount(
            api_version="v1",
            kind="ServiceAccount",
            metadata=metadata(run, name, labelled(_PURPOSES.get(component, component))),
            automount_service_account_token=False,
        )
        for component, name in _ACCOUNTS.items()
    )


def driver_role(run: ClusterRun) -> V1Role:
    """Return what driving a run needs, and nothing else: no Secret, no Role, no node."""
    return V1Role(
        api_version=f"{_RBAC}/v1",
        kind="Role",
        metadata=metadata(run, DRIVER, labelled(Component.SETUP)),
        rules=[
            V1PolicyRule(api_groups=[group], resources=list(resources), verbs=list(verbs))
            for group, resources, verbs in _rules(run)
        ],
    )


def _rules(run: ClusterRun) -> Iterator[tuple[str, Sequence[str], Sequence[str]]]:
    yield from DRIVER_RULES
    if run.profile.model_servers.autoscaler == "keda":
        # Nobody may grant what they do not have, and few have this where KEDA is not installed.
        yield _KEDA


def driver_binding(run: ClusterRun) -> V1RoleBinding:
    """Return the binding of that Role to the account of the same name."""
    return V1RoleBinding(
        api_version=f"{_RBAC}/v1",
        kind="RoleBinding",
        metadata=metadata(run, DRIVER, labelled(Component.SETUP)),
        role_ref=V1RoleRef(api_group=_RBAC, kind="Role", name=DRIVER),
        subjects=[RbacV1Subject(kind="ServiceAccount", name=DRIVER, namespace=run.namespace)],
    )
