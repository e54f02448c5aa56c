"""
A cluster as Grace uses it: plain objects in and out, every failure a `ClusterError`.

Objects are made by server-side apply alone, so that whatever is sent can be
sent again. Nothing here knows what a run is.
"""

import builtins
import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, Self

from pydantic import JsonValue

from grace.cluster.client.api import APPLY, Api, Patience, Query
from grace.cluster.client.connection import Access, read_access
from grace.cluster.client.faults import Refusal, as_error
from grace.cluster.client.logs import follow, tail
from grace.cluster.client.objects import Kind, Manifest, ObjectId, at, id_of, kind_of, parts, text
from grace.cluster.client.running import Ended, RunningCommand, running
from grace.cluster.client.watching import Change, watch
from grace.errors import ClusterDenied, ClusterError, ObjectMissing

FIELD_MANAGER = "grace"
"""Who owns the fields that Grace sets, where nothing else is said."""

Propagation = Literal["Background", "Foreground", "Orphan"]

_PAGE = 500
_IDLE_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Rule:
    """What a user may do: verbs on resources, perhaps only of some names."""

    verbs: tuple[str, ...]
    groups: tuple[str, ...]
    resources: tuple[str, ...]
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Output:
    """What a short command gave."""

    stdout: bytes
    ended: Ended


