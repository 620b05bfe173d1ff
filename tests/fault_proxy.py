"""A TCP proxy on loopback whose link can be made slow, thin, silent or broken while it carries.

    with FaultProxy(bank_address) as link:
        node_dials(link.address)
        link.delay(0.025)  # 50 ms a round trip
        link.reset()

Bytes go "up" from who dialled to the target, and "down" back. A fault is for one direction, or for
both if none is named. What is carried stays in order, and nothing is lost but by `reset` and `cut`.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Coroutine, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any, Final, Literal, Self, TypeVar

Direction = Literal["up", "down"]
T = TypeVar("T")

_MOST: Final = 1 << 16
"""Bytes that are taken from a socket at a time."""

_LEAST: Final = 1460
"""Bytes that a throttled link sends at least in one go: a packet."""

_SLICE: Final = 0.002
"""Seconds of a throttled link that one connection takes before another has its turn."""

_BURST: Final = 0.005
"""Seconds of unused link that a throttled direction may make up for: the bucket's depth."""

_IN_FLIGHT: Final = 1024
"""Pieces of a connection on their way: far more than a delay of some 100 ms needs."""

_CONTROL: Final = 30.0
"""Seconds within which the proxy's thread must do what it is told."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a proxy has done so far.

    accepted   connections taken, swallowed ones included; open: those that are there now
    cuts       connections ended by `cut`
    up, down   bytes handed on
    """

    accepted: int
    open: int
    cuts: int
    up: int
    down: int


class _Cut(Exception):
    """A connection has carried all it may."""


@dataclass(slots=True)
class _Line:
    """One direction of the link, for all connections. Delay in seconds, rate in bytes a second."""

    delay: float = 0.0
    rate: float | None = None
    silent: bool = False
    cut: int | None = None
    carried: int = 0
    _free: float = 0.0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def change(self, settings: Mapping[str, object]) -> None:
        """Change fields, and wake up everything that waits."""
        for name, value in settings.items():
            setattr(self, name, value)
        self._free = 0.0
        self._changed.set()
        self._changed = asyncio.Event()

    async def pause(self, seconds: float | None) -> None:
        """Sleep, but not beyond a change of settings."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    async def heard(self) -> None:
        """Wait until the direction is not silent."""
        while self.silent:
            await self.pause(None)

    async def transmit(self, size: int) -> None:
        """Take `size` bytes' time of the link: a token bucket as a clock of when it is free."""
        if self.rate is None:
            return
        clock = asyncio.get_running_loop().time
        self._free = ready = max(self._free, clock() - _BURST) + size / self.rate
        while self.rate is not None and (left := ready - clock()) > 0:
            await self.pause(left)

    async def arrival(self, sent: float) -> None:
        """Wait until what was transmitted at `sent` comes out at the other end."""
        clock = asyncio.get_running_loop().time
        while self.silent or sent + self.delay > clock():
            await self.pause(None if self.silent else sent + self.delay - clock())

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """Split what was read so that slow links stay shared; no bytes are one piece, the end."""
        size = len(data) or 1
        if self.rate is not None:
            size = max(_LEAST, int(self.rate * _SLICE))
        return (data[at : at + size] for at in range(0, len(data) or 1, size))


class _Pipe:
    """One direction of one connection: takes, holds for the link's delay, gives."""

    def __init__(self, line: _Line, source: socket.socket, sink: socket.socket) -> None:
        self._line, self._source, self._sink = line, source, sink
        self._queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_IN_FLIGHT)
        self.allowed = line.cut

    async def take(self) -> None:
        """Read until the end; b"" in the queue is the end."""
        loop = asyncio.get_running_loop()
        while True:
            await self._line.heard()
            data = await loop.sock_recv(self._source, _MOST)
            for piece in self._line.pieces(data):
                await self._line.transmit(len(piece))
                await self._queue.put((loop.time(), piece))
            if not data:
                return

    async def give(self) -> None:
        """Hand on until the end; raises _Cut when all that is allowed went."""
        loop = asyncio.get_running_loop()
        while True:
            sent, data = await self._queue.get()
            await self._line.arrival(sent)
            if not data:
                self._sink.shutdown(socket.SHUT_WR)
                return
            data = data[: self.allowed]
            await loop.sock_sendall(self._sink, data)
            self._line.carried += len(data)
            if self.allowed is not None:
                self.allowed -= len(data)
                if self.allowed <= 0:
                    raise _Cut


