"""
How to reach a cluster: the user's kubeconfig, or the pod's own account, as an HTTP session.

`kubernetes.aio.config` reads kubeconfigs, with their contexts, certificates,
tokens and login programs. Requests do not go through that package's client: its
websockets pass over the kubeconfig's proxy and cannot say where input ends,
and its watches and retries have no bounds in time.
"""

import asyncio
import importlib
import logging
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp

from grace.cluster.client.faults import shown
from grace.errors import ClusterDenied, ClusterError, UsageError

_LOGIN_SECONDS = 120
_CONNECTIONS = 64
# One event of a watch is one line, and may hold an object of 1.5 MiB.
_BUFFER_BYTES = 2**21
_IN_CLUSTER = "KUBERNETES_SERVICE_HOST"


class _Settings(Protocol):
    """What is used of `kubernetes.aio.client.Configuration`."""

    host: str
    api_key: Mapping[str, str]
    ssl_ca_cert: str | None
    cert_file: str | None
    key_file: str | None
    verify_ssl: bool
    tls_server_name: str | None
    proxy: str | None


@dataclass(frozen=True, slots=True)
class Access:
    """
    What a kubeconfig comes to.

    Attributes:
        server: The API's address.

        headers: Those that say who asks; never shown.

        tls: None over plain HTTP.

        server_name: Another name than the address's, for TLS.

        proxy: The proxy's address, if there is one.

        context: The kubeconfig's context; `in-cluster` in a pod.

        namespace: The context's namespace, if it has one.
    """

    server: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    server_name: str | None = None
    proxy: str | None = field(default=None, repr=False)
    context: str = ""
    namespace: str | None = None


async def read_access(context: str | None = None, kubeconfig: Path | None = None) -> Access:
    """
    Return how to reach the cluster that a kubeconfig names.

    Args:
        context: Of the kubeconfig; None takes its current one.

        kubeconfig: The file; None takes `KUBECONFIG` or `~/.kube/config`, and
            in a pod without either the pod's service account.

    Raises:
        UsageError: There is no kubeconfig, or no such context in it.

        ClusterDenied: The login program that it names gave no credentials.
    """
    files = _default_files() if kubeconfig is None else _given_file(kubeconfig)
    if files is None:
        if context is None and _IN_CLUSTER in os.environ:
            return await _in_cluster()
        if named := os.environ.get("KUBECONFIG"):
            raise UsageError(
                f"KUBECONFIG is {named!r}, and there is no such file; correct its path, or unset "
                "KUBECONFIG to take ~/.kube/config"
            )
        raise UsageError(
            "there is no kubeconfig: neither KUBECONFIG nor ~/.kube/config names a file; get one "
            "from your cluster (`kind get kubeconfig`, or the site's portal)"
        )
    return await _from_files(files, context)


def _given_file(kubeconfig: Path) -> str:
    if not kubeconfig.is_file():
        raise UsageError(f"{kubeconfig}: there is no such file; expected a kubeconfig")
    return str(kubeconfig)


def _default_files() -> str | None:
    named = os.environ.get("KUBECONFIG", "")
    if any(Path(part).expanduser().is_file() for part in named.split(os.pathsep) if part):
        return named
    usual = Path.home() / ".kube" / "config"
    return str(usual) if not named and usual.is_file() else None


