"""What holds for every pod, whatever it runs; and who may do what."""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import pytest
from cluster_runs import Variant, a_run, at, changed, everything, kind_and_name, pods_of, variants

from grace.cluster.manifests import setup_objects
from grace.cluster.manifests.quantities import cpu, gigabytes, megabytes, requirements
from grace.cluster.profile import Resources, load_profile

each_variant = pytest.mark.parametrize("variant", variants(), ids=lambda variant: variant.name)


def quantity(text: str) -> Fraction:
    """Return what Kubernetes reads."""
    factors = {"m": Fraction(1, 1000), "M": Fraction(10**6), "G": Fraction(10**9)}
    return Fraction(text[:-1]) * factors[text[-1]] if text[-1] in factors else Fraction(text)


@each_variant
def test_every_pod_is_restricted(variant: Variant) -> None:
    for owner, template in pods_of(everything(variant.run)):
        spec = template["spec"]
        assert spec["securityContext"] == {
            "fsGroup": 10001,
            "fsGroupChangePolicy": "OnRootMismatch",
            "runAsGroup": 10001,
            "runAsNonRoot": True,
            "runAsUser": 10001,
            "seccompProfile": {"type": "RuntimeDefault"},
        }, owner
        # The one that drives a run asks the API; no other does.
        drives = spec["serviceAccountName"] == "grace-driver"
        assert spec["automountServiceAccountToken"] is drives
        assert spec["enableServiceLinks"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC", "hostUsers"} & set(spec)
        (container,) = spec["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        }
        kinds = {"emptyDir", "persistentVolumeClaim", "projected"}
        assert all(kinds & set(volume) for volume in spec["volumes"]), owner
        assert all("hostPort" not in port for port in container.get("ports", []))


@each_variant
def test_every_folder_in_memory_or_on_disk_is_bounded(variant: Variant) -> None:
    for owner, template in pods_of(everything(variant.run)):
        for volume in template["spec"]["volumes"]:
            if "emptyDir" in volume:
                assert quantity(volume["emptyDir"]["sizeLimit"]) > 0, owner


@each_variant
def test_limits_are_the_profiles_share_of_requests(variant: Variant) -> None:
    ratio = Fraction(str(variant.run.profile.limits_ratio))
    for owner, template in pods_of(everything(variant.run)):
        resources = template["spec"]["containers"][0]["resources"]
        requests, limits = resources["requests"], resources["limits"]
        assert requests.keys() == limits.keys() >= {"cpu", "memory", "ephemeral-storage"}, owner
        for name, asked in requests.items():
            if name.startswith("nvidia.com/"):
                assert limits[name] == asked
            else:
                assert quantity(asked) <= quantity(limits[name]) <= ratio * quantity(asked)


@each_variant
def test_every_pod_ends_in_bounded_time_and_is_retried_a_bounded_number_of_times(
    variant: Variant,
) -> None:
    for manifest in everything(variant.run):
        if manifest["kind"] == "StatefulSet":
            seconds = at(manifest, "spec", "template", "spec", "terminationGracePeriodSeconds")
            assert 0 < seconds <= 120
        if manifest["kind"] == "Job":
            spec = at(manifest, "spec")
            assert ("backoffLimit" in spec) != ("backoffLimitPerIndex" in spec)
            assert spec["activeDeadlineSeconds"] > 0
            assert spec["ttlSecondsAfterFinished"] >= 0
            assert at(spec, "template", "spec", "restartPolicy") == "Never"
            assert 0 < at(spec, "template", "spec", "terminationGracePeriodSeconds") <= 120


@each_variant
def test_no_image_is_the_latest_and_no_command_sleeps(variant: Variant) -> None:
    images = variant.run.profile.images
    known = {images.runner, images.llamacpp, images.vllm, images.tgi}
    for owner, template in pods_of(everything(variant.run)):
        container = template["spec"]["containers"][0]
        assert container["image"] in known, owner
        assert container["imagePullPolicy"] == images.pull_policy
        assert not any("sleep" in word for word in container["command"])
        assert "args" not in container


def test_the_pull_secret_is_for_every_pod() -> None:
    run = a_run(changed("local", images={"pull_secret": "registry"}))
    for owner, template in pods_of(everything(run)):
        assert template["spec"]["imagePullSecrets"] == [{"name": "registry"}], owner


def test_spot_nodes_are_preferred_and_tolerated_by_every_pod_of_a_run_that_asks_for_them() -> None:
    spot = {
        "node_labels": {"example.org/spot": "true"},
        "tolerations": [{"key": "example.org/spot", "effect": "NoSchedule"}],
    }
    profile = changed("nrp", spot=spot, tolerations=[{"key": "ours"}])
    for owner, template in pods_of(everything(a_run(profile, "gpt2", spot=True))):
        preferred = at(
            template,
            "spec",
            "affinity",
            "nodeAffinity",
            "preferredDuringSchedulingIgnoredDuringExecution",
        )
        assert at(preferred, 0, "preference", "matchExpressions") == [
            {"key": "example.org/spot", "operator": "In", "values": ["true"]}
        ], owner
        assert [each["key"] for each in template["spec"]["tolerations"]] == [
            "ours",
            "example.org/spot",
        ]
    for owner, template in pods_of(everything(a_run(profile, "gpt2"))):
        assert [each["key"] for each in template["spec"]["tolerations"]] == ["ours"], owner
        assert "preferred" not in str(template["spec"].get("affinity"))


def test_no_secret_is_made_and_values_come_by_reference() -> None:
    objects = everything(a_run("nrp", "gemma-2-2b", "gpt2", extractor="deepseek"))
    assert "Secret" not in {each["kind"] for each in objects}
    variables = {
        (owner.split("-2026")[0], variable["name"]): variable["valueFrom"]["secretKeyRef"]
        for owner, template in pods_of(objects)
        for variable in template["spec"]["containers"][0].get("env", [])
        if "valueFrom" in variable
    }
    hub, deepseek = ({"name": f"grace-{name}"} for name in ("hub", "deepseek"))
    assert variables == {
        ("weights-gemma-2-2b", "HF_TOKEN"): {**hub, "key": "HF_TOKEN"},
        # Not gated: fetched without a token as well.
        ("weights-gpt2", "HF_TOKEN"): {**hub, "key": "HF_TOKEN", "optional": True},
        ("extract-exp1-gemma-2-2b", "DEEPSEEK_API_KEY"): {**deepseek, "key": "DEEPSEEK_API_KEY"},
        ("extract-exp1-gpt2", "DEEPSEEK_API_KEY"): {**deepseek, "key": "DEEPSEEK_API_KEY"},
    }


def test_no_account_has_a_token() -> None:
    accounts = [each for each in everything(a_run()) if each["kind"] == "ServiceAccount"]
    assert [kind_and_name(each)[1] for each in accounts] == [
        *("grace-query", "grace-server", "grace-weights", "grace-results", "grace-driver")
    ]
    assert all(each["automountServiceAccountToken"] is False for each in accounts)


def test_accounts_are_those_of_their_roles() -> None:
    accounts = {
        owner.split("-")[0]: template["spec"]["serviceAccountName"]
        for owner, template in pods_of(
            everything(a_run("nrp", "gpt2", extractor="deepseek", recheck=1.0))
        )
    }
    assert accounts == {
        **{name: "grace-query" for name in ("smoke", "respond", "score", "recheck", "extract")},
        **{name: "grace-results" for name in ("finish", "files")},
        **{"weights": "grace-weights", "model": "grace-server", "driver": "grace-driver"},
    }


def test_the_driver_may_do_what_a_run_needs_and_nothing_else() -> None:
    objects = list(setup_objects(a_run()))
    (role,) = [each for each in objects if each["kind"] == "Role"]
    (binding,) = [each for each in objects if each["kind"] == "RoleBinding"]
    may = {
        (group, resource): set(rule["verbs"])
        for rule in at(role, "rules")
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    own = {"get", "list", "watch", "create", "patch", "delete"}
    ours = {
        *(
            ("", each)
            for each in ("configmaps", "persistentvolumeclaims", "services", "serviceaccounts")
        ),
        *(("batch", "jobs"), ("apps", "statefulsets"), ("policy", "poddisruptionbudgets")),
        *(("autoscaling", "horizontalpodautoscalers"),),
        ("networking.k8s.io", "networkpolicies"),
    }
    assert may == {
        **dict.fromkeys(ours, own),
        ("", "pods"): {"get", "list", "watch", "delete"},
        ("", "pods/log"): {"get"},
        ("", "pods/exec"): {"get", "create"},
        **{
            ("", each): {"get", "list", "watch"}
            for each in ("events", "resourcequotas", "limitranges")
        },
    }
    assert at(binding, "roleRef", "name") == "grace-driver"
    assert [each["name"] for each in at(binding, "subjects")] == ["grace-driver"]


def test_a_namespace_of_ours_is_restricted_and_has_a_quota() -> None:
    objects = {kind_and_name(each)[0]: each for each in setup_objects(a_run())}
    labels = at(objects["Namespace"], "metadata", "labels")
    for mode in ("enforce", "audit", "warn"):
        assert labels[f"pod-security.kubernetes.io/{mode}"] == "restricted"
    assert at(objects["ResourceQuota"], "spec", "hard") == load_profile("local").namespace.quota
    (item,) = at(objects["LimitRange"], "spec", "limits")
    assert item["defaultRequest"]["cpu"] == "100m"
    assert item["default"]["cpu"] == "300m"


def test_a_namespace_that_was_given_keeps_its_owners_rules() -> None:
    kinds = {each["kind"] for each in setup_objects(a_run("nrp", "gpt2"))}
    assert not {"Namespace", "ResourceQuota", "LimitRange"} & kinds


def resources_of(ratio: float, asked: Resources, gpus: Mapping[str, int]) -> Mapping[str, Any]:
    profile = changed("nrp", limits_ratio=ratio)
    return requirements(profile, asked, gpus).model_dump(by_alias=True, exclude_none=True)


def test_requests_and_limits_are_written_without_rounding_up_a_limit() -> None:
    assert resources_of(
        1.2, Resources(cpu=0.1, memory_gb=0.333, ephemeral_gb=1.001), {"nvidia.com/gpu": 2}
    ) == {
        "requests": {
            "cpu": "100m",
            "memory": "333M",
            "ephemeral-storage": "1001M",
            "nvidia.com/gpu": "2",
        },
        "limits": {
            "cpu": "120m",
            "memory": "399M",
            "ephemeral-storage": "1201M",
            "nvidia.com/gpu": "2",
        },
    }


def test_quantities_are_those_of_the_specification() -> None:
    assert (cpu(4000), cpu(50), megabytes(1500), gigabytes(50), gigabytes(0.1)) == (
        *("4", "50m", "1500M", "50G", "100M"),
    )
