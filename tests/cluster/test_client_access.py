"""Kubeconfigs as users have them, and what is wrong with them in words."""

import json
import ssl
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import certifi
import pytest
from fake_api import FakeApi

from grace.cluster.client import ClusterClient
from grace.cluster.client.connection import read_access
from grace.errors import ClusterDenied, ClusterError, UsageError


def kubeconfig(folder: Path, **user: Any) -> Path:
    path = folder / "config"
    cluster = {"server": "http://127.0.0.1:1"}
    context = {"cluster": "c", "user": "u", "namespace": "lab"}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "clusters": [{"name": "c", "cluster": cluster}],
        "contexts": [
            {"name": "here", "context": context},
            {"name": "there", "context": {"cluster": "c"}},
        ],
        "users": [{"name": "u", "user": user}],
    }
    path.write_text(json.dumps(document))
    return path


def login_program(folder: Path, code: str) -> dict[str, Any]:
    program = folder / "login.py"
    program.write_text(code)
    return {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": sys.executable,
        "args": [str(program)],
    }


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    fake = FakeApi()
    async with fake.served():
        yield fake


async def test_a_token_and_a_namespace_are_taken_from_the_context(tmp_path: Path) -> None:
    access = await read_access(None, kubeconfig(tmp_path, token="abc"))  # noqa: S106 -- made up
    assert access.headers == {"Authorization": "Bearer abc"}
    assert (access.context, access.namespace) == ("here", "lab")
    assert access.server == "http://127.0.0.1:1"


async def test_another_context_can_be_chosen(tmp_path: Path) -> None:
    path = kubeconfig(tmp_path, token="abc")  # noqa: S106 -- made up
    access = await read_access("there", path)
    assert (access.context, access.namespace, access.headers) == ("there", None, {})


async def test_a_context_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no context 'nowhere'"):
        await read_access("nowhere", kubeconfig(tmp_path))


async def test_several_files_are_joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    first = kubeconfig(tmp_path / "a", token="abc")  # noqa: S106 -- made up
    second = tmp_path / "second"
    second.write_text(json.dumps({"current-context": "there"}))
    monkeypatch.setenv("KUBECONFIG", f"{first}:{second}")
    assert (await read_access()).context == "there"


async def test_without_a_kubeconfig_it_says_where_one_is_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "gone"))
    with pytest.raises(UsageError, match=r"KUBECONFIG is '.*gone', and there is no such file"):
        await read_access()
    monkeypatch.delenv("KUBECONFIG")
    with pytest.raises(UsageError, match="neither KUBECONFIG nor"):
        await read_access()
    with pytest.raises(UsageError, match="there is no such file"):
        await read_access(None, tmp_path / "none")


@pytest.mark.parametrize("content", ["", "[1, 2]", "a: [", "token: hunter2\nclusters: 5", "\0"])
async def test_a_file_that_is_no_kubeconfig_is_refused_without_showing_it(
    tmp_path: Path, content: str
) -> None:
    path = tmp_path / "config"
    path.write_text(content)
    with pytest.raises(UsageError) as raised:
        await read_access(None, path)
    assert str(path) in str(raised.value)
    assert "hunter2" not in str(raised.value)


async def test_a_login_program_gives_the_token_and_is_asked_again(
    tmp_path: Path, api: FakeApi
) -> None:
    count = tmp_path / "count"
    count.write_text("0")
    code = f"""
import json, pathlib
count = pathlib.Path({str(count)!r})
number = int(count.read_text()) + 1
count.write_text(str(number))
print(json.dumps({{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
    "status": {{"token": f"t{{number}}"}}}}))
"""
    path = kubeconfig(tmp_path, exec=login_program(tmp_path, code))
    document = json.loads(path.read_text())
    document["clusters"][0]["cluster"]["server"] = api.url
    path.write_text(json.dumps(document))
    api.token = "Bearer t2"  # noqa: S105 -- made up
    async with await ClusterClient.connect(kubeconfig=path) as client:
        assert await client.version() == "v1.36.2"
        assert await client.version() == "v1.36.2"
    assert count.read_text() == "2"


async def test_a_login_program_that_fails_is_told_and_not_passed_over(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code = "import sys; sys.exit('your session has ended')"
    path = kubeconfig(tmp_path, exec=login_program(tmp_path, code))
    with pytest.raises(ClusterDenied, match=r"gave no credentials.*your session has ended"):
        await read_access(None, path)
    assert capfd.readouterr().err == ""


async def test_certificates_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    path = kubeconfig(tmp_path)
    document = json.loads(path.read_text())
    cluster = {"server": "https://127.0.0.1:1", "certificate-authority-data": "bm90IGEgY2VydA=="}
    document["clusters"][0]["cluster"] = cluster
    path.write_text(json.dumps(document))
    with pytest.raises(UsageError, match="certificates of context 'here'"):
        await read_access(None, path)


async def test_tls_is_checked_unless_the_kubeconfig_says_otherwise(tmp_path: Path) -> None:
    path = kubeconfig(tmp_path)
    document = json.loads(path.read_text())
    for skipped, mode in ((False, ssl.CERT_REQUIRED), (True, ssl.CERT_NONE)):
        cluster = {"server": "https://127.0.0.1:1", "insecure-skip-tls-verify": skipped}
        document["clusters"][0]["cluster"] = cluster
        path.write_text(json.dumps(document))
        access = await read_access(None, path)
        assert access.tls is not None
        assert access.tls.verify_mode is mode


async def test_a_proxy_of_the_kubeconfig_comes_before_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://outer:1")
    path = kubeconfig(tmp_path)
    document = json.loads(path.read_text())
    document["clusters"][0]["cluster"] = {"server": "http://example.org"}
    path.write_text(json.dumps(document))
    assert (await read_access(None, path)).proxy == "http://outer:1"
    document["clusters"][0]["cluster"]["proxy-url"] = "http://inner:1"
    path.write_text(json.dumps(document))
    assert (await read_access(None, path)).proxy == "http://inner:1"


async def test_in_a_pod_its_service_account_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kubernetes.aio.config import incluster_config

    (tmp_path / "token").write_text("abc")
    (tmp_path / "namespace").write_text("lab\n")
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", certifi.where())
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    access = await read_access()
    assert access.server == "https://10.0.0.1:443"
    assert access.namespace == "lab"
    assert access.headers == {"Authorization": "bearer abc"}
    (tmp_path / "token").write_text("")
    with pytest.raises(ClusterError, match="no service account"):
        await read_access()
