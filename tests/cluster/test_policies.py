"""Each rule is broken in a set that is otherwise good, and caught by its name."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from capacity_runs import a_run, profile_with
from good_set import (
    NAMESPACE,
    SERVER,
    Objects,
    container,
    good_set,
    gpus,
    many_jobs,
    pod,
    scaler,
    scheduled,
    stateful,
)
from rule_breaks import (
    ALSO,
    BREAKS,
    Break,
    J,
    S,
    W,
    environment,
    limit,
    small_gpus,
    stateful_gpu,
    storage,
)

from grace.cluster.policies import (
    GENERAL_RULES,
    RULES,
    SITE_RULES,
    Finding,
    Manifest,
    Severity,
    lint,
    refusals,
    site_words,
    violations,
)
from grace.cluster.profile import Profile, load_profile

ROOT = Path(__file__).parents[2]


def nrp() -> Profile:
    """Return the NRP's profile."""
    return load_profile("nrp")


def without_secret(objects: Objects) -> Objects:
    """Take away what only the NRP's profile names."""
    container(objects, W).pop("env")
    return objects


def found(objects: Objects, profile: Profile | None = None) -> tuple[Finding, ...]:
    return lint(tuple(objects.values()), profile or nrp())


def rules_found(findings: tuple[Finding, ...], severity: Severity) -> set[str]:
    return {finding.rule for finding in findings if finding.severity is severity}


def test_a_good_set_breaks_no_rule_of_any_profile() -> None:
    assert found(good_set()) == ()
    assert found(without_secret(good_set()), load_profile("local")) == ()


@pytest.mark.parametrize(
    ("rule", "broken"), BREAKS, ids=[f"{rule}-{number}" for number, (rule, _) in enumerate(BREAKS)]
)
def test_a_broken_rule_is_caught_by_its_name(rule: str, broken: Break) -> None:
    objects = good_set()
    broken(objects)
    severity = next(it.severity for it in RULES if it.id == rule)
    findings = found(objects)
    assert rules_found(findings, severity) == {rule, *ALSO.get(rule, ())}
    assert bool(violations(findings)) == (severity is Severity.VIOLATION)
    assert bool(refusals(findings)) == (severity is not Severity.NOTICE)


def test_each_rule_has_been_broken() -> None:
    # Broken only in a set of which the run is known; each has a test below.
    elsewhere = {"site-jobs-applied", "claim-size", "server-precision"}
    assert {rule for rule, _ in BREAKS} | elsewhere == {rule.id for rule in RULES}


