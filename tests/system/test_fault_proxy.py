"""What the fault proxy does to plain sockets, and that a fleet gets over all of it."""

from __future__ import annotations

import gc
import hashlib
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path

import pytest
from fault_proxy import Direction, FaultProxy
from fleet_world import Bank, Nodes, consortium, start_bank

from hejin_coordinator.engine import EngineRun
from hejin_trust.fleet import Payload

SOON = 10.0
"""Seconds that something may take which takes none."""

SHORT = 0.3
"""Seconds of silence that show that nothing comes."""

PARTIES = consortium(2)
NODES = ["node-0", "node-1"]


class Target:
    """A listener on loopback; the tests play the server with what it accepts."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.settimeout(SOON)
        self.address = f"127.0.0.1:{self._listening.getsockname()[1]}"
        self._ends: list[socket.socket] = [self._listening]

    def accept(self) -> socket.socket:
        end, _ = self._listening.accept()
        return self._kept(end)

    def nothing_comes(self) -> None:
        self._listening.settimeout(SHORT)
        with pytest.raises(TimeoutError):
            self._listening.accept()
        self._listening.settimeout(SOON)

    def dial(self, proxy: FaultProxy) -> socket.socket:
        host, port = proxy.address.split(":")
        return self._kept(socket.create_connection((host, int(port)), SOON))

    def connect(self, proxy: FaultProxy) -> dict[Direction, tuple[socket.socket, socket.socket]]:
        """Return (sender, receiver) for each direction of a new connection."""
        client = self.dial(proxy)
        server = self.accept()
        return {"up": (client, server), "down": (server, client)}

    def _kept(self, end: socket.socket) -> socket.socket:
        end.settimeout(SOON)
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._ends.append(end)
        return end

    def close(self) -> None:
        for end in self._ends:
            end.close()


@pytest.fixture
def target() -> Iterator[Target]:
    made = Target()
    yield made
    made.close()


@pytest.fixture
def proxy(target: Target) -> Iterator[FaultProxy]:
    with FaultProxy(target.address) as made:
        yield made


both_ways = pytest.mark.parametrize("way", ["up", "down"])


def other(way: Direction) -> Direction:
    return "down" if way == "up" else "up"


def read(end: socket.socket, size: int) -> bytes:
    """Return `size` bytes, fewer only where the other side ended before."""
    parts = b""
    while len(parts) < size and (part := end.recv(min(size - len(parts), 1 << 16))):
        parts += part
    return parts


def pass_on(ends: tuple[socket.socket, socket.socket], data: bytes) -> float:
    """Send `data`, check that it arrives as it was; return the seconds that it took."""
    sender, receiver = ends
    sending = threading.Thread(target=sender.sendall, args=(data,))
    begin = time.monotonic()
    sending.start()
    got = bytearray()
    while len(got) < len(data):
        part = receiver.recv(1 << 16)
        assert part
        got += part
    seconds = time.monotonic() - begin
    sending.join()
    assert hashlib.sha256(got).digest() == hashlib.sha256(data).digest()
    return seconds


def silent(end: socket.socket) -> bool:
    end.settimeout(SHORT)
    try:
        end.recv(1)
    except TimeoutError:
        return True
    finally:
        end.settimeout(SOON)
    return False


def wait_until(what: Callable[[], bool]) -> None:
    until = time.monotonic() + SOON
    while not what():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_bytes_pass_both_ways_and_the_end_of_one_way_leaves_the_other(
    target: Target, proxy: FaultProxy
) -> None:
    ends = target.connect(proxy)
    data = random.Random(1).randbytes(1_000_000)
    pass_on(ends["up"], data)
    client, server = ends["up"]
    client.shutdown(socket.SHUT_WR)
    assert server.recv(1) == b""
    pass_on(ends["down"], data[:70_000])
    server.close()
    assert client.recv(1) == b""
    wait_until(lambda: proxy.seen().open == 0)
    seen = proxy.seen()
    assert (seen.accepted, seen.cuts, seen.up, seen.down) == (1, 0, 1_000_000, 70_000)


@both_ways
def test_a_delay_is_added_to_one_way_alone(
    target: Target, proxy: FaultProxy, way: Direction
) -> None:
    ends = target.connect(proxy)
    proxy.delay(0.2, way)
    slow = [pass_on(ends[way], b"x") for _ in range(3)]
    quick = [pass_on(ends[other(way)], b"x") for _ in range(3)]
    assert 0.2 <= min(slow) < 0.4
    assert min(quick) < 0.1
    proxy.delay(0.0)
    assert min(pass_on(ends[way], b"x") for _ in range(3)) < 0.1


def test_a_round_trip_of_50_ms_is_25_ms_each_way(target: Target, proxy: FaultProxy) -> None:
    ends = target.connect(proxy)
    proxy.delay(0.025)
    trips = [pass_on(ends["up"], b"?") + pass_on(ends["down"], b"!") for _ in range(10)]
    assert 0.05 <= min(trips) < 0.1


def test_a_delay_keeps_order_and_throughput(target: Target, proxy: FaultProxy) -> None:
    ends = target.connect(proxy)
    proxy.delay(0.2)
    # Piece by piece, each waiting for the one before, this would take a minute.
    assert pass_on(ends["up"], random.Random(2).randbytes(20_000_000)) < 8


@both_ways
def test_a_throttled_way_carries_its_bits_a_second_and_the_other_way_is_free(
    target: Target, proxy: FaultProxy, way: Direction
) -> None:
    ends = target.connect(proxy)
    proxy.throttle(8e6, way)
    assert 0.95 < pass_on(ends[way], bytes(1_000_000)) < 3
    assert pass_on(ends[other(way)], bytes(1_000_000)) < 0.9


def test_all_connections_share_a_throttled_link(target: Target, proxy: FaultProxy) -> None:
    connections = [target.connect(proxy)["up"] for _ in range(4)]
    proxy.throttle(8e6)
    taken: list[float] = []
    begin = time.monotonic()

    def carry(ends: tuple[socket.socket, socket.socket]) -> None:
        pass_on(ends, bytes(250_000))
        taken.append(time.monotonic() - begin)

    threads = [threading.Thread(target=carry, args=(ends,)) for ends in connections]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 0.95 < max(taken) < 3
    assert min(taken) > max(taken) / 2  # none was served first


def test_a_link_that_heals_carries_what_was_held_at_full_speed(
    target: Target, proxy: FaultProxy
) -> None:
    ends = target.connect(proxy)
    proxy.throttle(8000)
    proxy.delay(5.0)
    healing = threading.Timer(SHORT, proxy.heal)
    healing.start()
    assert SHORT < pass_on(ends["up"], bytes(200_000)) < 4
    healing.join()


@both_ways
def test_a_black_hole_stalls_connections_and_loses_nothing(
    target: Target, proxy: FaultProxy, way: Direction
) -> None:
    ends = target.connect(proxy)
    proxy.black_hole(way)
    sender, receiver = ends[way]
    sender.sendall(b"held")
    assert silent(receiver)
    if way == "up":
        pass_on(ends["down"], b"free")
    proxy.heal()
    assert read(receiver, 4) == b"held"


def test_a_black_hole_swallows_new_connections_and_healing_resets_them(
    target: Target, proxy: FaultProxy
) -> None:
    proxy.black_hole()
    client = target.dial(proxy)
    client.sendall(bytes(1_000_000))
    target.nothing_comes()
    assert silent(client)
    proxy.heal()
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    pass_on(target.connect(proxy)["up"], b"served again")


def test_a_reset_reaches_both_ends_and_new_connections_are_served(
    target: Target, proxy: FaultProxy
) -> None:
    connections = [target.connect(proxy)["up"] for _ in range(3)]
    proxy.reset()
    for ends in connections:
        for end in ends:
            with pytest.raises(ConnectionResetError):
                end.recv(1)
    assert proxy.seen().open == 0
    pass_on(target.connect(proxy)["down"], b"served again")


@both_ways
def test_each_connection_is_cut_after_exactly_so_many_bytes(
    target: Target, proxy: FaultProxy, way: Direction
) -> None:
    old = target.connect(proxy)
    pass_on(old[way], bytes(5000))
    proxy.cut(70_001, way)
    new = target.connect(proxy)
    for ends in (old, new):
        pass_on(ends[other(way)], bytes(100_000))
        sender, receiver = ends[way]
        sender.sendall(bytes(70_001))
        assert len(read(receiver, 1 << 20)) == 70_001
        assert sender.recv(1) == b""
    assert proxy.seen().cuts == 2
    proxy.heal()
    pass_on(target.connect(proxy)[way], bytes(100_000))


def test_a_broken_end_breaks_the_other(target: Target, proxy: FaultProxy) -> None:
    client, server = target.connect(proxy)["up"]
    server.sendall(b"unread")
    wait_until(lambda: proxy.seen().down == 6)
    client.close()  # with bytes unread: the kernel sends RST
    with pytest.raises(ConnectionResetError):
        server.recv(1)


def test_who_dials_for_a_target_that_is_away_is_reset() -> None:
    with socket.socket() as away:
        # Bound, so that nobody else takes the port, and not listening.
        away.bind(("127.0.0.1", 0))
        with FaultProxy(f"127.0.0.1:{away.getsockname()[1]}") as proxy:
            host, port = proxy.address.split(":")
            # The reset may come before the dialling returns, or after.
            with (
                pytest.raises(ConnectionResetError),
                socket.create_connection((host, int(port)), SOON) as client,
            ):
                client.recv(1)


def test_leaving_closes_every_socket_and_ends_the_thread(target: Target) -> None:
    gc.collect()
    before = len(list(Path("/proc/self/fd").iterdir()))
    with FaultProxy(target.address) as proxy:
        address = proxy.address
        clients = [target.dial(proxy) for _ in range(3)]
        proxy.black_hole()
        clients.append(target.dial(proxy))
        proxy.delay(60.0)
    for client in clients:
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        client.close()
    assert not [t for t in threading.enumerate() if t.name == "fault-proxy"]
    host, port = address.split(":")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), SOON)
    gc.collect()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


# The same over mutual TLS: nodes dial a bank through a proxy each.


@pytest.fixture
def bank() -> Iterator[Bank]:
    made = start_bank(PARTIES)
    yield made
    made.server.stop(0).wait()


@pytest.fixture
def links(bank: Bank) -> Iterator[dict[str, FaultProxy]]:
    with FaultProxy(bank.address) as first, FaultProxy(bank.address) as second:
        yield dict(zip(NODES, (first, second), strict=True))


@pytest.fixture
def run(bank: Bank, links: dict[str, FaultProxy]) -> Iterator[EngineRun]:
    nodes = Nodes()
    try:
        for node in NODES:
            nodes.start(PARTIES, node, links[node].address, answer)
        with bank.engine.open_run() as run:
            yield run
    finally:
        nodes.stop()


def answer(payload: Payload) -> Payload:
    return {"kind": b"masked", "vector": payload["q"] * 100_000}


def ask(run: EngineRun, mark: bytes) -> Iterator[str]:
    """Ask both nodes; yield those that answered what they should."""
    payload = {"q": mark, "state": bytes(100_000)}
    for node, got in run.ask(dict.fromkeys(NODES, payload), timeout=60, reissue_after=0.5):
        assert got == answer(payload)
        yield node


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(lambda link: link.cut(30_000, "up"), id="cut within an answer"),
        pytest.param(lambda link: link.cut(30_000, "down"), id="cut within a question"),
        pytest.param(lambda link: link.cut(0), id="cut at once"),
        pytest.param(lambda link: link.black_hole(), id="black hole"),
        pytest.param(lambda link: link.black_hole("up"), id="nothing up"),
        pytest.param(lambda link: link.black_hole("down"), id="nothing down"),
    ],
)
def test_a_fleet_question_is_answered_over_a_broken_link_that_heals(
    run: EngineRun, links: dict[str, FaultProxy], fault: Callable[[FaultProxy], None]
) -> None:
    assert set(ask(run, b"a")) == set(NODES)
    broken = links["node-1"]
    fault(broken)
    begin = time.monotonic()
    healing = threading.Timer(1.0, broken.heal)
    healing.start()
    answered = list(ask(run, b"b"))
    assert answered == NODES  # the node behind the whole link first
    assert time.monotonic() - begin > 0.9
    healing.join()
    assert set(ask(run, b"c")) == set(NODES)


def test_a_fleet_question_is_answered_while_its_links_are_reset_again_and_again(
    run: EngineRun, links: dict[str, FaultProxy]
) -> None:
    assert set(ask(run, b"a")) == set(NODES)
    for link in links.values():
        link.delay(0.025)
        link.throttle(100e6)

    def disturb() -> None:
        # A node waits longer after each failure, so that this must end.
        for link in [*links.values()] * 3:
            time.sleep(0.2)
            link.reset()

    disturbing = threading.Thread(target=disturb)
    disturbing.start()
    marks = cycle(b"bc")
    while disturbing.is_alive():
        assert set(ask(run, bytes([next(marks)]))) == set(NODES)
    disturbing.join()
    assert set(ask(run, b"z")) == set(NODES)
