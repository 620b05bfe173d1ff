"""A member under the regulator's witness: mirrored, cosigned, and stopped where it must be."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from bent_mirror import BentMirror, Lines, copy_database, is_level, put_database
from node_world import Clock, World, found_world

from hejin_node.home import NodeHome, open_home
from hejin_regulator.mirror import DATABASE, open_mirror
from hejin_trust import mirroring, witness
from hejin_trust.channels import PeerRefused
from hejin_trust.charter import CharterError, NotAMemberError
from hejin_trust.checkpoint import sign_checkpoint
from hejin_trust.cosignature import cosign, witness_name
from hejin_trust.database import StorageError, reading, writing
from hejin_trust.errors import HejinError, RefusedError
from hejin_trust.files import FileError
from hejin_trust.keys import SigningKey
from hejin_trust.mirroring import LogStanding, LogUpdate
from hejin_trust.one_history import FrozenError, check_history
from hejin_trust.witness import (
    ClockOffError,
    Witness,
    WitnessRefusedError,
    WitnessUnreachableError,
    clock_off,
    cosigned_late,
    keep_witness,
    start_witness,
)

VOID = {"reservation": 0, "reason": "test"}
REFUSAL = {"request": "0" * 64, "code": "test", "peer": "bank-1"}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return found_world(tmp_path)


@pytest.fixture
def home(world: World) -> Iterator[NodeHome]:
    with open_home(world.nodes["node-1"], world.clock) as opened:
        yield opened


@pytest.fixture
def mirror(world: World, home: NodeHome) -> BentMirror:
    return BentMirror(world.mirror.door(home.member_id))


@pytest.fixture
def watch(home: NodeHome, mirror: BentMirror) -> Witness:
    """A started witness; what it asked so far is forgotten."""
    started = Witness(home, mirror)
    started.start()
    mirror.added.clear()
    mirror.tried = 0
    return started


@dataclass
class Monotonic:
    """The clock that no operator sets."""

    passed: float = 1000.0

    def monotonic(self) -> float:
        return self.passed


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch) -> Monotonic:
    """Time for witnesses, from before they are made; a test lets it pass."""
    found = Monotonic()
    monkeypatch.setattr(witness, "time", found)
    return found


def pass_seconds(seconds: float, ticking: Monotonic, *clocks: Clock) -> None:
    """Let time pass for everybody."""
    ticking.passed += seconds
    for clock in clocks:
        clock.turn(timedelta(seconds=seconds))


def append(home: NodeHome, count: int = 1) -> int:
    """Append to the release log; return the last entry's index."""
    with writing(home.database) as connection:
        return home.release_log.append_many(connection, [("void", VOID)] * count)[-1].seq


def append_internal(home: NodeHome, count: int = 1) -> None:
    with writing(home.database) as connection:
        home.internal_log.append_many(connection, [("refusal", REFUSAL)] * count)


def size(home: NodeHome) -> int:
    with reading(home.database) as connection:
        return home.release_log.size(connection)


# -- the ordinary course ------------------------------------------------------------------


def test_a_witness_that_starts_mirrors_both_logs(
    world: World, home: NodeHome, mirror: BentMirror
) -> None:
    append(home, 3)
    append_internal(home, 2)
    Witness(home, mirror).start()
    assert is_level(world, home)
    assert len(mirror.added) == 1, "one message carries both logs"


def test_nothing_is_asked_of_the_mirror_before_the_start(home: NodeHome) -> None:
    closed = BentMirror(door=None)  # type: ignore[arg-type]
    assert Witness(home, closed).offset is None
    assert closed.tried == 0


def test_cover_gives_a_cosigned_checkpoint_over_the_newest_entry(
    world: World, home: NodeHome, watch: Witness
) -> None:
    seq = append(home)
    cosigned = watch.cover(seq)
    assert cosigned.checkpoint.size == seq + 1
    assert cosigned.time == world.clock()
    assert is_level(world, home)


def test_a_cosignature_is_shown_again_for_a_minute_and_no_longer(
    world: World, home: NodeHome, mirror: BentMirror, ticking: Monotonic, watch: Witness
) -> None:
    first = watch.cover(0)
    pass_seconds(59, ticking, world.clock)
    assert watch.cover(0) is first
    assert mirror.tried == 0
    pass_seconds(2, ticking, world.clock)
    second = watch.cover(0)
    assert second.time == first.time + timedelta(seconds=61)
    assert second.checkpoint == first.checkpoint
    assert mirror.tried == 1