async def _from_files(files: str, context: str | None) -> Access:
    # 1.4 s: only who talks to a cluster pays for it.
    config: Any = importlib.import_module("kubernetes.aio.config.kube_config")
    settings: Any = importlib.import_module("kubernetes.aio.client.configuration").Configuration()
    said = _Overheard(logging.getLogger(config.__name__))
    try:
        with said:
            async with asyncio.timeout(_LOGIN_SECONDS):
                merged: Any = config.KubeConfigMerger(files).config
                loader: Any = config.KubeConfigLoader(
                    config_dict=merged, active_context=context, config_base_path=None
                )
                await loader.load_and_set(settings)
    except TimeoutError:
        raise ClusterDenied(
            f"the login program of the kubeconfig did not end within {_LOGIN_SECONDS} s; run "
            "`kubectl get pods` with the same context, log in there, and start again"
        ) from None
    except config.ConfigException as error:
        raise UsageError(f"{files}: {_about(str(error), context)}") from error
    except (
        ValueError,
        TypeError,
        AttributeError,
        KeyError,
        OSError,
        config.yaml.YAMLError,
    ) as error:
        # The package lets these through for files that it did not expect; their text may quote it.
        raise UsageError(
            f"{files}: is not a kubeconfig that can be read ({type(error).__name__}); "
            "try `kubectl config view` on it"
        ) from None
    if said.errors and not settings.api_key and not settings.cert_file:
        # The package only logs it when a login program fails, and goes on without a name.
        raise ClusterDenied(
            f"the login program of the kubeconfig gave no credentials: {shown(said.errors[0])}\n"
            "run `kubectl get pods` with the same context, log in there, and start again"
        )
    chosen = loader.current_context
    inner = chosen.get("context", {})
    return await _access(settings, str(chosen.get("name", "")), inner.get("namespace"))


async def _in_cluster() -> Access:
    config: Any = importlib.import_module("kubernetes.aio.config.incluster_config")
    failure: Any = importlib.import_module("kubernetes.aio.config.config_exception").ConfigException
    settings: Any = importlib.import_module("kubernetes.aio.client.configuration").Configuration()
    try:
        config.load_incluster_config(settings, try_refresh_token=False)
    except failure as error:
        raise ClusterError(f"the pod has no service account to ask with: {error}") from error
    home = Path(config.SERVICE_TOKEN_FILENAME).parent / "namespace"
    namespace = home.read_text().strip() if home.is_file() else None
    return await _access(settings, "in-cluster", namespace)


async def _access(settings: _Settings, context: str, namespace: str | None) -> Access:
    server = settings.host
    headers: dict[str, str] = {}
    token = settings.api_key.get("BearerToken")
    if token:
        headers["Authorization"] = token
    tls = None
    if server.startswith("https:"):
        try:
            tls = _tls(settings)
        except (OSError, ssl.SSLError) as error:
            raise UsageError(
                f"the certificates of context {context!r} cannot be used: {type(error).__name__}; "
                "get a new kubeconfig from the cluster"
            ) from error
    proxy = settings.proxy or _proxy_from_environment(server)
    return Access(
        server.rstrip("/"), headers, tls, settings.tls_server_name, proxy, context, namespace
    )


def _tls(settings: _Settings) -> ssl.SSLContext:
    tls = ssl.create_default_context(cafile=settings.ssl_ca_cert)
    if settings.cert_file:
        tls.load_cert_chain(settings.cert_file, keyfile=settings.key_file)
    if not settings.verify_ssl:
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
    # Python 3.13 checks this by default, and certificates that clusters make for themselves fail.
    tls.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return tls


def _proxy_from_environment(server: str) -> str | None:
    address = urlsplit(server)
    if proxy_bypass(address.hostname or ""):
        return None
    return getproxies().get(address.scheme)


def _about(message: str, context: str | None) -> str:
    if context is not None and f"name {context} in" in message:
        return f"has no context {context!r}; `kubectl config get-contexts` shows those that it has"
    if "current-context" in message:
        return "names no current context; choose one with --context"
    return shown(message)


class _Overheard(logging.Filter):
    """Keeps errors that a library logs, instead of letting it print them."""

    def __init__(self, logger: logging.Logger) -> None:
        super().__init__()
        self._logger = logger
        self.errors: list[str] = []

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.ERROR:
            self.errors.append(record.getMessage())
        return False

    def __enter__(self) -> None:
        self._logger.addFilter(self)

    def __exit__(self, *_: object) -> None:
        self._logger.removeFilter(self)


def open_session(access: Access) -> aiohttp.ClientSession:
    """Return a session with connections of its own; whoever opens it closes it."""
    connector = aiohttp.TCPConnector(
        limit=_CONNECTIONS, ssl=access.tls if access.tls is not None else True
    )
    # Not trust_env: a netrc file that names the host would take the place of the credentials.
    return aiohttp.ClientSession(
        connector=connector,
        read_bufsize=_BUFFER_BYTES,
        headers={"User-Agent": "grace"},
        auto_decompress=True,
    )