def test_rule_names_are_unique_and_words_are_complete() -> None:
    assert len({rule.id for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert rule.words
        assert rule.remedy
        assert not rule.words.endswith(".")


def test_a_finding_names_object_field_value_rule_source_and_remedy() -> None:
    objects = good_set()
    limit("cpu", "2")(objects)
    (finding,) = found(objects)
    assert finding.where == finding.object == J
    assert finding.field == "spec.template.spec.containers[0].resources.limits.cpu"
    assert finding.value == "2"
    assert "1.2 times what it requests" in finding.words
    assert finding.source.startswith("https://nationalresearchplatform.org/")
    assert finding.remedy in str(finding)
    assert f"{J}: spec.template.spec.containers[0].resources.limits.cpu is '2'" in str(finding)


def test_figures_come_from_the_profile() -> None:
    profile = nrp()
    ratio = profile.rules.limits_ratio
    assert ratio is not None
    looser = profile.rules.model_copy(
        update={"limits_ratio": ratio.model_copy(update={"at_most": 2.0})}
    )
    objects = good_set()
    limit("cpu", "2")(objects)
    assert found(objects, profile.model_copy(update={"rules": looser})) == ()


def test_limits_at_exactly_the_ratio_are_within_it() -> None:
    objects = good_set()
    limit("cpu", "1200m")(objects)
    assert found(objects) == ()


@pytest.mark.parametrize(
    "words",
    [
        ["grace", "stage", "respond", "--study", "sleep.yaml"],
        ["grace", "stage", "respond", "--model", "sleep"],
        ["grace", "stage", "respond", "--study", "/grace/inputs/sleep-study.yaml"],
        ["grace", "stage", "respond", "--config", "oversleep asleep sleepy"],
        ["grace", "models", "pull", "pip-model"],
        ["sh", "-c", "tail -f /grace/logs/run.log"],
    ],
)
def test_a_name_that_sounds_like_sleep_or_pip_is_no_sleep_and_no_pip(words: list[str]) -> None:
    objects = good_set()
    container(objects, W)["command"] = words
    assert found(objects) == ()


@pytest.mark.parametrize("url", ["http://[", "http://x:99999", "http://x:port", "http://:80"])
def test_a_url_that_is_none_is_passed_over(url: str) -> None:
    objects = good_set()
    container(objects, W)["command"] += ["--endpoint", url]
    assert found(objects) == ()


def test_the_full_name_of_a_service_is_its_service() -> None:
    objects = good_set()
    words = container(objects, J)["command"]
    place = words.index("--endpoint") + 1
    words[place] = f"http://{SERVER}.{NAMESPACE}.svc.cluster.local:8000"
    assert found(objects) == ()
    objects["NetworkPolicy/grace-servers"]["spec"]["ingress"] = []
    assert {finding.rule for finding in found(objects)} == {"server-edge"}


def test_a_sleep_outside_a_job_is_allowed() -> None:
    objects = good_set()
    container_ = container({"x": stateful(objects)}, "x")
    container_["lifecycle"] = {"preStop": {"exec": {"command": ["sleep", "5"]}}}
    assert not violations(found(objects))


def test_the_site_rules_of_another_site_are_not_checked() -> None:
    objects = good_set()
    limit("cpu", "2")(objects)
    storage("grace-output", "standard")(objects)
    many_jobs(objects, 500)
    assert found(without_secret(objects), load_profile("local")) == ()


def test_a_quota_of_zero_is_told_with_the_place_to_ask() -> None:
    objects = good_set()
    gpus(objects, S, 1, "NVIDIA-A100-SXM4-80GB", "nvidia.com/a100")
    findings = found(objects)
    assert not violations(findings)
    (quota,) = [finding for finding in findings if finding.rule == "gpu-quota"]
    assert refusals(findings) == (quota,)
    assert "https://nrp.ai/reservations" in quota.detail


def test_a_quota_is_told_too_where_only_the_resource_names_the_product() -> None:
    objects = good_set()
    gpus(objects, S, 1, "NVIDIA-A100-SXM4-80GB", "nvidia.com/a100")
    pod(objects, S).pop("affinity")
    assert "gpu-quota" in {finding.rule for finding in found(objects)}


def test_a_quota_counts_all_pods_that_there_may_be() -> None:
    profile = nrp()
    written = profile.gpus.products["NVIDIA-A100-SXM4-80GB"].model_copy(update={"quota": 2})
    products = {**profile.gpus.products, "NVIDIA-A100-SXM4-80GB": written}
    given = profile.gpus.model_copy(update={"products": products})
    profile = profile.model_copy(update={"gpus": given})
    objects = good_set()
    made = scaler(objects)
    gpus(objects, f"StatefulSet/{SERVER}", 1, "NVIDIA-A100-SXM4-80GB", "nvidia.com/a100")
    assert "gpu-quota" not in {finding.rule for finding in found(objects, profile)}
    made["spec"]["maxReplicas"] = 3
    assert "gpu-quota" in {finding.rule for finding in found(objects, profile)}


def test_pods_that_stay_on_one_node_may_share_its_volume() -> None:
    objects = good_set()
    server = stateful(objects)
    server["spec"]["replicas"] = 2
    labels = server["spec"]["template"]["metadata"]["labels"]
    term = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": labels}}
    together = {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    server["spec"]["template"]["spec"]["affinity"] = together
    assert not violations(found(objects))
    term["topologyKey"] = "topology.kubernetes.io/zone"
    assert {finding.rule for finding in violations(found(objects))} == {"claim-shared"}


def test_a_cron_job_that_keeps_the_rules_breaks_none() -> None:
    objects = good_set()
    scheduled(objects, W)
    assert found(objects) == ()


def caretaker(objects: Objects) -> Objects:
    """Let a CronJob's pod talk to the API server, under the driver's account."""
    made = scheduled(objects, W)
    template = made["spec"]["jobTemplate"]["spec"]["template"]
    template["metadata"]["labels"]["app.kubernetes.io/component"] = "caretaker"
    template["metadata"]["labels"]["grace/reaches"] = "api"
    template["spec"] |= {"serviceAccountName": "grace-driver", "automountServiceAccountToken": True}
    template["spec"]["containers"][0].pop("env")
    template["spec"]["containers"][0]["volumeMounts"] = []
    template["spec"]["volumes"] = []
    policy = json.loads(json.dumps(objects["NetworkPolicy/grace-to-servers"]))
    policy["metadata"]["name"] = "grace-to-api"
    policy["spec"]["podSelector"] = {"matchLabels": {"grace/reaches": "api"}}
    ports = [{"protocol": "TCP", "port": number} for number in (443, 6443)]
    dns = policy["spec"]["egress"][1]
    policy["spec"]["egress"] = [
        {"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}], "ports": ports},
        dns,
    ]
    objects["NetworkPolicy/grace-to-api"] = policy
    return objects


def test_a_pod_that_talks_to_the_api_server_by_the_clock_breaks_no_rule() -> None:
    assert found(caretaker(good_set())) == ()


def test_its_token_needs_a_role() -> None:
    objects = caretaker(good_set())
    objects["RoleBinding/grace-driver"]["subjects"] = []
    assert "account-token" in {finding.rule for finding in found(objects)}


@pytest.mark.parametrize(
    "image", ["ghcr.io/lab/example:1", "localhost/grace-runner:1", "my-example.org/a:1", "test:1"]
)
def test_an_image_that_only_sounds_like_an_example_is_none(image: str) -> None:
    objects = good_set()
    container(objects, J)["image"] = image
    assert found(objects) == ()


def test_what_is_said_of_many_objects_is_said_once_and_violations_each() -> None:
    objects = good_set()
    for name in (J, S, W):
        container(objects, name)["image"] = "registry.example.org/lab/grace-runner:1"
        resources = container(objects, name)["resources"]
        for which in ("requests", "limits"):
            resources[which]["cpu"] = "4"
        container(objects, name)["securityContext"].pop("readOnlyRootFilesystem")
    findings = found(objects)
    rules = [finding.rule for finding in findings]
    assert rules == [*["read-only-root"] * 3, "image-placeholder", "site-utilisation"]
    assert {finding.where for finding in findings[3:]} == {f"{findings[3].object} and 2 more"}
    assert all({it.object, *it.others} == {J, S, W} for it in findings[3:])
    assert " and 2 more: spec.template" in str(findings[3])


def test_every_rule_of_a_site_is_told_in_words_with_its_figures() -> None:
    rules = nrp().rules
    told = site_words(rules)
    assert set(told) == set(type(rules).model_fields)
    assert all(sentences and all(sentences) for sentences in told.values())
    assert not any("{" in sentence for sentences in told.values() for sentence in sentences)
    assert "up to 4 pods that do not" in told["utilisation"][0]
    assert not site_words(load_profile("local").rules)


def test_a_range_of_ports_lets_its_ports_through() -> None:
    objects = good_set()
    rule = objects["NetworkPolicy/grace-to-servers"]["spec"]["egress"][0]
    container(objects, S)["ports"].append({"name": "low", "containerPort": 7000})
    rule["ports"] = [{"protocol": "TCP", "port": 7000, "endPort": 8000}]
    assert found(objects) == ()
    rule["ports"][0]["endPort"] = 7999
    assert {finding.rule for finding in found(objects)} == {"server-edge"}


def test_an_exception_of_the_site_is_respected() -> None:
    profile = nrp()
    rule = profile.rules.long_running
    assert rule is not None
    for exceptions in (("smollm2-135m",), ("*",)):
        excepted = rule.model_copy(update={"exceptions": exceptions})
        rules = profile.rules.model_copy(update={"long_running": excepted})
        objects = good_set()
        stateful_gpu(objects)
        findings = found(objects, profile.model_copy(update={"rules": rules}))
        assert not violations(findings)
        assert "site-long-running" not in {finding.rule for finding in findings}


def test_autoscalers_count_for_the_gpus_at_once() -> None:
    objects = good_set()
    made = scaler(objects)
    made["spec"]["maxReplicas"] = 26
    small_gpus(objects, f"StatefulSet/{SERVER}", 2)
    assert "site-gpus-at-once" in {finding.rule for finding in found(objects)}


def test_secrets_are_not_shown() -> None:
    objects = good_set()
    environment(name="HF_TOKEN", value="the-secret-itself")(objects)
    assert "the-secret-itself" not in "\n".join(map(str, found(objects)))


def test_a_secret_in_a_command_is_not_shown_by_other_rules_either() -> None:
    objects = good_set()
    container(objects, W)["command"] = [
        "sh",
        "-c",
        "x --api-key the-secret; sleep 9; y hf_" + "aB1" * 9,
    ]
    findings = found(objects)
    assert {finding.rule for finding in findings} == {"site-no-sleep", "no-secret-values"}
    shown = "\n".join(map(str, findings)) + repr(findings)
    assert "the-secret" not in shown
    assert "aB1" not in shown


def test_a_finding_cannot_move_a_cursor() -> None:
    objects = good_set()
    objects[J]["metadata"]["name"] = "a\x1b[31m"
    assert "\x1b" not in "\n".join(map(str, found(objects)))


@pytest.mark.parametrize(
    "name", ["MAX_TOKENS", "HF_TOKEN_PATH", "GRACE_API_KEY_FILE", "TOKENIZERS_PARALLELISM"]
)
def test_variables_that_hold_no_secret_may_have_a_value(name: str) -> None:
    objects = good_set()
    environment(name=name, value="1")(objects)
    assert found(objects) == ()


@pytest.mark.parametrize(
    "manifest",
    [
        {},
        {"kind": "Job"},
        {"kind": "Job", "metadata": None, "spec": []},
        {"kind": "Job", "metadata": {"name": 3}, "spec": {"template": {"spec": {"containers": 1}}}},
        {"kind": "NetworkPolicy", "spec": {"podSelector": [], "egress": [None, {"to": [3]}]}},
        {"kind": "StatefulSet", "spec": {"volumeClaimTemplates": [None]}},
        {"kind": "Service", "spec": {"ports": ["x"], "selector": "y"}},
        {"kind": "Role", "rules": [None]},
        {"kind": "RoleBinding", "subjects": {"a": 1}, "roleRef": []},
    ],
)
def test_a_malformed_object_is_found_fault_with_and_never_a_traceback(manifest: Manifest) -> None:
    assert violations(lint((manifest,), nrp()))


def test_many_jobs_are_a_notice_where_grace_sends_a_few_at_a_time() -> None:
    objects = good_set()
    many_jobs(objects, 400)
    run = a_run(nrp(), "smollm2-135m")
    findings = lint(tuple(objects.values()), run.profile, run)
    assert not violations(findings)
    assert [finding.rule for finding in findings] == ["site-jobs-applied"]
    assert findings[0].detail == "403 Jobs"


def test_many_jobs_are_a_violation_where_nothing_holds_them_back() -> None:
    objects = good_set()
    many_jobs(objects, 400)
    run = a_run(profile_with("nrp", jobs={"at_once": None}), "smollm2-135m")
    findings = lint(tuple(objects.values()), run.profile, run)
    assert [finding.rule for finding in violations(findings)] == ["site-jobs-at-once"]


def test_a_claim_smaller_than_the_weights_is_caught_if_the_run_is_known() -> None:
    objects = good_set()
    claim = objects["PersistentVolumeClaim/weights-smollm2-135m"]
    claim["spec"]["resources"]["requests"]["storage"] = "50M"
    run = a_run(nrp(), "smollm2-135m")
    findings = lint(tuple(objects.values()), run.profile, run)
    assert [finding.rule for finding in findings] == ["claim-size"]
    claim["spec"]["resources"]["requests"]["storage"] = "100M"
    assert lint(tuple(objects.values()), run.profile, run) == ()


@pytest.mark.parametrize("words", [["--dtype", "float16"], ["--dtype=half"]])
def test_a_server_in_another_precision_is_caught(words: list[str]) -> None:
    objects = good_set()
    labels = objects[S]["spec"]["template"]["metadata"]["labels"]
    profile = nrp()
    for service in (f"Service/{SERVER}", "Service/peers-smollm2-135m"):
        objects[service]["spec"]["selector"].pop("grace/model")
    objects[f"PodDisruptionBudget/{SERVER}"]["spec"]["selector"]["matchLabels"].pop("grace/model")
    labels["grace/model"] = "gemma-2-2b"
    container(objects, S)["command"] += words
    run = a_run(profile, "gemma-2-2b")
    findings = lint(tuple(objects.values()), profile, run)
    assert {finding.rule for finding in findings} == {"server-precision"}
    container(objects, S)["command"][-len(words) :] = ["--dtype", "bfloat16"]
    assert lint(tuple(objects.values()), profile, run) == ()


def test_objects_in_another_namespace_than_the_runs_are_caught() -> None:
    run = replace(a_run(nrp(), "smollm2-135m"), namespace="elsewhere")
    findings = lint(tuple(good_set().values()), run.profile, run)
    assert {finding.rule for finding in findings} == {"namespace-same"}


def test_gpus_of_models_that_are_served_one_after_another_are_not_added_up() -> None:
    objects = good_set()
    small_gpus(objects, S, 30)
    second = json.loads(json.dumps(objects[S]))
    second["metadata"]["name"] = "model-second"
    objects["Job/model-second"] = second
    run = a_run(nrp(), "smollm2-135m")
    assert not violations(lint(tuple(objects.values()), run.profile, run))
    assert violations(lint(tuple(objects.values()), run.profile))


def test_the_documentation_names_every_rule() -> None:
    page = (ROOT / "docs/explanation/site-rules.md").read_text(encoding="utf-8")
    for rule in RULES:
        assert f"`{rule.id}`" in page
    for rule in GENERAL_RULES:
        assert f"| `{rule.id}` | {rule.words} |" in page, rule.id


def test_every_rule_of_the_nrp_is_known_with_its_page_and_has_a_check() -> None:
    rules = nrp().rules
    for name in type(rules).model_fields:
        assert getattr(rules, name) is not None, name
    pages = {getattr(rules, name).source for name in type(rules).model_fields}
    assert len(pages) == 3
    checked = [rule for rule in SITE_RULES if rule.site is not None and rule.site(rules)]
    assert len(checked) == len(SITE_RULES)


@pytest.mark.parametrize("page", ["docs/how-to/nrp.md", "docs/explanation/site-rules.md"])
def test_the_profiles_in_the_documentation_are_valid(page: str, tmp_path: Path) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.S)
    assert blocks
    for block in blocks:
        path = tmp_path / "mine.yaml"
        path.write_text(block, encoding="utf-8")
        assert load_profile(str(path)).name == "my-lab"