def test_a_log_that_did_not_grow_still_hears_the_regulators_time(
    world: World, mirror: BentMirror, ticking: Monotonic, watch: Witness
) -> None:
    pass_seconds(11, ticking, world.clock)
    watch.ready()
    assert watch.offset == timedelta(0)
    assert [update.entries for (update,) in mirror.added] == [()]


def test_the_regulator_is_asked_before_a_reservation_only_after_ten_seconds_of_silence(
    world: World, mirror: BentMirror, ticking: Monotonic, watch: Witness
) -> None:
    watch.ready()
    pass_seconds(9, ticking, world.clock)
    watch.ready()
    assert mirror.tried == 0
    pass_seconds(2, ticking, world.clock)
    watch.ready()
    assert mirror.tried == 1


def test_refreshing_keeps_the_cosigned_checkpoints_of_both_logs(
    home: NodeHome, watch: Witness
) -> None:
    watch.refresh()
    append_internal(home)
    seq = append(home, 2)
    watch.cover(seq)
    watch.refresh()
    with reading(home.database) as connection:
        for log in (home.release_log, home.internal_log):
            newest = log.newest_cosigned(connection)
            assert newest is not None
            assert newest.size == log.size(connection)


def test_cosignatures_that_cannot_be_stored_now_are_stored_by_the_next_refresh(
    home: NodeHome, watch: Witness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: object) -> None:
        raise StorageError("the disk is full", "磁盘已满")

    append(home)
    with monkeypatch.context() as patched:
        patched.setattr(witness, "writing", full)
        with pytest.raises(StorageError):
            watch.refresh()
    watch.cover(append(home))
    watch.refresh()
    with reading(home.database) as connection:
        assert [c.size for c in home.release_log.cosigned(connection)] == [1, 2, 3]


def test_starting_keeps_the_cosigned_checkpoints(home: NodeHome, mirror: BentMirror) -> None:
    Witness(home, mirror).start()
    with reading(home.database) as connection:
        assert home.release_log.newest_cosigned(connection) is not None
        assert home.internal_log.newest_cosigned(connection) is not None


def test_two_processes_of_a_member_that_mirror_one_backlog_both_get_through(
    home: NodeHome, mirror: BentMirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = Witness(home, mirror), Witness(home, mirror)
    one.start()
    two.start()
    monkeypatch.setattr(mirroring, "MOST_ENTRIES", 2)
    append_internal(home, 40)
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(each.refresh) for each in (one, two)]:
            done.result(60)
    with reading(home.database) as connection:
        size = home.internal_log.size(connection)
    assert size in {held.size for held in mirror.standing()}


def test_rounds_do_not_wait_while_a_refresh_waits_for_the_disk(
    home: NodeHome, watch: Witness
) -> None:
    """A bulk import may hold the database's one write lock for as long as it likes."""
    append(home)
    with ThreadPoolExecutor(1) as pool:
        with writing(home.database):
            refreshing = pool.submit(watch.refresh)
            deadline = time.monotonic() + 10
            while watch.cover(0).checkpoint.size < 2 and time.monotonic() < deadline:
                time.sleep(0.01)
            assert watch.cover(1).checkpoint.size == 2
            assert not refreshing.done()
        refreshing.result(30)


# -- the order of what is sent ------------------------------------------------------------


