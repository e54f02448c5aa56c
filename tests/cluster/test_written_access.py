"""
What each service account may do, written out: held against the roles, and against a real cluster.

`kubectl auth can-i --list --as system:serviceaccount:NAMESPACE:ACCOUNT` shows the same to a person.
"""

import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
from cluster_runs import Variant, a_run, variants

from grace.cluster.client import ClusterClient
from grace.cluster.manifests import Manifest, setup_objects

MAY = {
    "grace-driver": """
        configmaps                             create delete get list patch watch
        persistentvolumeclaims                 create delete get list patch watch
        serviceaccounts                        create delete get list patch watch
        services                               create delete get list patch watch
        jobs.batch                             create delete get list patch watch
        statefulsets.apps                      create delete get list patch watch
        poddisruptionbudgets.policy            create delete get list patch watch
        horizontalpodautoscalers.autoscaling   create delete get list patch watch
        networkpolicies.networking.k8s.io      create delete get list patch watch
        pods                                   delete get list watch
        pods/exec                              create get
        pods/log                               get
        events                                 get list watch
        limitranges                            get list watch
        resourcequotas                         get list watch
    """,
    "grace-query": "",
    "grace-server": "",
    "grace-weights": "",
    "grace-results": "",
}
"""By account: a resource and its verbs on each line; nothing where there is none."""

WITH_KEDA = {"scaledobjects.keda.sh": ("create", "delete", "get", "list", "patch", "watch")}
"""What the driver may do as well where KEDA adds replicas."""

ANYBODY = {
    "selfsubjectaccessreviews.authorization.k8s.io",
    "selfsubjectreviews.authentication.k8s.io",
    "selfsubjectrulesreviews.authorization.k8s.io",
}
"""What every account of every cluster may ask: about itself."""

Access = Mapping[str, tuple[str, ...]]


def written(account: str) -> Access:
    """Return what the list says of an account."""
    lines = (line.split() for line in MAY[account].strip().splitlines())
    return {resource: tuple(verbs) for resource, *verbs in lines}


def granted(rules: Sequence[Mapping[str, Any]]) -> Access:
    """Return what rules of a Role, or of a cluster's answer, allow."""
    found: dict[str, set[str]] = {}
    for rule in rules:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                found.setdefault(f"{resource}.{group}" if group else resource, set()).update(
                    rule["verbs"]
                )
    return {resource: tuple(sorted(verbs)) for resource, verbs in found.items()}


def of_kind(objects: Sequence[Manifest], kind: str) -> Iterator[Mapping[str, Any]]:
    yield from (each for each in objects if each["kind"] == kind)


@pytest.mark.parametrize("variant", variants(), ids=lambda variant: variant.name)
def test_the_list_is_what_the_roles_allow_and_no_account_is_left_out(variant: Variant) -> None:
    objects = setup_objects(variant.run)
    roles = {each["metadata"]["name"]: granted(each["rules"]) for each in of_kind(objects, "Role")}
    found: dict[str, dict[str, tuple[str, ...]]] = {
        each["metadata"]["name"]: {} for each in of_kind(objects, "ServiceAccount")
    }
    for binding in of_kind(objects, "RoleBinding"):
        for subject in binding["subjects"]:
            found[subject["name"]] |= roles[binding["roleRef"]["name"]]
    expected = {account: dict(written(account)) for account in MAY}
    if variant.run.profile.model_servers.autoscaler == "keda":
        expected["grace-driver"] |= WITH_KEDA
    assert found == expected


def test_rules_are_read_with_their_groups_and_their_verbs_are_joined() -> None:
    rules = [
        {"apiGroups": ["", "batch"], "resources": ["jobs"], "verbs": ["get"]},
        {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["create", "get"]},
    ]
    assert granted(rules) == {"jobs": ("get",), "jobs.batch": ("create", "get")}


@pytest.mark.cluster
@pytest.mark.skipif("KUBECONFIG" not in os.environ, reason="KUBECONFIG names no cluster")
@pytest.mark.skipif(shutil.which("kubectl") is None, reason="there is no kubectl")
async def test_a_real_cluster_allows_what_is_written_and_nothing_else() -> None:
    namespace = f"grace-test-{secrets.token_hex(4)}"
    async with await ClusterClient.connect() as client:
        await client.apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
        )
        try:
            for manifest in setup_objects(a_run()):
                if manifest["kind"] in {"ServiceAccount", "Role", "RoleBinding"}:
                    await client.apply(moved(manifest, namespace))
            found = {account: allowed(namespace, account) for account in MAY}
        finally:
            await client.delete("Namespace", namespace)
    assert found == {account: written(account) for account in MAY}


def moved(manifest: Manifest, namespace: str) -> Manifest:
    """Return an object for another namespace, subjects of a binding included."""
    text = json.dumps(manifest).replace("grace-experiments", namespace)
    found: dict[str, Any] = json.loads(text)
    return found


def allowed(namespace: str, account: str) -> Access:
    """Return what a cluster says that an account may do there, beyond what anybody may."""
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": namespace},
    }
    answer = subprocess.run(  # noqa: S603  kubectl, with names of ours
        [
            *("kubectl", "create", "--output", "json", "--filename", "-"),
            f"--as=system:serviceaccount:{namespace}:{account}",
            *("--as-group=system:serviceaccounts", "--as-group=system:authenticated"),
        ],
        input=json.dumps(review),
        capture_output=True,
        text=True,
        check=True,
    )
    rules = json.loads(answer.stdout)["status"]["resourceRules"]
    return {name: verbs for name, verbs in granted(rules).items() if name not in ANYBODY}