class FaultProxy:
    """A proxy in a thread of its own, from entering the context until leaving it.

    Every method may be called from any thread; what it asks for is in force when it returns.
    """

    def __init__(self, target: str) -> None:
        """Remember the target, HOST:PORT; nobody has to listen there yet."""
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._lines: dict[Direction, _Line] = {"up": _Line(), "down": _Line()}
        self._connections: dict[asyncio.Task[None], dict[Direction, _Pipe]] = {}
        self._swallowed: set[asyncio.Task[None]] = set()
        self._accepted = self._cuts = 0
        self._trouble: list[BaseException] = []

    def __enter__(self) -> Self:
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._listening.setblocking(False)
        self.address = f"127.0.0.1:{self._listening.getsockname()[1]}"
        started: Future[asyncio.AbstractEventLoop] = Future()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._main(started)), name="fault-proxy"
        )
        self._thread.start()
        self._loop = started.result(_CONTROL)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        if error is None and self._trouble:
            raise BaseExceptionGroup("the proxy itself failed", self._trouble)

    def delay(self, seconds: float, direction: Direction | None = None) -> None:
        """Let every byte arrive `seconds` later; how much arrives in a second stays the same.

        A round trip takes the delays of both directions longer; that TCP is dialled is not delayed.
        """
        self._set(direction, delay=seconds)

    def throttle(self, bits_per_second: float | None, direction: Direction | None = None) -> None:
        """Let no more pass in a second, over all connections together; None ends that."""
        rate = None if bits_per_second is None else bits_per_second / 8
        self._set(direction, rate=rate)

    def black_hole(self, direction: Direction | None = None) -> None:
        """Let nothing through; what is on its way waits for `heal`.

        Connections that come now are accepted, their bytes swallowed, and reset by `heal`: they
        are never forwarded, as TCP needs both directions to begin.
        """
        self._set(direction, silent=True)

    def cut(self, after: int, direction: Direction | None = None) -> None:
        """End each connection, old or new, once it carries `after` more bytes, until `heal`.

        It ends as if the other side had gone: with all those bytes, and no error.
        """
        self._set(direction, cut=after)

    def reset(self) -> None:
        """Reset every connection (RST at both ends); new ones are served."""
        self._do(self._end(self._connections))

    def heal(self) -> None:
        """End every fault: what was held goes on, what was swallowed is reset."""
        self._set(None, delay=0.0, rate=None, silent=False, cut=None)
        self._do(self._end(self._swallowed))

    def seen(self) -> Seen:
        """Return what was done so far."""

        async def look() -> Seen:
            up, down = self._lines["up"].carried, self._lines["down"].carried
            return Seen(self._accepted, len(self._connections), self._cuts, up, down)

        return self._do(look())

    def _set(self, direction: Direction | None, **settings: float | bool | None) -> None:
        async def apply() -> None:
            for way in self._lines if direction is None else (direction,):
                line = self._lines[way]
                line.change(settings)
                if "cut" in settings:
                    for pipes in self._connections.values():
                        if way in pipes:
                            pipes[way].allowed = line.cut

        self._do(apply())

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_CONTROL)

    # From here on everything runs in the proxy's thread.

    async def _main(self, started: Future[asyncio.AbstractEventLoop]) -> None:
        self._stop = asyncio.Event()
        started.set_result(asyncio.get_running_loop())
        accepting = asyncio.create_task(self._accept())
        accepting.add_done_callback(self._note)
        with self._listening:
            await self._stop.wait()
            await self._end([accepting])
            await self._end(self._connections)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            client, _ = await loop.sock_accept(self._listening)
            self._accepted += 1
            task = loop.create_task(self._serve(client))
            self._connections[task] = {}
            task.add_done_callback(partial(self._over, client))

    def _note(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._trouble.append(error)

    def _over(self, client: socket.socket, task: asyncio.Task[None]) -> None:
        _close(client, orderly=False)  # where the task was ended before it began
        del self._connections[task]
        self._swallowed.discard(task)
        self._note(task)

    async def _end(self, tasks: Iterable[asyncio.Task[None]]) -> None:
        ending = list(tasks)
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)

    async def _serve(self, client: socket.socket) -> None:
        """Carry one connection to its end; both its sockets are closed then."""
        server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        orderly, task = False, asyncio.current_task()
        assert task is not None
        try:
            for end in (client, server):
                end.setblocking(False)
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if any(line.silent for line in self._lines.values()):
                self._swallowed.add(task)
                await self._swallow(client)
            else:
                await asyncio.get_running_loop().sock_connect(server, self._target)
                await self._carry(client, server, task)
            orderly = True
        except* _Cut:
            self._cuts += 1
            orderly = True
        except* OSError:
            pass  # one side broke the connection, and so the other is broken, too
        finally:
            for end in (client, server):
                _close(end, orderly)

    async def _swallow(self, client: socket.socket) -> None:
        while await asyncio.get_running_loop().sock_recv(client, _MOST):
            pass

    async def _carry(
        self, client: socket.socket, server: socket.socket, task: asyncio.Task[None]
    ) -> None:
        up = _Pipe(self._lines["up"], client, server)
        down = _Pipe(self._lines["down"], server, client)
        self._connections[task] = {"up": up, "down": down}
        async with asyncio.TaskGroup() as group:
            for pipe in (up, down):
                group.create_task(pipe.take())
                group.create_task(pipe.give())


def _close(end: socket.socket, orderly: bool) -> None:
    if end.fileno() < 0:
        return
    if not orderly:
        # Linger for no time: the kernel forgets what it holds and sends RST.
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    end.close()