def test_a_long_backlog_goes_in_portions_the_internal_log_first(
    world: World, home: NodeHome, mirror: BentMirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reservation that the mirror holds without its account entry could not be put back."""
    monkeypatch.setattr(mirroring, "MOST_ENTRIES", 3)
    append(home, 6)
    append_internal(home, 7)
    watch = Witness(home, mirror)
    watch.start()
    internal = home.internal_log.origin
    sent = [{update.origin: len(update.entries) for update in each} for each in mirror.added]
    assert sent == [
        {internal: 3, home.release_log.origin: 0},
        {internal: 3, home.release_log.origin: 0},
        {internal: 2, home.release_log.origin: 3},
        {home.release_log.origin: 3},
        {home.release_log.origin: 1},
    ]
    assert is_level(world, home)


def test_a_backlog_of_long_entries_goes_in_portions_too(
    world: World, home: NodeHome, mirror: BentMirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirroring, "MOST_BYTES", 700)
    append(home, 9)
    Witness(home, mirror).start()
    assert len(mirror.added) >= 3
    for message in mirror.added:
        for update in message:
            assert sum(map(len, update.entries)) <= 700
    assert is_level(world, home)


def test_a_single_entry_longer_than_a_portion_is_sent_alone(
    world: World, home: NodeHome, mirror: BentMirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirroring, "MOST_BYTES", 10)
    append(home, 2)
    Witness(home, mirror).start()
    assert all(len(update.entries) <= 1 for message in mirror.added for update in message)
    assert is_level(world, home)


def test_eight_threads_that_cover_at_once_share_one_message(
    home: NodeHome, mirror: BentMirror, watch: Witness
) -> None:
    reserved = threading.Barrier(8)

    def work(_: int) -> tuple[int, int]:
        seq = append(home)
        reserved.wait()
        return seq, watch.cover(seq).checkpoint.size

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(work, range(8)))
    assert len(mirror.added) == 1
    assert {size for _, size in found} == {9}


def test_threads_that_reserve_while_a_message_is_under_way_share_the_next(
    home: NodeHome, mirror: BentMirror, watch: Witness
) -> None:
    sent, appended = threading.Event(), threading.Event()

    def hold() -> None:
        sent.set()
        assert appended.wait(30)

    mirror.before = hold
    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(watch.cover, append(home))
        assert sent.wait(30)
        later = [append(home) for _ in range(8)]
        waiting = [pool.submit(watch.cover, seq) for seq in later]
        appended.set()
        covered = [cosigned.result(30).checkpoint.size for cosigned in waiting]
    assert first.result().checkpoint.size == 2
    assert covered == [10] * 8
    assert len(mirror.added) == 2


# -- a regulator that is away -------------------------------------------------------------


def test_without_the_regulator_nothing_is_ready_and_nothing_is_covered(
    home: NodeHome, mirror: BentMirror, ticking: Monotonic, watch: Witness
) -> None:
    mirror.down = True
    ticking.passed += 3
    watch.ready()  # heard seconds ago: the reservation would wait for its cosignature
    with pytest.raises(WitnessUnreachableError, match="waits until it is back"):
        watch.cover(append(home))
    with pytest.raises(WitnessUnreachableError, match="nothing leaves without"):
        watch.ready()
    mirror.down = False
    watch.ready()
    watch.cover(1)


def test_what_was_cosigned_a_moment_ago_is_shown_while_the_regulator_is_away(
    home: NodeHome, mirror: BentMirror, watch: Witness
) -> None:
    first = watch.cover(append(home))
    mirror.down = True
    with pytest.raises(WitnessUnreachableError):
        watch.refresh()
    assert watch.cover(1) is first


def test_an_answer_that_was_lost_after_the_mirror_stored_it_freezes_nothing(
    world: World, home: NodeHome, mirror: BentMirror, watch: Witness
) -> None:
    seq = append(home)
    mirror.deaf = 1
    with pytest.raises(WitnessUnreachableError):
        watch.cover(seq)
    assert is_level(world, home)
    following = append(home)
    assert watch.cover(following).checkpoint.size == following + 1
    assert is_level(world, home)


def test_the_answer_to_one_portion_may_be_lost(
    world: World, home: NodeHome, mirror: BentMirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirroring, "MOST_ENTRIES", 2)
    append(home, 7)
    watch = Witness(home, mirror)
    mirror.deaf = 1
    with pytest.raises(WitnessUnreachableError):
        watch.start()
    mirror.deaf = 1
    with pytest.raises(WitnessUnreachableError):
        watch.cover(7)
    assert watch.cover(7).checkpoint.size == 8
    assert is_level(world, home)


def test_many_threads_do_not_wait_for_one_silent_regulator_one_after_the_other(
    home: NodeHome, mirror: BentMirror, watch: Witness
) -> None:
    seq = append(home)
    mirror.down = True
    mirror.before = lambda: time.sleep(0.3)
    together = threading.Barrier(8)

    def work(_: int) -> str:
        together.wait()
        try:
            watch.cover(seq)
        except WitnessUnreachableError as reason:
            return reason.code
        return "covered"

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(work, range(8))) == {"witness-unreachable"}
    assert mirror.tried <= 2
    mirror.down, mirror.before = False, lambda: None
    watch.cover(seq)  # asked later than the last vain try: it tries anew


def test_a_process_waits_at_its_start_until_the_regulator_answers(
    home: NodeHome, mirror: BentMirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(witness, "REFRESH_SECONDS", 0.01)
    mirror.down = True
    watch, stop = Witness(home, mirror), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        started = pool.submit(start_witness, watch, stop)
        time.sleep(0.1)
        assert not started.done()
        mirror.down = False
        assert started.result(10)


def test_a_process_that_is_stopped_while_it_waits_does_not_start(
    home: NodeHome, mirror: BentMirror
) -> None:
    mirror.down = True
    watch, stop = Witness(home, mirror), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        started = pool.submit(start_witness, watch, stop)
        time.sleep(0.05)
        stop.set()
        assert not started.result(10)


def test_a_process_with_another_history_ends_at_once(home: NodeHome, mirror: BentMirror) -> None:
    append(home)
    mirror.door = Told((LogStanding(home.release_log.origin, 1, b"\1" * 32),))
    with pytest.raises(FrozenError):
        start_witness(Witness(home, mirror), threading.Event())


def test_the_thread_that_mirrors_goes_on_until_the_log_is_frozen(
    home: NodeHome, mirror: BentMirror, watch: Witness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(witness, "REFRESH_SECONDS", 0.01)
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        mirror.down = True
        keeping = pool.submit(keep_witness, watch, stop)
        time.sleep(0.1)
        assert not keeping.done()
        real, mirror.door = mirror.door, Told((), RefusedError("no", "否"))
        mirror.down = False
        time.sleep(0.1)
        assert not keeping.done()
        mirror.door = real
        seq = append(home)
        deadline = time.monotonic() + 10
        while real.standing()[0].size <= seq and time.monotonic() < deadline:
            time.sleep(0.01)
        assert real.standing()[0].size == seq + 1
        ahead = LogStanding(home.release_log.origin, 99, b"\1" * 32)
        mirror.door = Told((ahead,), RefusedError("no", "否"))
        with pytest.raises(FrozenError):
            keeping.result(10)


@pytest.mark.parametrize("there", [True, False])
def test_what_was_logged_last_is_mirrored_when_the_process_stops(
    home: NodeHome, mirror: BentMirror, watch: Witness, there: bool
) -> None:
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        keeping = pool.submit(keep_witness, watch, stop)
        deadline = time.monotonic() + 10
        while not mirror.tried and time.monotonic() < deadline:
            time.sleep(0.01)
        seq = append(home)
        real = mirror.door
        if not there:
            mirror.door = Told(real.standing(), RefusedError("no", "否"))
        stop.set()
        keeping.result(10)
    assert real.standing()[0].size == seq + int(there)


# -- cosignatures that are none -----------------------------------------------------------


def by_another_key(world: World, updates: Sequence[LogUpdate], _: Lines) -> Lines:
    charter = world.office.charter
    name = witness_name(charter.consortium, charter.regulator.id)
    key = SigningKey.generate()
    return tuple(cosign(update.checkpoint, name, key, world.clock()) for update in updates)


def by_the_identity_key(world: World, updates: Sequence[LogUpdate], _: Lines) -> Lines:
    charter = world.office.charter
    name = witness_name(charter.consortium, charter.regulator.id)
    return tuple(
        cosign(update.checkpoint, name, world.office.identity, world.clock()) for update in updates
    )


def over_another_checkpoint(world: World, updates: Sequence[LogUpdate], _: Lines) -> Lines:
    """The regulator's own key, over a smaller tree of the same log."""
    charter = world.office.charter
    name = witness_name(charter.consortium, charter.regulator.id)
    key = SigningKey.load(world.office.home / "keys" / "log.key")
    own = SigningKey.load(world.nodes["node-1"] / "keys" / "log.key")
    return tuple(
        cosign(sign_checkpoint(update.origin, 1, b"\1" * 32, own), name, key, world.clock())
        for update in updates
    )


def of_another_name(world: World, updates: Sequence[LogUpdate], _: Lines) -> Lines:
    key = SigningKey.load(world.office.home / "keys" / "log.key")
    name = witness_name("another", "regulator")
    return tuple(cosign(update.checkpoint, name, key, world.clock()) for update in updates)


def none(_: World, __: Sequence[LogUpdate], lines: Lines) -> Lines:
    return ()


def too_few(_: World, __: Sequence[LogUpdate], lines: Lines) -> Lines:
    return lines[:-1]


def too_many(_: World, __: Sequence[LogUpdate], lines: Lines) -> Lines:
    return (*lines, lines[-1])


def twice_in_one(_: World, __: Sequence[LogUpdate], lines: Lines) -> Lines:
    return tuple(line + line for line in lines)


def swapped(_: World, __: Sequence[LogUpdate], lines: Lines) -> Lines:
    assert len(lines) == 2
    return lines[::-1]


def empty(_: World, __: Sequence[LogUpdate], lines: Lines) -> Lines:
    return tuple("" for _ in lines)


def garbage(_: World, __: Sequence[LogUpdate], lines: Lines) -> Lines:
    return tuple("— somebody ???\n" for _ in lines)


def one_bit_off(_: World, __: Sequence[LogUpdate], lines: Lines) -> Lines:
    return tuple(line[:-4] + ("A" if line[-4] != "A" else "B") + line[-3:] for line in lines)


def only_the_last_wrong(world: World, updates: Sequence[LogUpdate], lines: Lines) -> Lines:
    return (*lines[:-1], *by_another_key(world, updates, lines)[-1:])


def only_the_first_wrong(world: World, updates: Sequence[LogUpdate], lines: Lines) -> Lines:
    return (*by_another_key(world, updates, lines)[:1], *lines[1:])


FALSE = [
    by_another_key,
    by_the_identity_key,
    over_another_checkpoint,
    of_another_name,
    none,
    too_few,
    too_many,
    twice_in_one,
    swapped,
    empty,
    garbage,
    one_bit_off,
    only_the_last_wrong,
    only_the_first_wrong,
]


@pytest.mark.parametrize("lie", FALSE)
def test_a_cosignature_that_is_not_the_regulators_covers_nothing(
    world: World, home: NodeHome, mirror: BentMirror, watch: Witness, lie: object
) -> None:
    append_internal(home)
    seq = append(home)
    mirror.bend = lambda updates, lines: lie(world, updates, lines)  # type: ignore[operator]
    for _ in range(2):  # not the second time either
        for ask in (lambda: watch.cover(seq), watch.ready):
            with pytest.raises(WitnessRefusedError):
                ask()
            append_internal(home)
    mirror.bend = lambda _, lines: lines
    assert watch.cover(seq).checkpoint.size == seq + 1
    assert is_level(world, home)


def test_an_old_cosignature_that_is_shown_again_is_a_clock_that_is_off(
    world: World, mirror: BentMirror, ticking: Monotonic, watch: Witness
) -> None:
    kept: list[Lines] = []
    mirror.bend = lambda _, lines: kept.append(lines) or lines  # type: ignore[func-returns-value]
    pass_seconds(11, ticking, world.clock)
    watch.ready()
    mirror.bend = lambda *_: kept[0]
    pass_seconds(200, ticking, world.clock)
    with pytest.raises(ClockOffError):
        watch.ready()


@dataclass
class Told:
    """A mirror that says what it is told to say, and cosigns nothing."""

    standings: tuple[LogStanding, ...]
    refusal: HejinError = field(default_factory=lambda: RefusedError("no", "否"))
    asked: int = 0

    def standing(self) -> tuple[LogStanding, ...]:
        self.asked += 1
        if self.asked > 50:
            raise AssertionError("asked without end")
        return self.standings

    def add(self, updates: Sequence[LogUpdate]) -> Lines:
        raise self.refusal

    def entries(self, origin: str, start: int) -> tuple[bytes, ...]:
        return ()

    def charter_serial(self) -> int:
        return 0

    def charter(self) -> bytes:
        return b""


@pytest.mark.parametrize(
    "refusal",
    [
        PeerRefused("too large", "过大", "witness-too-large"),
        RefusedError("its clock is wrong", "时钟有误"),
        NotAMemberError("node-1 was revoked", "已撤销"),
    ],
    ids=lambda refusal: refusal.code,
)
def test_what_the_mirror_refuses_is_told_with_its_reason(
    home: NodeHome, mirror: BentMirror, watch: Witness, refusal: HejinError
) -> None:
    standing = mirror.standing()
    seq = append(home)
    mirror.door = Told(standing, refusal)
    with pytest.raises(WitnessRefusedError) as told:
        watch.cover(seq)
    assert refusal.text.en in told.value.text.en
    assert refusal.text.zh in told.value.text.zh
    with pytest.raises(WitnessRefusedError):
        watch.ready()


def test_a_mirror_that_holds_less_each_time_it_is_asked_does_not_keep_a_member_forever(
    home: NodeHome, mirror: BentMirror, watch: Witness
) -> None:
    append(home, 3)
    with reading(home.database) as connection:
        roots = [home.release_log.root(connection, n) for n in range(4)]

    class Wavering(Told):
        def standing(self) -> tuple[LogStanding, ...]:
            n = 2 + self.asked % 2
            self.standings = (LogStanding(home.release_log.origin, n, roots[n]),)
            return super().standing()

    mirror.door = Wavering(())
    with pytest.raises(WitnessRefusedError):
        watch.cover(3)


# -- another history ----------------------------------------------------------------------


def test_a_database_from_a_backup_is_told_from_the_newest(
    world: World, tmp_path: Path, ticking: Monotonic
) -> None:
    path = world.nodes["node-1"]
    with open_home(path, world.clock) as home:
        append(home, 2)
        world.witness(home)
    backup = copy_database(path, tmp_path / "backup.db")
    with open_home(path, world.clock) as home:
        append(home, 2)
        world.witness(home)
    put_database(backup, path)
    with open_home(path, world.clock) as home:
        watch = Witness(home, world.mirror.door("node-1"))
        with pytest.raises(FrozenError, match=r"3 entries here, the regulator holds 5") as told:
            watch.start()
        assert told.value.exit_code == 3
        assert "`recover`" in told.value.text.zh
        assert size(home) == 3
        for ask in (watch.ready, watch.refresh, lambda: watch.cover(0)):
            with pytest.raises(FrozenError):
                ask()
        assert size(home) == 3


def test_a_log_that_went_on_by_itself_is_a_fork_at_the_same_size_and_beyond(
    world: World, tmp_path: Path
) -> None:
    path = world.nodes["node-1"]
    with open_home(path, world.clock) as home:
        world.witness(home)
    backup = copy_database(path, tmp_path / "backup.db")
    with open_home(path, world.clock) as home:
        append(home, 2)
        world.witness(home)
    put_database(backup, path)
    with open_home(path, world.clock) as home:
        for more in (2, 1):  # as many entries as the mirror holds, then more
            append(home, more)
            with pytest.raises(FrozenError, match="it was forked"):
                Witness(home, world.mirror.door("node-1")).start()
    standings = world.mirror.door("node-1").standing()
    assert [standing.size for standing in standings] == [3, 1]


def test_a_fork_of_the_internal_log_alone_is_noticed(world: World, tmp_path: Path) -> None:
    path = world.nodes["node-1"]
    with open_home(path, world.clock) as home:
        world.witness(home)
    backup = copy_database(path, tmp_path / "backup.db")
    with open_home(path, world.clock) as home:
        append_internal(home)
        world.witness(home)
    put_database(backup, path)
    with open_home(path, world.clock) as home:
        append_internal(home)
        with pytest.raises(FrozenError, match="internal"):
            Witness(home, world.mirror.door("node-1")).start()


def test_a_fork_that_appears_while_the_member_runs_freezes_it(world: World, tmp_path: Path) -> None:
    """Somebody else serves from a copy of the same folder."""
    path = world.nodes["node-1"]
    with open_home(path, world.clock) as home:
        world.witness(home)
    twin_path = tmp_path / "twin"
    shutil.copytree(path, twin_path)
    with open_home(path, world.clock) as home, open_home(twin_path, world.clock) as twin:
        watch, other = world.witness(home), world.witness(twin)
        other.cover(append(twin))
        seq = append(home)
        with pytest.raises(FrozenError, match="it was forked"):
            watch.cover(seq)
        with pytest.raises(FrozenError):
            watch.ready()


def test_history_is_compared_over_what_the_mirror_holds_only() -> None:
    def root(at: int) -> bytes:
        return bytes([at]) * 32

    check_history("log", 5, LogStanding("log", 0, b""), root)
    check_history("log", 5, LogStanding("log", 4, root(4)), root)
    check_history("log", 5, LogStanding("log", 5, root(5)), root)
    for held in (LogStanding("log", 6, root(6)), LogStanding("log", 4, root(5))):
        with pytest.raises(FrozenError):
            check_history("log", 5, held, root)


def test_a_regulator_put_back_from_a_backup_gets_what_it_lacks(
    world: World, home: NodeHome, tmp_path: Path
) -> None:
    """Before the member's start, and while it runs."""
    office, file = world.office, world.office.home / DATABASE
    append(home, 3)
    with open_mirror(office, world.clock) as before:
        Witness(home, before.door(home.member_id)).start()
    backup = file.read_bytes()
    with open_mirror(office, world.clock) as grown:
        mirror = BentMirror(grown.door(home.member_id))
        watch = Witness(home, mirror)
        watch.start()
        watch.cover(append(home, 4))
    for path in office.home.glob("mirror.db*"):
        path.unlink()
    file.write_bytes(backup)
    with open_mirror(office, world.clock) as restored:
        assert restored.door(home.member_id).standing()[0].size == 4
        mirror.door = restored.door(home.member_id)
        mirror.added.clear()
        seq = append(home)
        assert watch.cover(seq).checkpoint.size == seq + 1
        (message,) = mirror.added
        release = next(u for u in message if u.origin == home.release_log.origin)
        assert (release.old_size, len(release.entries)) == (4, 5)
        assert release.proof
        again = Witness(home, restored.door(home.member_id))
        again.start()
    for path in office.home.glob("mirror.db*"):
        path.unlink()
    file.write_bytes(backup)
    with open_mirror(office, world.clock) as restored:
        Witness(home, restored.door(home.member_id)).start()
        with reading(home.database) as connection:
            own = home.release_log.root(connection)
        assert restored.door(home.member_id).standing()[0].root == own


def test_a_regulator_that_lost_everything_gets_everything(world: World, home: NodeHome) -> None:
    append(home, 3)
    with open_mirror(world.office, world.clock) as mirror:
        watch = Witness(home, mirror.door(home.member_id))
        watch.start()
    for path in world.office.home.glob("mirror.db*"):
        path.unlink()
    with open_mirror(world.office, world.clock) as empty:
        bent = BentMirror(empty.door(home.member_id))
        Witness(home, bent).start()
        assert bent.standing()[0].size == 4


# -- the charter --------------------------------------------------------------------------


def test_a_newer_charter_comes_with_the_cosignature(
    world: World, home: NodeHome, watch: Witness
) -> None:
    before = home.charter.serial
    world.office.revoke("bank-1", world.clock())
    watch.cover(append(home))
    assert home.charter.serial == before + 1
    assert not home.charter.member("bank-1").admitted


@pytest.mark.parametrize("fails", ["away", "refuses", "disk", "forged"])
def test_nothing_is_covered_by_what_came_with_a_charter_that_could_not_be_taken(
    world: World,
    home: NodeHome,
    mirror: BentMirror,
    watch: Witness,
    monkeypatch: pytest.MonkeyPatch,
    fails: str,
) -> None:
    """The charter that is not known yet may be the one that revokes the bank."""
    world.office.revoke("bank-1", world.clock())
    seq = append(home)

    def fail(*_: object) -> bytes:
        if fails == "away":
            mirror._reach()
        if fails == "refuses":
            raise PeerRefused("not now", "暂不", "refused")
        if fails == "disk":
            raise FileError("no space", "空间不足")
        raise CharterError("forged", "伪造")

    errors = {"away": WitnessUnreachableError, "refuses": WitnessRefusedError,
              "disk": FileError, "forged": CharterError}  # fmt: skip
    with monkeypatch.context() as patched:
        if fails == "away":
            mirror.after = lambda: setattr(mirror, "down", True)
        elif fails == "refuses":
            patched.setattr(BentMirror, "charter", fail)
        else:
            patched.setattr(type(home.charters), "update", fail)
        for ask in (lambda: watch.cover(seq), watch.ready, lambda: watch.cover(seq)):
            with pytest.raises(errors[fails]):
                ask()
            mirror.down = False
    mirror.after = lambda: None
    watch.cover(seq)
    assert not home.charter.member("bank-1").admitted


# -- clocks -------------------------------------------------------------------------------


@pytest.fixture
def own(world: World) -> Clock:
    """The member's clock where it is not the regulator's."""
    return Clock(world.clock())


@pytest.fixture
def apart(world: World, own: Clock) -> Iterator[Witness]:
    """A started witness of a member that has a clock of its own."""
    with open_home(world.nodes["node-1"], own) as home:
        yield world.witness(home)


@pytest.mark.parametrize(
    ("seconds", "says_en", "says_zh"),
    [
        (180, "180 s ahead of the regulator's", "超前 180 秒"),
        (-180, "180 s behind the regulator's", "落后 180 秒"),
        (3600, "3600 s ahead of the regulator's", "超前 3600 秒"),
        (-3600, "3600 s behind the regulator's", "落后 3600 秒"),
        (111, "111 s ahead", "超前 111 秒"),
        (-111, "111 s behind", "落后 111 秒"),
    ],
)
def test_a_clock_that_is_set_wrong_while_the_member_runs_is_noticed_at_once(
    own: Clock, apart: Witness, seconds: int, says_en: str, says_zh: str
) -> None:
    apart.ready()
    own.turn(timedelta(seconds=seconds))
    for ask in (apart.ready, apart.check_clock):
        with pytest.raises(ClockOffError, match="this member's clock is") as told:
            ask()
        assert says_en in told.value.text.en
        assert "set this member's clock" in told.value.text.en
        assert says_zh in told.value.text.zh
        assert told.value.code == "clock-off"
    own.turn(timedelta(seconds=-seconds))
    apart.ready()
    apart.check_clock()


@pytest.mark.parametrize("seconds", [110, -110, 0, 60])
def test_a_clock_within_its_bounds_is_ready(own: Clock, apart: Witness, seconds: int) -> None:
    own.turn(timedelta(seconds=seconds))
    apart.ready()
    apart.check_clock()
    assert apart.offset == timedelta(seconds=-seconds)


def test_a_refresh_says_that_the_clock_is_off(own: Clock, apart: Witness) -> None:
    own.turn(timedelta(minutes=5))
    with pytest.raises(ClockOffError):
        apart.refresh()


def test_a_cosignature_is_not_shown_again_after_the_clock_was_set(
    own: Clock, apart: Witness, world: World
) -> None:
    """Set back by as much as the cosignature has aged, it would look fresh for ever."""
    first = apart.cover(0)
    own.turn(timedelta(seconds=-30))
    assert apart.cover(0) is not first


def test_a_clock_that_was_set_while_the_regulator_is_away_is_not_trusted(
    world: World, own: Clock
) -> None:
    with open_home(world.nodes["node-1"], own) as home:
        mirror = BentMirror(world.mirror.door("node-1"))
        watch = Witness(home, mirror)
        watch.start()
        mirror.down = True
        watch.check_clock()
        own.turn(timedelta(minutes=1))
        with pytest.raises(WitnessUnreachableError):
            watch.check_clock()


def test_a_process_waits_at_its_start_until_its_clock_is_right(
    world: World, own: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it logged by a wrong clock would stop the log once the clock is right."""
    monkeypatch.setattr(witness, "REFRESH_SECONDS", 0.01)
    with open_home(world.nodes["node-1"], own) as home:
        own.turn(timedelta(hours=8))
        watch = Witness(home, world.mirror.door("node-1"))
        with ThreadPoolExecutor(1) as pool:
            started = pool.submit(start_witness, watch, threading.Event())
            time.sleep(0.1)
            assert not started.done()
            own.turn(timedelta(hours=-8))
            assert started.result(10)


def test_the_refusals_of_clocks_and_late_cosignatures_are_told_apart() -> None:
    off, late = clock_off(timedelta(seconds=150)), cosigned_late(timedelta(seconds=150))
    assert (off.code, late.code) == ("clock-off", "witness-unreachable")
    assert "150 s behind" in off.text.en
    assert "150 s apart" in late.text.en
    assert "set" not in late.text.en
    assert "150 秒" in late.text.zh
