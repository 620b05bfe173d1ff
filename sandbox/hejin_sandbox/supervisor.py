"""Real processes of a consortium: started with their own logs, waited for, always stopped."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from hejin_sandbox.errors import ProcessError

#: Where a server says that it is ready; the port is chosen by the system (port 0).
LISTENING = re.compile(r"listening on (127\.0\.0\.1:\d+)")

_POLL = 0.05  # seconds between looks at a log or a process
_GRACE = 10.0  # seconds between SIGTERM and SIGKILL: a node finishes its transaction in less
_TAIL_LINES, _TAIL_BYTES = 12, 4096
_PARALLEL = 2  # short commands at a time: more only queue on a small machine


@dataclass(frozen=True, slots=True)
class Command:
    """One command line that ends by itself.

    name         file name of its log, and how errors call it
    arguments    after the program, e.g. ("node", "ingest", ...)
    home         HEJIN_HOME of the process
    timeout      seconds
    """

    name: str
    arguments: tuple[str, ...]
    home: Path
    timeout: float = 300.0


class Service:
    """A long-running process in its own process group; `log` holds all that it says."""

    def __init__(self, name: str, log: Path, process: subprocess.Popen[bytes]) -> None:
        self.name, self.log = name, log
        self._process = process

    @property
    def pid(self) -> int:
        """The process id, which is also that of its group."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    def check(self) -> None:
        """Raise ProcessError with the end of the log if the process has ended."""
        if not self.running:
            raise _ended(self.name, self._process.returncode, self.log)

    def wait_for(self, pattern: re.Pattern[str], timeout: float) -> re.Match[str]:
        """Return the first match in the log; ProcessError if it ends or `timeout` seconds pass."""
        end = time.monotonic() + timeout
        while True:
            running = self.running  # before reading: what it said last must be seen
            found = pattern.search(_read(self.log))
            if found:
                return found
            if not running:
                raise _ended(self.name, self._process.returncode, self.log)
            if time.monotonic() >= end:
                raise ProcessError(
                    f"{self.name} did not get ready within {timeout:.0f} s; see {self.log}."
                    f"{_tail(self.log)}",
                    f"{self.name} 在 {timeout:.0f} 秒内未就绪;请查看 {self.log}。{_tail(self.log)}",
                )
            time.sleep(_POLL)

    def ask_to_stop(self) -> None:
        """Send SIGTERM to the process group; return at once."""
        _signal_group(self.pid, signal.SIGTERM)

    def stop(self, grace: float = _GRACE) -> None:
        """Wait `grace` seconds for the end after SIGTERM, then kill the whole group."""
        self.ask_to_stop()
        try:
            self._process.wait(grace)
        except subprocess.TimeoutExpired:
            pass
        finally:
            _signal_group(self.pid, signal.SIGKILL)  # also a child that outlived its parent
            self._process.wait()


