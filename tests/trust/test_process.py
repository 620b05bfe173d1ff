"""A process ends on a signal, and with any of its threads."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress

import pytest

from hejin_trust.errors import RefusedError
from hejin_trust.process import ThreadEndedError, repeat, threads


def wait(stop: threading.Event) -> None:
    stop.wait()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_fails_ends_the_process_with_its_name() -> None:
    def fail(stop: threading.Event) -> None:
        raise RuntimeError("a bug")

    stop = threading.Event()
    with threads(stop) as running:
        running.start("other", wait)
        running.start("worker", fail)
        with pytest.raises(ThreadEndedError, match="worker"):
            running.wait()
    assert stop.is_set()


def test_threads_that_end_as_asked_are_no_failure() -> None:
    stop = threading.Event()
    with threads(stop) as running:
        running.start("one", wait)
        stop.set()
        running.wait()


def test_threads_are_joined_when_the_body_fails() -> None:
    stop = threading.Event()
    before = threading.active_count()
    with suppress(KeyError), threads(stop) as running:
        running.start("one", wait)
        raise KeyError
    assert threading.active_count() == before


def test_a_refusal_is_tried_again_until_it_goes_away() -> None:
    stop, tries = threading.Event(), 0

    def work() -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise RefusedError("not now", "暂不")
        stop.set()

    repeat(work, 0.0, stop)
    assert tries == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_waiting_process(number: signal.Signals) -> None:
    code = (
        "from hejin_trust.process import threads, until_signal\n"
        "stop = until_signal()\n"
        "with threads(stop) as running:\n"
        "    running.start('one', lambda stop: stop.wait())\n"
        "    print('ready', flush=True)\n"
        "    running.wait()\n"
        "print('ended')\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        os.kill(process.pid, number)
        assert process.stdout.read() == "ended\n"
        assert process.wait(30) == 0


def test_a_refusal_that_ends_a_thread_ends_the_process_with_its_own_words() -> None:
    def fail(stop: threading.Event) -> None:
        raise RefusedError("the log was forked", "日志已分叉")

    stop = threading.Event()
    with threads(stop) as running:
        running.start("witness", fail)
        with pytest.raises(RefusedError, match="forked"):
            running.wait()
    assert stop.is_set()


def test_what_is_fatal_is_not_tried_again() -> None:
    class FatalError(RefusedError):
        code = "fatal"

    tries = 0

    def work() -> None:
        nonlocal tries
        tries += 1
        raise FatalError("over", "结束")

    with pytest.raises(FatalError):
        repeat(work, 0.001, threading.Event(), fatal=(FatalError,))
    assert tries == 1
