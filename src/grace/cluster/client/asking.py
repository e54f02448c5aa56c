"""What a cluster is, and what the user may do there."""

from dataclasses import dataclass

from pydantic import JsonValue

from grace.cluster.client.api import Api
from grace.cluster.client.objects import Manifest, at, parts, text
from grace.errors import ClusterDenied


@dataclass(frozen=True, slots=True)
class Rule:
    """What a user may do: verbs on resources, perhaps only of some names."""

    verbs: tuple[str, ...]
    groups: tuple[str, ...]
    resources: tuple[str, ...]
    names: tuple[str, ...] = ()


class Questions:
    """
    Questions to a cluster.

    Args:
        api: Its API.
    """

    def __init__(self, api: Api) -> None:
        self._api = api

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
        answer = await self._api.send("GET", "/version", doing=f"reach {self._api.access.server}")
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
            accepts=lambda refusal: refusal.status == 404,
        )
        return frozenset(text(part, "kind") for part in parts(answer.document, "resources"))


def _words(rule: Manifest, field: str) -> tuple[str, ...]:
    found = at(rule, field)
    return tuple(word for word in found if isinstance(word, str)) if isinstance(found, list) else ()
