"""
A cluster's API over real HTTP, with as much behind it as a run needs.

It keeps objects, applies them with owners of fields as the real one does, tells
watchers, and has small controllers for Jobs and StatefulSets. Its clock is the
client: the world moves one step on with each list of pods, so that tests need no
time. It misbehaves when told to.
"""

import asyncio
import copy
import json
import re
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from aiohttp import WSMsgType, web
from fake_controllers import Controllers, now

Object = dict[str, Any]
_PATH = re.compile(
    r"/(?:api/v1|apis/[^/]+/[^/]+)(?:/namespaces/(?P<namespace>[^/]+)(?=/))?"
    r"/(?P<plural>[a-z]+)(?:/(?P<name>[^/]+))?(?:/(?P<sub>[a-z]+))?"
)


@dataclass
class Fault:
    """An answer that takes the place of the real one."""

    method: str
    path: str
    status: int = 503
    body: Object | str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    times: int = 1
    hang: bool = False
    cut: bool = False


class FakeApi:
    """An API server, its storage and its controllers."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], Object] = {}
        self.owners: dict[tuple[str, str, str], dict[tuple[str, ...], set[str]]] = {}
        self.version = 100
        self.oldest = 100
        self.history: deque[tuple[int, str, str, str, Object]] = deque()
        self.faults: list[Fault] = []
        self.requests: list[tuple[str, str]] = []
        self.logs: dict[str, list[str]] = {}
        self.commands: Callable[[list[str], bytes], tuple[bytes, str, int]] = lambda *_: (
            b"",
            "",
            0,
        )
        self.protocols: tuple[str, ...] = ("v5.channel.k8s.io", "v4.channel.k8s.io")
        self.allowed: Callable[[Object], bool] = lambda _: True
        self.token: str | None = None
        self.frozen = False
        self.controllers = Controllers(self)
        self._changed = asyncio.Condition()
        self._cut_watches = 0
        self._uid = 0
        self._hanging = asyncio.Event()
        self.url = ""

    # -- serving ---------------------------------------------------------------------------

    @asynccontextmanager
    async def served(self) -> AsyncIterator["FakeApi"]:
        """Serve on a free port."""
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{tail:.*}", self._handle)
        runner = web.AppRunner(app, shutdown_timeout=0.01)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        try:
            yield self
        finally:
            self._hanging.set()
            await self.drop_watches()
            await runner.cleanup()

    def fail(self, method: str, path: str, **details: Any) -> None:
        """Let the next requests to addresses that contain *path* fail."""
        self.faults.append(Fault(method, path, **details))

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something is so; it is looked at with each request and each change."""
        async with asyncio.timeout(60), self._changed:
            await self._changed.wait_for(condition)

    async def drop_watches(self) -> None:
        """Break all connections of watches."""
        async with self._changed:
            self._cut_watches += 1
            self._changed.notify_all()

    def forget_history(self) -> None:
        """Keep no old versions: watches that go on from one are told that it is gone."""
        self.oldest = self.version
        self.history.clear()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        self.requests.append((request.method, request.path_qs))
        async with self._changed:
            self._changed.notify_all()
        if self.token is not None and request.headers.get("Authorization") != self.token:
            return _status(401, "Unauthorized", "Unauthorized")
        fault = self._fault(request)
        if fault is not None:
            return await self._misbehave(request, fault)
        if path.startswith("/apis/authorization.k8s.io/"):
            return await self._review(request)
        found = _PATH.fullmatch(path)
        if found is None:
            return self._about_itself(request)
        namespace, plural = found["namespace"] or "", found["plural"]
        name, sub = found["name"], found["sub"]
        if sub == "exec":
            return await self._exec(request)
        if sub == "log":
            return await self._log(request, name)
        if name is not None:
            return await self._one(request, (plural, namespace, name))
        if request.query.get("watch") == "true":
            response = web.StreamResponse()
            with suppress(ConnectionError):
                await self._watch(request, response, plural, namespace)
            return response
        return await self._list(request, plural, namespace)

    def _about_itself(self, request: web.Request) -> web.Response:
        path = request.path
        if path == "/version":
            return web.json_response({"gitVersion": "v1.36.2"})
        if path == "/apis":
            return web.json_response({"groups": [{"name": "batch"}, {"name": "argoproj.io"}]})
        if request.method == "GET" and re.fullmatch(r"/api/v1|/apis/[^/]+/[^/]+", path):
            if "keda" in path:
                return _status(404, "NotFound", "the server could not find the requested resource")
            return web.json_response({"resources": [{"kind": "Job"}, {"kind": "CronJob"}]})
        return _status(404, "NotFound", f"no such address: {path}")

    def _fault(self, request: web.Request) -> Fault | None:
        for fault in self.faults:
            if fault.times and fault.method == request.method and fault.path in request.path_qs:
                fault.times -= 1
                return fault
        return None

    async def _misbehave(self, request: web.Request, fault: Fault) -> web.StreamResponse:
        if fault.hang:
            await self._hanging.wait()
        if fault.cut and request.transport is not None:
            request.transport.close()
        if isinstance(fault.body, dict):
            return web.json_response(fault.body, status=fault.status, headers=fault.headers)
        return web.Response(text=fault.body, status=fault.status, headers=fault.headers)

    # -- objects ---------------------------------------------------------------------------

    async def _one(self, request: web.Request, key: tuple[str, str, str]) -> web.Response:
        live = self.objects.get(key)
        if request.method == "GET":
            if live is None:
                return _status(404, "NotFound", f'{key[0]} "{key[2]}" not found')
            return web.json_response(live)
        if request.method == "DELETE":
            return await self._delete(request, key, live)
        if request.method == "PATCH":
            assert request.content_type == "application/apply-patch+yaml"
            return await self._apply(request, key, live)
        return _status(405, "MethodNotAllowed", request.method)

    async def _apply(
        self, request: web.Request, key: tuple[str, str, str], live: Object | None
    ) -> web.Response:
        sent = await request.json()
        manager = request.query["fieldManager"]
        fields = dict(_leaves(sent))
        owners = self.owners.setdefault(key, {})
        now = copy.deepcopy(live) if live is not None else {}
        conflicts = [
            {
                "reason": "FieldManagerConflict",
                "message": f'conflict with "{other}"',
                "field": "." + ".".join(path),
            }
            for path, value in fields.items()
            if _get(now, path) != value
            for other in sorted(owners.get(path, set()) - {manager})
        ]
        if conflicts and request.query.get("force") != "true":
            message = f"Apply failed with {len(conflicts)} conflicts"
            return _status(409, "Conflict", message, conflicts)
        for path, value in fields.items():
            if _get(now, path) != value:
                owners[path] = set()
        for path in [path for path, found in owners.items() if manager in found]:
            if path not in fields:
                owners[path].discard(manager)
                if not owners[path]:
                    _remove(now, path)
        for path, value in fields.items():
            _set(now, path, value)
            owners.setdefault(path, set()).add(manager)
        if live is not None and live.get("immutable") and now.get("data") != live.get("data"):
            message = f'ConfigMap "{key[2]}" is invalid: data: Forbidden: field is immutable'
            return _status(422, "Invalid", message)
        if request.query.get("dryRun"):
            return web.json_response(now)
        await self.put(key, {**now, "apiVersion": sent["apiVersion"], "kind": sent["kind"]})
        return web.json_response(self.objects[key], status=200 if live is not None else 201)

    async def put(self, key: tuple[str, str, str], item: Object) -> Object:
        """Store an object, and tell watchers if that changes it."""
        live = self.objects.get(key)
        metadata = item.setdefault("metadata", {})
        metadata["name"] = key[2]
        if key[1]:
            metadata["namespace"] = key[1]
        if "uid" not in metadata:
            self._uid += 1
            metadata["uid"] = f"uid-{self._uid}"
            metadata["creationTimestamp"] = now()
        if live is not None and _without_version(live) == _without_version(item):
            return live
        self.version += 1
        metadata["resourceVersion"] = str(self.version)
        self.objects[key] = item
        await self._tell("ADDED" if live is None else "MODIFIED", key, item)
        return item

    async def remove(self, key: tuple[str, str, str]) -> None:
        """Remove an object at once."""
        item = self.objects.pop(key, None)
        self.owners.pop(key, None)
        if item is not None:
            self.version += 1
            item = copy.deepcopy(item)
            item["metadata"]["resourceVersion"] = str(self.version)
            await self._tell("DELETED", key, item)

    async def _tell(self, kind: str, key: tuple[str, str, str], item: Object) -> None:
        async with self._changed:
            self.history.append((self.version, kind, key[0], key[1], copy.deepcopy(item)))
            self._changed.notify_all()

    async def _delete(
        self, request: web.Request, key: tuple[str, str, str], live: Object | None
    ) -> web.Response:
        if live is None:
            return _status(404, "NotFound", f'{key[0]} "{key[2]}" not found')
        options = await request.json()
        wanted = options.get("preconditions", {}).get("uid")
        if wanted is not None and wanted != live["metadata"]["uid"]:
            return _status(409, "Conflict", "the UID in the precondition does not match")
        if options.get("propagationPolicy") == "Foreground":
            leaving = copy.deepcopy(live)
            leaving["metadata"].setdefault("deletionTimestamp", now())
            await self.put(key, leaving)
        else:
            await self.remove(key)
        return web.json_response({"kind": "Status", "status": "Success"})

    async def _list(self, request: web.Request, plural: str, namespace: str) -> web.Response:
        if plural == "pods" and not self.frozen:
            await self.controllers.advance()
        found = [
            {name: part for name, part in item.items() if name not in {"kind", "apiVersion"}}
            for key, item in sorted(self.objects.items())
            if key[0] == plural
            and key[1] == namespace
            and _selected(item, request.query.get("labelSelector", ""))
            and _fields_match(item, request.query.get("fieldSelector", ""))
        ]
        limit = int(request.query.get("limit", "500"))
        start = int(request.query.get("continue", "0") or 0)
        more = str(start + limit) if start + limit < len(found) else ""
        metadata = {"resourceVersion": str(self.version), "continue": more}
        return web.json_response({"metadata": metadata, "items": found[start : start + limit]})

    async def _watch(
        self, request: web.Request, response: web.StreamResponse, plural: str, namespace: str
    ) -> None:
        await response.prepare(request)
        seen = int(request.query["resourceVersion"])
        cut = self._cut_watches
        if seen < self.oldest:
            gone = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}
            await _write_event(response, "ERROR", gone)
            return
        while cut == self._cut_watches:
            for version, kind, of, where, item in list(self.history):
                if version > seen and of == plural and where == namespace:
                    seen = version
                    if _selected(item, request.query.get("labelSelector", "")):
                        await _write_event(response, kind, item)
            async with self._changed:
                if cut == self._cut_watches and not any(
                    version > seen and of == plural and where == namespace
                    for version, _, of, where, _ in self.history
                ):
                    await self._changed.wait()
        if request.transport is not None:
            request.transport.abort()

    async def _review(self, request: web.Request) -> web.Response:
        spec = (await request.json())["spec"]
        if "resourceAttributes" in spec:
            allowed = self.allowed(spec["resourceAttributes"])
            return web.json_response({"status": {"allowed": allowed}}, status=201)
        rule = {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}
        return web.json_response({"status": {"resourceRules": [rule]}}, status=201)

    async def _log(self, request: web.Request, pod: str) -> web.StreamResponse:
        if pod not in self.logs:
            return _status(404, "NotFound", f'pods "{pod}" not found')
        lines = self.logs[pod]
        if "timestamps" in request.query:
            lines = [f"2026-01-31T00:00:{n:02}.000000000Z {line}" for n, line in enumerate(lines)]
        if since := request.query.get("sinceTime"):
            lines = [line for line in lines if line[:20] >= since[:19]]
        if tail := request.query.get("tailLines"):
            lines = lines[-int(tail) :]
        response = web.StreamResponse()
        await response.prepare(request)
        cut = request.query.get("follow") and self.fault_in_log
        for line in lines[: len(lines) // 2] if cut else lines:
            await response.write(f"{line}\n".encode())
        if cut and request.transport is not None:
            self.fault_in_log = False
            await asyncio.sleep(0)
            request.transport.abort()
        return response

    fault_in_log = False

    async def _exec(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(protocols=self.protocols)
        await socket.prepare(request)
        given = bytearray()
        if request.query.get("stdin") == "true":
            async for message in socket:
                assert message.type is WSMsgType.BINARY
                if message.data == bytes([255, 0]):
                    break
                assert message.data[0] == 0
                given += message.data[1:]
        command = request.query.getall("command")
        stdout, stderr, code = self.commands(command, bytes(given))
        for start in range(0, len(stdout), 1000):
            await socket.send_bytes(b"\x01" + stdout[start : start + 1000])
        if stderr:
            await socket.send_bytes(b"\x02" + stderr.encode())
        if code < 0:
            await socket.close()
            return socket
        status: Object = {"status": "Success"}
        if code:
            cause = {"reason": "ExitCode", "message": str(code)}
            status = {
                "status": "Failure",
                "reason": "NonZeroExitCode",
                "details": {"causes": [cause]},
            }
        await socket.send_bytes(b"\x03" + json.dumps(status).encode())
        await socket.close()
        return socket

    def names(self, plural: str) -> list[str]:
        """Return the names of all objects of a kind."""
        return sorted(key[2] for key in self.objects if key[0] == plural)


def _status(
    code: int, reason: str, message: str, causes: list[Object] | None = None
) -> web.Response:
    body: Object = {"kind": "Status", "code": code, "reason": reason, "message": message}
    if causes is not None:
        body["details"] = {"causes": causes}
    return web.json_response(body, status=code)


async def _write_event(response: web.StreamResponse, kind: str, item: Object) -> None:
    await response.write(json.dumps({"type": kind, "object": item}).encode() + b"\n")


def _leaves(item: Object) -> list[tuple[tuple[str, ...], Any]]:
    """Return the fields of an object that are owned one by one; lists are owned whole."""
    found: list[tuple[tuple[str, ...], Any]] = []

    def walk(path: tuple[str, ...], value: Any) -> None:
        if isinstance(value, dict) and value:
            for name, part in value.items():
                walk((*path, name), part)
        else:
            found.append((path, value))

    for name, part in item.items():
        if name not in {"apiVersion", "kind"}:
            walk((name,), part)
    identity = {("metadata", "name"), ("metadata", "namespace")}
    return [(path, value) for path, value in found if path not in identity]


def _get(item: Object, path: tuple[str, ...]) -> Any:
    for step in path:
        if not isinstance(item, dict) or step not in item:
            return None
        item = item[step]
    return item


def _set(item: Object, path: tuple[str, ...], value: Any) -> None:
    for step in path[:-1]:
        item = item.setdefault(step, {})
    item[path[-1]] = value


def _remove(item: Object, path: tuple[str, ...]) -> None:
    for step in path[:-1]:
        item = item.get(step, {})
    item.pop(path[-1], None)


def _selected(item: Object, selector: str) -> bool:
    labels = item["metadata"].get("labels", {})
    for wanted in filter(None, selector.split(",")):
        name, equals, value = wanted.partition("=")
        if name not in labels or (equals and labels[name] != value):
            return False
    return True


def _fields_match(item: Object, selector: str) -> bool:
    for wanted in filter(None, selector.split(",")):
        path, _, value = wanted.partition("=")
        if _get(item, tuple(path.split("."))) != value:
            return False
    return True


def _without_version(item: Object) -> Object:
    metadata = {k: v for k, v in item["metadata"].items() if k != "resourceVersion"}
    return {**item, "metadata": metadata}