class Supervisor:
    """Starts the processes of one sandbox run; leaving the context stops every one.

    logs         folder for one log a process, created if missing
    program      what is run before the arguments; the umbrella command by default
    environment  added to this process's own
    """

    def __init__(
        self,
        logs: Path,
        program: Sequence[str] = (sys.executable, "-m", "hejin_sandbox.main"),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        logs.mkdir(parents=True, exist_ok=True)
        self._logs, self._program = logs, tuple(program)
        self._environment = {**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})}
        self._services: list[Service] = []
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopping = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop_all()

    def stop_all(self) -> None:
        """Stop every process, the last started first; none is left when this returns."""
        self._stopping = True
        self._kill_commands()
        for service in reversed(self._services):
            service.ask_to_stop()
        for service in reversed(self._services):
            service.stop()
        self._services.clear()

    def serve(self, name: str, arguments: Sequence[str], home: Path) -> Service:
        """Start a long-running process and return at once; see Service.wait_for."""
        log = self._logs / f"{name}.log"
        service = Service(name, log, self._start(log, arguments, home))
        self._services.append(service)
        return service

    def check(self) -> None:
        """Raise ProcessError if any long-running process has ended."""
        for service in self._services:
            service.check()

    def run(self, command: Command) -> str:
        """Run one command to its end and return its standard output.

        raises   ProcessError where it fails or takes longer than its time-out
        """
        code, said = self.attempt(command)
        if code != 0:
            raise _ended(command.name, code, self._logs / f"{command.name}.log")
        return said

    def attempt(self, command: Command) -> tuple[int, str]:
        """Run one command to its end and return its exit code and standard output.

        raises   ProcessError where it takes longer than its time-out
        """
        log = self._logs / f"{command.name}.log"
        output = log.with_suffix(".out")
        process = self._start(log, command.arguments, command.home, output)
        self._running.add(process)
        try:
            code = process.wait(command.timeout)
        except subprocess.TimeoutExpired as late:
            raise ProcessError(
                f"{command.name} took longer than {command.timeout:.0f} s and was stopped;"
                f" see {log}.{_tail(log)}",
                f"{command.name} 超过 {command.timeout:.0f} 秒,已停止;请查看 {log}。{_tail(log)}",
            ) from late
        finally:
            _signal_group(process.pid, signal.SIGKILL)
            process.wait()
            self._running.discard(process)
        return code, output.read_text("utf-8", errors="replace")

    def run_all(self, commands: Sequence[Command]) -> list[str]:
        """Run commands, at most two at a time; return their outputs in order.

        raises   ProcessError of the first that fails; the rest is not started
        """
        return [said for (said,) in self.run_chains([(command,) for command in commands])]

    def run_chains(
        self,
        chains: Sequence[Sequence[Command]],
        progress: Callable[[int], None] | None = None,
    ) -> list[list[str]]:
        """Run chains of commands, two chains at a time, each chain's commands one by one.

        progress  told how many chains are done
        returns   the outputs, in the order of chains and commands
        raises    ProcessError of the first command that fails; the rest is not started
        """
        with ThreadPoolExecutor(_PARALLEL) as pool:
            futures = [pool.submit(self._run_chain, chain) for chain in chains]
            try:
                for done, future in enumerate(as_completed(futures), 1):
                    future.result()
                    if progress is not None:
                        progress(done)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                while not all(future.done() for future in futures):
                    self._kill_commands()  # one may be starting just now
                    time.sleep(_POLL)
                raise
            return [future.result() for future in futures]

    def _run_chain(self, chain: Sequence[Command]) -> list[str]:
        return [self.run(command) for command in chain]

    def _kill_commands(self) -> None:
        for process in list(self._running):
            _signal_group(process.pid, signal.SIGKILL)

    def _start(
        self, log: Path, arguments: Sequence[str], home: Path, output: Path | None = None
    ) -> subprocess.Popen[bytes]:
        if self._stopping:
            raise ProcessError(
                "the sandbox is stopping; nothing more is started.", "沙箱正在停止,不再启动进程。"
            )
        with log.open("ab") as said, (output or log).open("ab") as out:
            return subprocess.Popen(  # noqa: S603 - our own program, no shell
                [*self._program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=said,
                env={**self._environment, "HEJIN_HOME": str(home)},
                start_new_session=True,  # its own group: Ctrl-C reaches us first, and we stop it
            )


def _signal_group(pid: int, number: signal.Signals) -> None:
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        return  # already gone


def _read(log: Path) -> str:
    return log.read_text("utf-8", errors="replace")


def _tail(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
        lines = file.read().decode("utf-8", errors="replace").splitlines()[-_TAIL_LINES:]
    return "".join(f"\n    {line}" for line in lines)


def _ended(name: str, code: int, log: Path) -> ProcessError:
    return ProcessError(
        f"{name} ended with code {code}; see {log}.{_tail(log)}",
        f"{name} 已退出,代码 {code};请查看 {log}。{_tail(log)}",
    )
