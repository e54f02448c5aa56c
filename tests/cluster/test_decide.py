"""Laws of the one function that says what to do next, on a cluster that is simulated."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grace.cluster.executor.decide import (
    Bounds,
    Decision,
    JobStanding,
    SeenServer,
    SeenStep,
    ServerStanding,
    StepState,
    decide,
)
from grace.cluster.steps import Served, Step, StepName, plan_steps
from grace.settings import Experiment

_KEYS = ("a", "b", "c", "d")
_EXPERIMENTS: tuple[tuple[Experiment, ...], ...] = (("exp1",), ("exp2",), ("exp1", "exp2"))
_OURS = {ServerStanding.STARTING, ServerStanding.READY, ServerStanding.STOPPING}
_ENDED = {StepState.DONE, StepState.FAILED, StepState.BLOCKED}


@dataclass
class World:
    """A cluster of standings, which moves at random and fails as it is told to."""

    steps: tuple[Step, ...]
    gpus: Mapping[str, int]
    bounds: Bounds
    bad_steps: frozenset[StepName] = frozenset()
    bad_servers: frozenset[str] = frozenset()
    seen_steps: dict[StepName, SeenStep] = field(default_factory=dict)
    seen_servers: dict[str, SeenServer] = field(default_factory=dict)
    begun: list[StepName] = field(default_factory=list)

    def decide(self) -> Decision:
        return decide(self.steps, self.gpus, self.bounds, self.seen_steps, self.seen_servers)

    def server(self, key: str) -> SeenServer:
        return self.seen_servers.get(key, SeenServer())

    def held(self) -> list[str]:
        return [key for key in self.gpus if self.server(key).standing in _OURS]

    def act(self, decision: Decision, killed_after: int | None = None) -> None:
        """Do what was decided, or only the first few things of it."""
        doing: list[tuple[str, str]] = [
            *(("cancel", name) for name in decision.cancel),
            *(("stop", key) for key in decision.stop),
            *(("start", key) for key in decision.start),
            *(("begin", name) for name in decision.begin),
        ]
        for what, name in doing[:killed_after]:
            match what:
                case "cancel":
                    self.seen_steps[StepName(name)] = SeenStep(JobStanding.STOPPING)
                case "stop":
                    failure = self.server(name).failure
                    self.seen_servers[name] = SeenServer(ServerStanding.STOPPING, failure=failure)
                case "start":
                    assert self.server(name).standing is ServerStanding.ABSENT
                    self.seen_servers[name] = SeenServer(ServerStanding.STARTING)
                case _:
                    self.begun.append(StepName(name))
                    self.seen_steps[StepName(name)] = SeenStep(JobStanding.ACTIVE)

    def move(self, random: Random) -> None:
        """Let everything that moves by itself move on."""
        needs_server = {step.name: step.server for step in self.steps}
        for name, step in list(self.seen_steps.items()):
            server = needs_server[name]
            works = server is None or self.server(server).standing is ServerStanding.READY
            if step.standing is JobStanding.STOPPING:
                del self.seen_steps[name]
            elif step.standing is JobStanding.ACTIVE and works and random.random() < 0.7:
                ends = JobStanding.FAILED if name in self.bad_steps else JobStanding.DONE
                self.seen_steps[name] = SeenStep(ends)
        for key, server_seen in list(self.seen_servers.items()):
            match server_seen.standing:
                case ServerStanding.STARTING if key in self.bad_servers:
                    self.seen_servers[key] = SeenServer(ServerStanding.STARTING, failure="broken")
                case ServerStanding.STARTING if not server_seen.failure:
                    self.seen_servers[key] = SeenServer(ServerStanding.READY)
                case ServerStanding.STOPPING | ServerStanding.ELSEWHERE:
                    self.seen_servers[key] = SeenServer(failure=server_seen.failure)
                case _:
                    pass


@st.composite
def worlds(draw: st.DrawFn, *, anything: bool = False) -> World:
    keys = draw(st.lists(st.sampled_from(_KEYS), min_size=1, max_size=4, unique=True))
    served = [Served(key, key, (key,) if draw(st.booleans()) else ()) for key in keys]
    extractor = draw(st.sampled_from([None, Served("e", "e"), served[0], Served("api", None)]))
    experiments = draw(st.sampled_from(_EXPERIMENTS))
    steps = plan_steps(served, experiments, extractor=extractor, rechecked=draw(st.booleans()))
    servers = dict.fromkeys(step.server for step in steps if step.server is not None)
    gpus = {key: draw(st.integers(0, 4)) for key in servers}
    bounds = Bounds(
        servers=draw(st.integers(1, 3)),
        gpus=draw(st.none() | st.integers(1, 6)),
        jobs=draw(st.none() | st.integers(1, 3)),
    )
    names = [step.name for step in steps]
    world = World(
        steps,
        gpus,
        bounds,
        draw(st.frozensets(st.sampled_from(names), max_size=2)),
        draw(st.frozensets(st.sampled_from([*servers]), max_size=1)) if servers else frozenset(),
    )
    if anything:
        for name in names:
            world.seen_steps[name] = SeenStep(draw(st.sampled_from(JobStanding)))
        for key in servers:
            failure = draw(st.sampled_from(["", "", "broken"]))
            standing = draw(st.sampled_from(ServerStanding))
            world.seen_servers[key] = SeenServer(standing, failure=failure)
    return world


def run_to_the_end(world: World, random: Random, *, kills: bool = False) -> Decision:
    for _ in range(60 * len(world.steps)):
        decision = world.decide()
        if decision.finished:
            return decision
        world.act(decision, random.randrange(5) if kills and random.random() < 0.5 else None)
        if random.random() < 0.8:
            world.move(random)
    raise AssertionError(f"no end: {world}")


@given(worlds(anything=True), st.randoms(use_true_random=False))
def test_from_any_state_it_comes_to_an_end_and_leaves_no_server(
    world: World, random: Random
) -> None:
    decision = run_to_the_end(world, random)
    assert not world.held()
    assert {found.state for found in decision.steps.values()} <= _ENDED


@given(worlds(), st.randoms(use_true_random=False))
def test_bounds_are_never_exceeded(world: World, random: Random) -> None:
    for _ in range(40 * len(world.steps)):
        decision = world.decide()
        world.act(decision)
        assert len(world.held()) <= world.bounds.servers
        if world.bounds.gpus is not None:
            assert sum(world.gpus[key] for key in world.held()) <= world.bounds.gpus
        at_work = {JobStanding.ACTIVE, JobStanding.STOPPING}
        if world.bounds.jobs is not None:
            count = sum(step.standing in at_work for step in world.seen_steps.values())
            assert count <= world.bounds.jobs
        if decision.finished:
            return
        world.move(random)
    raise AssertionError("no end")


@given(worlds(anything=True))
def test_no_server_is_started_beyond_the_bounds_whatever_is_there(world: World) -> None:
    before = len(world.held())
    decision = world.decide()
    assert len(decision.start) <= max(world.bounds.servers - before, 0)
    if decision.start and world.bounds.gpus is not None:
        world.act(decision)
        assert sum(world.gpus[key] for key in world.held()) <= world.bounds.gpus


@given(worlds(anything=True))
def test_a_server_is_kept_or_started_only_for_a_step_that_can_run(world: World) -> None:
    decision = world.decide()
    up = {ServerStanding.STARTING, ServerStanding.READY}
    kept = {key for key in world.gpus if world.server(key).standing in up} - {*decision.stop}
    states = {name: found.state for name, found in decision.steps.items()}
    can_run = {
        step.server
        for step in world.steps
        if states[step.name] in {StepState.WAITING, StepState.RUNNING}
        and all(states[need] is StepState.DONE for need in step.needs)
    } | {step.server for step in world.steps if states[step.name] is StepState.RUNNING}
    assert kept | {*decision.start} <= can_run


@given(worlds(anything=True))
def test_a_step_begins_once_and_only_when_all_that_it_needs_is_there(world: World) -> None:
    decision = world.decide()
    steps = {step.name: step for step in world.steps}
    for name in decision.begin:
        step = steps[name]
        assert world.seen_steps.get(name, SeenStep()).standing is JobStanding.ABSENT
        assert all(decision.steps[need].state is StepState.DONE for need in step.needs)
        if step.server is not None:
            assert world.server(step.server).standing is ServerStanding.READY
            assert step.server not in decision.stop


@given(worlds(), st.integers(0, 2**32))
def test_killed_at_any_point_the_end_is_the_same(world: World, seed: int) -> None:
    ends = []
    for kills in (False, True):
        again = World(world.steps, world.gpus, world.bounds, world.bad_steps, world.bad_servers)
        decision = run_to_the_end(again, Random(seed), kills=kills)  # noqa: S311 -- no secret
        ends.append({name: found.state for name, found in decision.steps.items()})
        assert len(again.begun) == len(set(again.begun))
    assert ends[0] == ends[1]


@given(worlds(anything=True))
def test_everything_that_waits_says_for_what(world: World) -> None:
    decision = world.decide()
    for name, found in decision.steps.items():
        if found.state in {StepState.WAITING, StepState.BLOCKED} and name not in decision.begin:
            assert found.reason


def _steps(*keys: str, extractor: str | None = None) -> tuple[Step, ...]:
    served = [Served(key, key) for key in keys]
    other = None if extractor is None else Served(extractor, extractor)
    return plan_steps(served, ("exp1", "exp2"), extractor=other)


def test_what_was_done_before_something_that_began_is_not_done_again() -> None:
    steps = _steps("a")
    seen = {StepName("respond.exp1.a"): SeenStep(JobStanding.ACTIVE)}
    decision = decide(steps, {"a": 1}, Bounds(), seen, {})
    assert decision.steps[StepName("smoke.a")].state is StepState.DONE


def test_a_server_in_the_way_of_another_is_stopped_when_nothing_can_use_it() -> None:
    steps = _steps("a", "b", extractor="e")
    done = SeenStep(JobStanding.DONE)
    seen = {step.name: done for step in steps if step.model == "a" and step.kind != "finish"}
    servers = {"e": SeenServer(ServerStanding.READY)}
    decision = decide(steps, {"a": 1, "b": 1, "e": 1}, Bounds(servers=1), seen, servers)
    assert decision.stop == ("e",)
    assert decision.start == ()


def test_a_model_that_would_only_extract_comes_after_those_that_are_asked() -> None:
    steps = _steps("a", "b", "c", extractor="a")
    done = SeenStep(JobStanding.DONE)
    left = {"extract.exp1.b", "extract.exp1.c", "smoke.c", "respond.exp1.c", "score.exp2.c"}
    seen = {step.name: done for step in steps if step.name not in left and step.kind != "finish"}
    gpus = {"a": 1, "b": 1, "c": 1}
    assert decide(steps, gpus, Bounds(servers=1), seen, {}).start == ("c",)
    assert decide(steps, gpus, Bounds(servers=2), seen, {}).start == ("c", "a")


def test_a_job_that_is_being_deleted_keeps_its_place() -> None:
    steps = _steps("a", "b")
    ready = {key: SeenServer(ServerStanding.READY) for key in ("a", "b")}
    seen = {StepName("smoke.a"): SeenStep(JobStanding.STOPPING)}
    bounds = Bounds(servers=2, jobs=1)
    assert decide(steps, {"a": 0, "b": 0}, bounds, seen, ready).begin == ()


def test_steps_of_servers_that_are_up_go_before_those_that_need_none() -> None:
    steps = plan_steps([Served("a", "a"), Served("b", "b", ("b",))], ("exp2",), extractor=None)
    ready = {"a": SeenServer(ServerStanding.READY)}
    decision = decide(steps, {"a": 0, "b": 0}, Bounds(jobs=1), {}, ready)
    assert decision.begin == ("smoke.a",)


def test_a_model_that_takes_more_gpus_than_allowed_is_left_out_in_words() -> None:
    decision = decide(_steps("a", "b"), {"a": 8, "b": 1}, Bounds(gpus=4), {}, {})
    assert decision.start == ("b",)
    blocked = decision.steps[StepName("smoke.a")]
    assert blocked.state is StepState.BLOCKED
    assert "gpus_at_once of the profile is 4" in blocked.reason


def test_a_step_whose_server_was_given_up_is_taken_back() -> None:
    seen = {StepName("smoke.a"): SeenStep(JobStanding.ACTIVE)}
    servers = {"a": SeenServer(ServerStanding.STARTING, failure="too slow")}
    decision = decide(_steps("a"), {"a": 1}, Bounds(), seen, servers)
    assert decision.cancel == ("smoke.a",)
    assert decision.stop == ("a",)


def test_a_server_that_ended_by_itself_is_removed_to_be_made_again() -> None:
    servers = {"a": SeenServer(ServerStanding.STARTING, ended=True)}
    assert decide(_steps("a"), {"a": 1}, Bounds(), {}, servers).stop == ("a",)


@pytest.mark.parametrize("jobs", [0, 1])
def test_a_step_that_waits_for_a_place_says_so(jobs: int) -> None:
    steps = _steps("a", "b")
    ready = {key: SeenServer(ServerStanding.READY) for key in ("a", "b")}
    bounds = Bounds(servers=2, jobs=jobs)
    waiting = decide(steps, {"a": 0, "b": 0}, bounds, {}, ready).steps[StepName("smoke.b")]
    assert waiting.reason == f"waits for a place: jobs.at_once of the profile is {jobs}"