class ClusterClient:
    """
    One cluster.

    Args:
        api: Its API.
    """

    def __init__(self, api: Api) -> None:
        self._api = api

    @classmethod
    async def connect(cls, context: str | None = None, kubeconfig: Path | None = None) -> Self:
        """
        Return a client for the cluster that a kubeconfig names; nothing is sent yet.

        Args:
            context: Of the kubeconfig; None takes its current one.

            kubeconfig: The file; None takes `KUBECONFIG`, `~/.kube/config`, or
                in a pod its service account.

        Raises:
            UsageError: There is no kubeconfig, or no such context in it.

            ClusterDenied: The login program that it names gave no credentials.
        """

        async def renew() -> Access:
            return await read_access(context, kubeconfig)

        return cls(Api(await renew(), renew=renew))

    @classmethod
    def at(cls, server: str, *, patience: Patience | None = None, seconds: float = 60) -> Self:
        """Return a client for an API that asks for no credentials, such as `kubectl proxy`."""
        return cls(Api(Access(server.rstrip("/")), patience=patience, request_seconds=seconds))

    @property
    def server(self) -> str:
        """The API's address."""
        return self._api.access.server

    @property
    def context(self) -> str:
        """The kubeconfig's context."""
        return self._api.access.context

    def now(self) -> datetime:
        """Return the time as the cluster has it, which the times of its objects are compared with."""
        return datetime.now(UTC) + self._api.ahead

    @property
    def namespace(self) -> str | None:
        """The context's namespace, if it has one."""
        return self._api.access.namespace

    async def aclose(self) -> None:
        """Close all connections."""
        await self._api.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def apply(
        self, manifest: Manifest, *, manager: str = FIELD_MANAGER, dry_run: bool = False
    ) -> Manifest:
        """
        Make an object, or bring the fields that are Grace's to what the manifest says.

        Fields that `grace` or this manager set by other means are taken over;
        those that somebody else owns are not. So whoever applies an object
        under a name of its own first keeps it: two runs cannot both have it.

        Args:
            manifest: Complete for this manager: what it set before and is not
                in the manifest is removed.

            manager: Who owns the fields.

            dry_run: Let the API check everything, and keep nothing.

        Returns:
            The object as the cluster has it now.

        Raises:
            FieldConflict: A field belongs to somebody else.

            ClusterError: A field cannot be changed, or is invalid; the message
                says which, and what to do.
        """
        target = id_of(manifest)
        doing = f"apply {target}"
        query = [("fieldManager", manager), ("fieldValidation", "Strict")]
        query += [("dryRun", "All")] if dry_run else []
        ours = frozenset({FIELD_MANAGER, manager})
        answer = await self._patch(target, doing, manifest, query, ours)
        if answer is None:
            forced = [*query, ("force", "true")]
            answer = await self._patch(target, doing, manifest, forced, frozenset())
        return _object(answer, doing)

    async def _patch(
        self, target: ObjectId, doing: str, body: Manifest, query: Query, ours: frozenset[str]
    ) -> JsonValue:
        """Apply; None means that only managers of ours stand in the way."""

        def only_ours(refusal: Refusal) -> bool:
            managers = refusal.conflicting_managers
            return bool(managers) and ours.issuperset(managers)

        answer = await self._api.send(
            "PATCH",
            _path(target),
            doing=doing,
            target=target,
            query=query,
            body=body,
            content_type=APPLY,
            accepts=only_ours,
        )
        return answer.document

    async def get(self, kind: str, name: str, namespace: str | None = None) -> Manifest | None:
        """
        Return an object, or None if there is none.

        Raises:
            ClusterError: It cannot be read.
        """
        target = ObjectId(kind, name, namespace)
        answer = await self._api.send(
            "GET", _path(target), doing=f"read {target}", target=target, accepts=_is_missing
        )
        return None if answer.refusal is not None else _object(answer.document, f"read {target}")

    async def list(
        self,
        kind: str,
        namespace: str | None = None,
        *,
        labels: Mapping[str, str | None] | None = None,
        fields: Mapping[str, str] | None = None,
    ) -> tuple[Manifest, ...]:
        """
        Return the objects of a kind.

        Args:
            kind: As manifests say it.

            namespace: None for all, or if the kind has none.

            labels: Which they must have; None as a value takes any.

            fields: Which they must have, by path: `involvedObject.name`.

        Raises:
            ClusterError: They cannot be read.
        """
        query = _selecting(labels, fields)
        found, _ = await self._listed(kind_of(kind), namespace, query)
        return found

    async def list_if_permitted(
        self,
        kind: str,
        namespace: str | None = None,
        *,
        labels: Mapping[str, str | None] | None = None,
        fields: Mapping[str, str] | None = None,
    ) -> tuple[Manifest, ...] | None:
        """Return the objects of a kind; None if that is not permitted, or the kind unknown there."""
        try:
            return await self.list(kind, namespace, labels=labels, fields=fields)
        except (ClusterDenied, ObjectMissing):
            return None

    async def _listed(
        self, kind: Kind, namespace: str | None, query: Query
    ) -> tuple[tuple[Manifest, ...], str]:
        """Return all objects and the version of the list, page by page."""
        doing = f"list {kind.plural}" + (f" in {namespace}" if namespace is not None else "")
        path = kind.path(namespace)
        found: builtins.list[Manifest] = []
        following = ""
        while True:
            paged = [*query, ("limit", str(_PAGE))]
            paged += [("continue", following)] if following else []
            answer = await self._api.send(
                "GET", path, doing=doing, query=paged, accepts=lambda refusal: refusal.status == 410
            )
            if answer.refusal is not None:
                if not following:
                    raise as_error(answer.refusal, doing)
                # The pages took too long to be of one state: from the beginning.
                found, following = [], ""
                continue
            # Items of a list do not say what they are.
            same = {"apiVersion": kind.api_version, "kind": kind.name}
            found += ({**same, **item} for item in parts(answer.document, "items"))
            following = text(answer.document, "metadata", "continue")
            if not following:
                return tuple(found), text(answer.document, "metadata", "resourceVersion")

    async def delete(
        self,
        kind: str,
        name: str,
        namespace: str | None = None,
        *,
        propagation: Propagation = "Background",
        uid: str | None = None,
    ) -> bool:
        """
        Delete an object.

        Args:
            kind: As manifests say it.

            name: Its name.

            namespace: Where it is.

            propagation: `Foreground` keeps the object until what it owns is gone.

            uid: Only if it is still this very object.

        Returns:
            False if there was none, or another one.

        Raises:
            ClusterError: It cannot be deleted.
        """
        target = ObjectId(kind, name, namespace)
        body: dict[str, JsonValue] = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": propagation,
        }
        if uid is not None:
            body["preconditions"] = {"uid": uid}
        answer = await self._api.send(
            "DELETE",
            _path(target),
            doing=f"delete {target}",
            target=target,
            body=body,
            accepts=lambda refusal: (
                _is_missing(refusal) or (refusal.status == 409 and uid is not None)
            ),
        )
        return answer.refusal is None

    async def watch(
        self,
        kind: str,
        namespace: str | None = None,
        *,
        labels: Mapping[str, str | None] | None = None,
    ) -> AsyncIterator[Change]:
        """
        Give the objects of a kind that there are, then every change, until closed.

        Dropped connections and versions that are too old are survived.

        Raises:
            ClusterError: The API refuses, or is unavailable for too long.
        """
        known = kind_of(kind)
        query = _selecting(labels, None)
        doing = f"watch {known.plural}" + (f" in {namespace}" if namespace is not None else "")

        async def lister() -> tuple[tuple[Manifest, ...], str]:
            return await self._listed(known, namespace, query)

        async for change in watch(self._api, known.path(namespace), doing, query, lister):
            yield change

    async def log_tail(
        self,
        pod: str,
        namespace: str,
        *,
        container: str | None = None,
        lines: int = 20,
        previous: bool = False,
    ) -> tuple[str, ...]:
        """
        Return the last lines that a pod said.

        Args:
            pod: Its name.

            namespace: Where it is.

            container: None if it has one only.

            lines: How many at most.

            previous: Of the container before its last restart.

        Raises:
            ClusterError: They cannot be read; `ObjectMissing` if the pod is gone.
        """
        return await tail(
            self._api, namespace, pod, container=container, lines=lines, previous=previous
        )

    async def log_lines(
        self, pod: str, namespace: str, *, container: str | None = None, lines: int | None = None
    ) -> AsyncIterator[str]:
        """
        Give what a pod says until its container ends.

        Args:
            pod: Its name.

            namespace: Where it is.

            container: None if it has one only.

            lines: How many of those before to begin with; None for all.

        Raises:
            ClusterError: They cannot be read.
        """
        async for line in follow(self._api, namespace, pod, container=container, lines=lines):
            yield line

    def running(
        self,
        pod: str,
        namespace: str,
        command: Sequence[str],
        *,
        container: str | None = None,
        stdin: bytes | AsyncIterator[bytes] | None = None,
        idle_seconds: float | None = _IDLE_SECONDS,
    ) -> AbstractAsyncContextManager[RunningCommand]:
        """
        Run a command in a pod while its output is read.

        Args:
            pod: Its name.

            namespace: Where it is.

            command: The program and its arguments; no shell.

            container: None takes the pod's default.

            stdin: The command's input, which is closed after it.

            idle_seconds: How long the command may be silent.

        Raises:
            ClusterError: The command cannot be run.

            ClusterUnavailable: The connection broke; how the command ended is
                not known.
        """
        return running(
            self._api,
            namespace,
            pod,
            command,
            container=container,
            stdin=stdin,
            idle_seconds=idle_seconds,
        )

    async def run(
        self,
        pod: str,
        namespace: str,
        command: Sequence[str],
        *,
        container: str | None = None,
        stdin: bytes | AsyncIterator[bytes] | None = None,
        idle_seconds: float | None = _IDLE_SECONDS,
    ) -> Output:
        """Run a command in a pod and return all that it gave; see `running`."""
        output = bytearray()
        async with self.running(
            pod,
            namespace,
            command,
            container=container,
            stdin=stdin,
            idle_seconds=idle_seconds,
        ) as command_at_work:
            async for data in command_at_work:
                output += data
            ended = command_at_work.ended
        if ended is None:
            raise AssertionError("a command's output ends with its status")
        return Output(bytes(output), ended)

    async def may(
        self,
        verb: str,
        resource: str,
        namespace: str | None = None,
        *,
        group: str = "",
        subresource: str = "",
    ) -> bool:
        """
        Tell whether the user may do something.

        Args:
            verb: `create`, `patch`, `list` and so on.

            resource: In the plural: `jobs`.

            namespace: Where; None for the whole cluster.

            group: The resource's API group; empty for the core.

            subresource: `exec`, `log`; empty for the resource itself.

        Raises:
            ClusterError: The API does not say.
        """
        about = {"verb": verb, "resource": resource, "group": group, "subresource": subresource}
        if namespace is not None:
            about["namespace"] = namespace
        document = await self._review(
            "selfsubjectaccessreviews", "SelfSubjectAccessReview", {"resourceAttributes": {**about}}
        )
        return at(document, "status", "allowed") is True

    async def rules(self, namespace: str) -> tuple[Rule, ...]:
        """
        Return everything that the user may do in a namespace, as far as the API can tell.

        Raises:
            ClusterError: The API does not say.
        """
        document = await self._review(
            "selfsubjectrulesreviews", "SelfSubjectRulesReview", {"namespace": namespace}
        )
        return tuple(
            Rule(
                _words(rule, "verbs"),
                _words(rule, "apiGroups"),
                _words(rule, "resources"),
                _words(rule, "resourceNames"),
            )
            for rule in parts(document, "status", "resourceRules")
        )

    async def _review(self, plural: str, kind: str, spec: dict[str, JsonValue]) -> JsonValue:
        version = "authorization.k8s.io/v1"
        answer = await self._api.send(
            "POST",
            f"/apis/{version}/{plural}",
            doing="ask what is permitted",
            body={"apiVersion": version, "kind": kind, "spec": spec},
        )
        return answer.document

    async def version(self) -> str:
        """
        Return the version of the API server: `v1.36.2`.

        Raises:
            ClusterError: It cannot be reached.
        """
        answer = await self._api.send("GET", "/version", doing=f"reach {self.server}")
        return text(answer.document, "gitVersion")

    async def groups(self) -> frozenset[str] | None:
        """
        Return the API groups that the cluster has, without the core; None if that is not permitted.

        Raises:
            ClusterError: The API does not say.
        """
        try:
            answer = await self._api.send("GET", "/apis", doing="ask for the API groups")
        except ClusterDenied:
            return None
        return frozenset(text(part, "name") for part in parts(answer.document, "groups"))

    async def kinds(self, api_version: str) -> frozenset[str]:
        """
        Return the kinds that the cluster has of a group and version; none if it has no such group.

        Raises:
            ClusterError: The API does not say.
        """
        root = "/api" if "/" not in api_version else "/apis"
        answer = await self._api.send(
            "GET",
            f"{root}/{api_version}",
            doing=f"ask for the kinds of {api_version}",
            accepts=_is_missing,
        )
        return frozenset(text(part, "kind") for part in parts(answer.document, "resources"))


def digest_manager(name: str) -> str:
    """Return a field manager of Grace's own for a part of an object: at most 128 characters."""
    return f"{FIELD_MANAGER}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def _is_missing(refusal: Refusal) -> bool:
    return refusal.status == 404


def _path(target: ObjectId) -> str:
    kind = kind_of(target.kind)
    if kind.namespaced and not target.namespace:
        raise ValueError(f"{target} has no namespace")
    return kind.path(target.namespace, target.name)


def _object(document: JsonValue, doing: str) -> Manifest:
    if not isinstance(document, dict):
        raise ClusterError(f"cannot {doing}: the API answered with something else than an object")
    return document


def _words(rule: Manifest, field: str) -> tuple[str, ...]:
    found = at(rule, field)
    return tuple(word for word in found if isinstance(word, str)) if isinstance(found, list) else ()


def _selecting(labels: Mapping[str, str | None] | None, fields: Mapping[str, str] | None) -> Query:
    query = []
    if labels:
        wanted = (key if value is None else f"{key}={value}" for key, value in labels.items())
        query.append(("labelSelector", ",".join(wanted)))
    if fields:
        query.append(("fieldSelector", ",".join(f"{key}={value}" for key, value in fields.items())))
    return query
