"""The supervisor starts real processes, and leaves none behind."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from hejin_sandbox.errors import ProcessError
from hejin_sandbox.supervisor import LISTENING, Command, Supervisor

_PYTHON = (sys.executable, "-S", "-c")


def _gone(pid: int) -> bool:
    end = time.monotonic() + 5
    while time.monotonic() < end:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False


def _supervisor(folder: Path) -> Supervisor:
    return Supervisor(folder / "logs", program=_PYTHON, environment={"HEJIN_LANG": "en"})


def test_a_service_is_ready_when_its_log_names_the_port_and_stops_with_the_context(
    tmp_path: Path,
) -> None:
    with _supervisor(tmp_path) as supervisor:
        service = supervisor.serve(
            "bank",
            ["import time; print('listening on 127.0.0.1:4711'); time.sleep(60)"],
            tmp_path,
        )
        found = service.wait_for(LISTENING, timeout=10)
        assert found.group(1) == "127.0.0.1:4711"
        supervisor.check()
        pid = service.pid
    assert _gone(pid)


def test_a_service_that_ends_early_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    with _supervisor(tmp_path) as supervisor:
        service = supervisor.serve("node", ["import sys; sys.exit('no charter here')"], tmp_path)
        with pytest.raises(ProcessError, match=r"node ended with code 1[\s\S]*no charter here"):
            service.wait_for(LISTENING, timeout=10)
        with pytest.raises(ProcessError, match="node ended"):
            supervisor.check()


def test_a_silent_service_is_given_up_after_the_time_out(tmp_path: Path) -> None:
    with _supervisor(tmp_path) as supervisor:
        service = supervisor.serve("node", ["import time; time.sleep(60)"], tmp_path)
        with pytest.raises(ProcessError, match="did not get ready within"):
            service.wait_for(LISTENING, timeout=0.3)


def test_a_service_deaf_to_sigterm_is_killed_together_with_its_child(tmp_path: Path) -> None:
    script = (
        "import os, signal, subprocess, sys, time;"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "child = subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(60)'],"
        " preexec_fn=lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN));"
        "print('child', child.pid, flush=True); time.sleep(60)"
    )
    supervisor = _supervisor(tmp_path)
    service = supervisor.serve("node", [script], tmp_path)
    child = int(service.wait_for(re.compile(r"child (\d+)\n"), timeout=10).group(1))
    service.stop(grace=0.2)
    assert _gone(service.pid)
    assert _gone(child)
    supervisor.stop_all()


def test_a_command_sees_its_own_home_and_returns_what_it_prints(tmp_path: Path) -> None:
    script = "import os, sys; print(os.environ['HEJIN_HOME']); print('aside', file=sys.stderr)"
    with _supervisor(tmp_path) as supervisor:
        said = supervisor.run(Command("init", (script,), tmp_path / "home"))
    assert said.strip() == str(tmp_path / "home")
    assert "aside" in (tmp_path / "logs" / "init.log").read_text("utf-8")


def test_a_failing_command_is_reported_with_its_code_and_last_words(tmp_path: Path) -> None:
    script = "import sys; print('hejin: over budget', file=sys.stderr); sys.exit(3)"
    with (
        _supervisor(tmp_path) as supervisor,
        pytest.raises(ProcessError, match=r"ingest ended with code 3[\s\S]*over budget"),
    ):
        supervisor.run(Command("ingest", (script,), tmp_path))


def test_a_slow_command_is_stopped_at_its_time_out(tmp_path: Path) -> None:
    script = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    with (
        _supervisor(tmp_path) as supervisor,
        pytest.raises(ProcessError, match="took longer than"),
    ):
        supervisor.run(Command("slow", (script,), tmp_path, timeout=1.0))
    assert _gone(int((tmp_path / "logs" / "slow.out").read_text("utf-8")))


def test_commands_run_two_at_a_time_and_answer_in_order(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    script = (
        "import os, pathlib, sys, time;"
        f"folder = pathlib.Path({str(marks)!r}); mine = folder / str(os.getpid()); mine.touch();"
        "now = len(list(folder.iterdir())); time.sleep(0.15); mine.unlink(); print(now)"
    )
    commands = [Command(f"c{i}", (script + f"; print({i})",), tmp_path) for i in range(5)]
    with _supervisor(tmp_path) as supervisor:
        said = [answer.split() for answer in supervisor.run_all(commands)]
    assert [int(last) for _, last in said] == [0, 1, 2, 3, 4]
    assert max(int(most) for most, _ in said) <= 2


def test_after_the_first_failure_no_further_command_is_started(tmp_path: Path) -> None:
    done = tmp_path / "done"
    commands = [
        Command("bad", ("raise SystemExit(1)",), tmp_path),
        Command("long", ("import time; time.sleep(60)",), tmp_path),
        *(Command(f"n{i}", (f"open({str(done)!r}, 'w')",), tmp_path) for i in range(3)),
    ]
    begin = time.monotonic()
    with _supervisor(tmp_path) as supervisor, pytest.raises(ProcessError, match="bad ended"):
        supervisor.run_all(commands)
    assert time.monotonic() - begin < 20


def test_a_command_that_is_just_starting_when_another_fails_is_ended_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, failed = Supervisor._start, threading.Event()

    def late(self: Supervisor, log: Path, *rest: Any) -> subprocess.Popen[bytes]:
        if log.stem == "long":
            failed.wait()
            time.sleep(0.5)
        process = start(self, log, *rest)
        if log.stem == "bad":
            process.wait()
            failed.set()
        return process

    monkeypatch.setattr(Supervisor, "_start", late)
    commands = [
        Command("bad", ("raise SystemExit(1)",), tmp_path),
        Command("long", ("import time; time.sleep(60)",), tmp_path),
    ]
    begin = time.monotonic()
    with _supervisor(tmp_path) as supervisor, pytest.raises(ProcessError, match="bad ended"):
        supervisor.run_all(commands)
    assert time.monotonic() - begin < 30


def test_a_stopped_supervisor_starts_nothing_more(tmp_path: Path) -> None:
    supervisor = _supervisor(tmp_path)
    supervisor.stop_all()
    with pytest.raises(ProcessError, match="stopping"):
        supervisor.serve("late", ["pass"], tmp_path)
