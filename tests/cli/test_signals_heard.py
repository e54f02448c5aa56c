import asyncio
import signal
import subprocess
import sys
import threading
from collections.abc import Coroutine
from typing import Any

import pytest

from grace.cli.signals import interruptible, run_until_stopped
from grace.engine.events import StopFlag
from grace.errors import RunInterrupted


async def wait_for(stop: StopFlag) -> str:
    while not stop.requested:  # noqa: ASYNC110  the flag can only be looked at
        await asyncio.sleep(0.001)
    return "drained"


async def hang() -> str:
    await asyncio.sleep(60)
    return "never"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_loop_is_made_is_heard_once_it_runs(number: signal.Signals) -> None:
    stop = StopFlag()

    def begin() -> Coroutine[Any, Any, str]:
        signal.raise_signal(number)
        return wait_for(stop)

    assert run_until_stopped(begin, stop, 15) == "drained"
    assert stop.requested


def test_two_signals_while_the_loop_is_made_end_it() -> None:
    def begin() -> Coroutine[Any, Any, str]:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        return hang()

    with pytest.raises(RunInterrupted, match="everything finished is kept"):
        run_until_stopped(begin, StopFlag(), 15)


def test_sigterm_waits_for_as_long_as_it_was_told() -> None:
    def begin() -> Coroutine[Any, Any, str]:
        signal.raise_signal(signal.SIGTERM)
        return hang()

    with pytest.raises(RunInterrupted):
        run_until_stopped(begin, StopFlag(), 0.05)
    # The deadline beside the loop ends with it.
    assert not [one for one in threading.enumerate() if isinstance(one, threading.Timer)]


def test_a_signal_between_two_steps_of_the_work_is_heard() -> None:
    stop = StopFlag()

    async def work() -> str:
        signal.raise_signal(signal.SIGTERM)
        return await wait_for(stop)

    assert run_until_stopped(work, stop, 15) == "drained"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_outside_of_a_loop_both_signals_interrupt(number: signal.Signals) -> None:
    with pytest.raises(RunInterrupted), interruptible():
        signal.raise_signal(number)


def test_handlers_are_put_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    stop = StopFlag()
    stop.request()
    with interruptible():
        assert run_until_stopped(lambda: wait_for(stop), stop, 15) == "drained"
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_what_the_work_raises_is_passed_on() -> None:
    async def fail() -> None:
        raise RunInterrupted("as told")

    with pytest.raises(RunInterrupted, match="as told"):
        run_until_stopped(fail, StopFlag(), 15)


def test_ctrl_c_while_grace_is_imported_ends_quietly() -> None:
    # A module that takes its time stands for a slow disk.
    program = (
        "import signal, sys, time\n"
        # Where the tests run in the background, SIGINT is ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "class Slow:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'grace.cli.main':\n"
        "            print('importing', flush=True)\n"
        "            time.sleep(60)\n"
        "sys.meta_path.insert(0, Slow())\n"
        "from grace.__main__ import main\n"
        "main()\n"
    )
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "importing\n"
    process.send_signal(signal.SIGINT)
    _, complaint = process.communicate(timeout=30)
    assert (process.returncode, complaint) == (130, "")


def test_the_first_process_of_a_container_ends_on_sigterm_before_it_has_begun() -> None:
    # Where nobody handles it, it is ignored there: a download would go on until it is killed.
    code = (
        "import os, signal, sys, types\n"
        "os.getpid = lambda: 1\n"
        "fake = types.ModuleType('grace.cli.main')\n"
        "fake.main = lambda: signal.raise_signal(signal.SIGTERM)\n"
        "sys.modules['grace.cli.main'] = fake\n"
        "from grace.__main__ import main\n"
        "main()\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 3  # noqa: S603
