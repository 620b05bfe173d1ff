"""The mirror stores what it cosigns, cosigns what it can prove, and refuses the rest by name."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest
from mirror_world import START, Book, Watched, watched
from sqlalchemy import text

from hejin_regulator import fair_use, witness_rules
from hejin_regulator.authority import Office
from hejin_regulator.fair_use import AllowanceError, FairUse, NotNowError
from hejin_regulator.mirror import LogMirror, open_mirror
from hejin_regulator.mirror_check import MirrorDamagedError, check_newest, check_whole
from hejin_regulator.stamps import AHEAD, WitnessClockError
from hejin_regulator.witness_rules import (
    CheckpointRefusedError,
    ConsistencyError,
    EntriesDifferError,
    EntryAheadError,
    EntryRefusedError,
    ForkError,
    SizeDiffersError,
    TooLargeError,
    UnknownLogError,
    WitnessRefusedError,
)
from hejin_trust.charter import NotAMemberError
from hejin_trust.checkpoint import sign_checkpoint
from hejin_trust.clock import now
from hejin_trust.database import StorageError, reading, writing
from hejin_trust.entries import EntryError
from hejin_trust.keys import SigningKey
from hejin_trust.mirroring import LogUpdate, Mirror
from hejin_trust.stored_log import LogError, StoredLog

A = "node-a"


@pytest.fixture
def world(office: Office, tmp_path: Path) -> Iterator[Watched]:
    with watched(office, tmp_path) as found:
        yield found


@pytest.fixture
def book(world: Watched) -> Book:
    return world.release[A]


def stored(mirror: LogMirror, origin: str) -> list[bytes]:
    with reading(mirror.engine) as connection:
        return list(StoredLog(origin).entries(connection))


def heads(mirror: LogMirror, origin: str) -> list[tuple[int, str]]:
    with reading(mirror.engine) as connection:
        return [(head.size, head.time) for head in StoredLog(origin).cosigned(connection)]


def test_both_logs_of_a_member_are_stored_and_cosigned_at_once(world: Watched, book: Book) -> None:
    internal = world.internal[A].fill(3)
    book.fill(7)
    first = world.add(A, book.update(0), internal.update(0))
    assert [(head.checkpoint.size, head.time) for head in first] == [(7, START), (3, START)]
    book.fill(5)
    world.time.on(10)
    (second,) = world.add(A, book.update(7))
    assert (second.checkpoint.size, second.checkpoint.root) == (12, book.root())
    assert stored(world.mirror, book.origin) == book.leaves
    assert stored(world.mirror, internal.origin) == internal.leaves
    assert heads(world.mirror, book.origin) == [
        (7, "2026-11-22T20:00:00Z"),
        (12, "2026-11-22T20:00:10Z"),
    ]
    standing = world.mirror.door(A).standing()
    assert [(log.origin, log.size, log.root) for log in standing] == [
        (book.origin, 12, book.root()),
        (internal.origin, 3, internal.root()),
    ]


def test_a_log_that_was_never_seen_has_no_root(world: Watched) -> None:
    door: Mirror = world.mirror.door("bank-a")
    assert [(log.size, log.root) for log in door.standing()] == [(0, b""), (0, b"")]
    assert door.charter_serial() == world.office.charter.serial
    assert door.charter() == world.office.charters.signed()
    assert door.add(()) == ()


def test_the_same_size_is_cosigned_again_with_a_fresh_time_and_stored_once(
    world: Watched, book: Book
) -> None:
    book.fill(4)
    world.add(A, book.update(0))
    for _ in range(3):
        world.time.on(30)
        (again,) = world.add(A, book.update(4))
        assert again.time == world.time.now
    assert heads(world.mirror, book.origin) == [(4, "2026-11-22T20:00:00Z")]


def test_an_empty_log_is_cosigned_and_its_first_entries_follow(world: Watched, book: Book) -> None:
    for _ in range(2):
        (empty,) = world.add(A, book.update(0))
        assert empty.checkpoint.size == 0
        world.time.on(1)
    book.fill(2)
    world.add(A, book.update(0))
    assert [size for size, _ in heads(world.mirror, book.origin)] == [0, 2]


def test_signatures_of_others_on_a_checkpoint_are_not_kept(world: Watched, book: Book) -> None:
    book.fill(1)
    update = book.update(0)
    other = sign_checkpoint(book.origin, 1, book.root(), SigningKey.generate())
    line = other.rpartition("\n\n")[2]
    world.add(A, replace(update, checkpoint=update.checkpoint + line))
    with reading(world.mirror.engine) as connection:
        newest = StoredLog(book.origin).newest_cosigned(connection)
    assert newest is not None
    assert newest.note.count("\n— ") == 2
    assert line not in newest.note


Change = Callable[[Watched, Book], LogUpdate]


def forged(book: Book, size: int, root: bytes, old: int, *leaves: bytes) -> LogUpdate:
    """Return an update over another tree, signed with the member's own key."""
    note = sign_checkpoint(book.origin, size, root, book.key)
    return LogUpdate(book.origin, old, leaves, (), note)


def _changed_leaf(book: Book) -> Book:
    other = Book(book.origin, book.member, book.key, list(book.leaves))
    other.leaves[2] = Book(book.origin, book.member, book.key, book.leaves[:2]).append(
        "void", {"reservation": 2, "reason": "another story"}
    )
    return other


def _with(book: Book, **falsified: object) -> LogUpdate:
    """Return five entries held and an honest tree over a sixth that is falsified."""
    book.append(**falsified)  # type: ignore[arg-type]
    return book.update(5)


CASES = [
    pytest.param(
        lambda world, book: world.release["node-b"].fill(1).update(0),
        UnknownLogError,
        "witness-unknown-log",
        id="a-log-of-another-member",
    ),
    pytest.param(
        lambda world, book: replace(book.update(5), origin="hejin/hebei/node/nobody"),
        UnknownLogError,
        "witness-unknown-log",
        id="an-unknown-origin",
    ),
    pytest.param(
        lambda world, book: replace(book.update(5), origin=world.internal[A].origin),
        CheckpointRefusedError,
        "witness-checkpoint-invalid",
        id="a-checkpoint-of-the-other-log",
    ),
    pytest.param(
        lambda world, book: replace(
            book.update(5),
            checkpoint=sign_checkpoint(book.origin, 5, book.root(), SigningKey.generate()),
        ),
        CheckpointRefusedError,
        "witness-checkpoint-invalid",
        id="a-wrong-key",
    ),
    pytest.param(
        lambda world, book: replace(book.update(5), checkpoint="nonsense"),
        CheckpointRefusedError,
        "witness-checkpoint-invalid",
        id="a-malformed-checkpoint",
    ),
    pytest.param(
        lambda world, book: replace(book.update(5), checkpoint="\ud800\n\n— x y\n"),
        CheckpointRefusedError,
        "witness-checkpoint-invalid",
        id="a-checkpoint-that-is-no-text",
    ),
    pytest.param(
        lambda world, book: replace(
            book.update(5), checkpoint=book.note().replace("\n5\n", "\n6\n")
        ),
        CheckpointRefusedError,
        "witness-checkpoint-invalid",
        id="an-altered-checkpoint",
    ),
    pytest.param(
        lambda world, book: replace(book.fill(2).update(3), old_size=3),
        SizeDiffersError,
        "witness-size-differs",
        id="an-older-size-than-is-held",
    ),
    pytest.param(
        lambda world, book: book.fill(4).update(6),
        SizeDiffersError,
        "witness-size-differs",
        id="a-gap",
    ),
    pytest.param(
        lambda world, book: replace(book.update(5), old_size=2**64 - 1),
        SizeDiffersError,
        "witness-size-differs",
        id="an-absurd-size",
    ),
    pytest.param(
        lambda world, book: forged(book, 5, _changed_leaf(book).root(), 5),
        ForkError,
        "witness-fork",
        id="the-same-size-with-another-root",
    ),
    pytest.param(
        lambda world, book: forged(book, 5, _changed_leaf(book).root(), 2, *book.leaves[2:]),
        ForkError,
        "witness-fork",
        id="the-same-size-with-another-root-from-an-older-size",
    ),
    pytest.param(
        lambda world, book: forged(book, 4, _changed_leaf(book).root(4), 4),
        ForkError,
        "witness-fork",
        id="a-smaller-size-with-another-root",
    ),
    pytest.param(
        lambda world, book: forged(book, 0, bytes(32), 0),
        ForkError,
        "witness-fork",
        id="an-empty-tree-with-a-root",
    ),
    pytest.param(
        lambda world, book: book.update(3, 4),
        SizeDiffersError,
        "witness-size-differs",
        id="a-smaller-size",
    ),
    pytest.param(
        lambda world, book: replace(book.update(4, 4), old_size=5),
        SizeDiffersError,
        "witness-size-differs",
        id="smaller-than-the-size-it-names",
    ),
    pytest.param(
        lambda world, book: _changed_leaf(book).fill(2).update(5),
        ConsistencyError,
        "witness-proof-invalid",
        id="a-fork-that-grew",
    ),
    pytest.param(
        lambda world, book: replace(book.fill(2).update(5), proof=(bytes(32),) * 3),
        ConsistencyError,
        "witness-proof-invalid",
        id="a-bad-proof",
    ),
    pytest.param(
        lambda world, book: replace(book.fill(2).update(5), proof=()),
        ConsistencyError,
        "witness-proof-invalid",
        id="no-proof",
    ),
    pytest.param(
        lambda world, book: replace(book.update(5), proof=(bytes(32),)),
        ConsistencyError,
        "witness-proof-invalid",
        id="a-proof-where-there-is-nothing-to-prove",
    ),
    pytest.param(
        lambda world, book: replace(book.fill(2).update(5), entries=()),
        EntriesDifferError,
        "witness-entries-differ",
        id="no-entries",
    ),
    pytest.param(
        lambda world, book: replace(book.update(5), entries=(book.leaves[4],)),
        EntriesDifferError,
        "witness-entries-differ",
        id="entries-that-are-held-already",
    ),
    pytest.param(
        lambda world, book: forged(book, 2**62, bytes(32), 5),
        EntriesDifferError,
        "witness-entries-differ",
        id="a-tree-of-2^62-entries",
    ),
    pytest.param(
        lambda world, book: replace(
            book.fill(1).update(5),
            entries=(Book(book.origin, A, book.key, book.leaves[:5]).append("renew",
                     {"reservation": 1}),),
        ),
        EntriesDifferError,
        "witness-entries-differ",
        id="another-entry-than-was-signed",
    ),
    pytest.param(
        lambda world, book: _with(book, seq=6),
        EntryRefusedError,
        "witness-entry-malformed",
        id="an-entry-with-another-number",
    ),
    pytest.param(
        lambda world, book: _with(book, seq=4),
        EntryRefusedError,
        "witness-entry-malformed",
        id="an-entry-twice",
    ),
    pytest.param(
        lambda world, book: _with(book, by="node-b"),
        EntryRefusedError,
        "witness-entry-malformed",
        id="an-entry-by-another-member",
    ),
    pytest.param(
        lambda world, book: _with(book, at=START - timedelta(seconds=1)),
        EntryRefusedError,
        "witness-entry-malformed",
        id="an-entry-that-goes-back-in-time",
    ),
    pytest.param(
        lambda world, book: _with(book, at=START + timedelta(seconds=121)),
        EntryAheadError,
        "witness-entry-ahead",
        id="an-entry-that-has-not-come",
    ),
    pytest.param(
        lambda world, book: (book.leaves.append(b"{}"), book.update(5))[1],
        EntryRefusedError,
        "witness-entry-malformed",
        id="an-entry-that-does-not-parse",
    ),
    pytest.param(
        lambda world, book: (book.leaves.append(b"x" * 70_000), book.update(5))[1],
        EntryRefusedError,
        "witness-entry-malformed",
        id="an-entry-that-is-too-long",
    ),
    pytest.param(
        lambda world, book: replace(book.update(5), proof=(bytes(32),) * 64),
        TooLargeError,
        "witness-too-large",
        id="a-proof-that-is-too-long",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("change", "error", "code"), CASES)
def test_what_the_rules_forbid_is_refused_by_name_and_leaves_nothing(
    world: Watched, book: Book, change: Change, error: type[WitnessRefusedError], code: str
) -> None:
    book.fill(5)
    world.add(A, book.update(0))
    leaves, internal = list(book.leaves), world.internal[A].fill(2)
    bad = change(world, book)
    good = () if bad.origin == internal.origin else (internal.update(0),)
    with pytest.raises(error) as refused:
        world.mirror.door(A).add([*good, bad])
    assert refused.value.code == code
    assert refused.value.text.zh != refused.value.text.en
    # All or nothing: neither the good update of the other log nor anything of this one.
    assert stored(world.mirror, book.origin) == leaves
    assert stored(world.mirror, internal.origin) == []
    assert heads(world.mirror, internal.origin) == []
    (counted,) = world.mirror.refusals()
    assert (counted.member, counted.code, counted.count) == (A, code, 1)
    check_whole(world.mirror, lambda _: None)


def test_an_entry_of_a_clock_that_is_ahead_is_not_stored_and_the_log_begins_anew(
    world: Watched, book: Book
) -> None:
    year = START + timedelta(days=365)
    book.append(at=year)
    with pytest.raises(EntryAheadError, match="move its database away") as refused:
        world.mirror.door(A).add([book.update(0)])
    assert "2027-11-22T20:00:00Z" in refused.value.text.en
    assert "2026-11-22T20:00:00Z" in refused.value.text.zh
    # Its clock was set, its database moved away: nothing that it signed before is in the way.
    book.leaves.clear()
    book.append(at=START + timedelta(seconds=120))
    world.add(A, book.update(0))


def test_a_regulator_whose_clock_is_behind_takes_the_same_once_it_is_set(
    world: Watched, book: Book
) -> None:
    update = book.fill(3).update(0)
    world.time.on(-3600)
    with pytest.raises(EntryAheadError, match="if the regulator's is, set that"):
        world.mirror.door(A).add([update])
    world.time.on(3600)
    world.add(A, update)


def test_one_log_twice_in_a_message_is_refused(world: Watched, book: Book) -> None:
    book.fill(4)
    with pytest.raises(UnknownLogError, match="one log twice"):
        world.mirror.door(A).add([book.update(0, 2), book.update(2)])


def test_a_size_that_differs_is_answered_with_the_known_one(world: Watched, book: Book) -> None:
    book.fill(6)
    world.add(A, book.update(0, 4))
    with pytest.raises(SizeDiffersError, match="holds 4 entries") as refused:
        world.add(A, book.update(3))
    assert "持有" in refused.value.text.zh


def test_too_much_in_one_message_is_refused_before_it_is_read(
    world: Watched, book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    junk = LogUpdate(book.origin, 0, (b"",) * (witness_rules.MOST_ENTRIES + 1), (), "")
    with pytest.raises(TooLargeError, match="in portions"):
        world.mirror.door(A).add([junk])
    monkeypatch.setattr(witness_rules, "MOST_BYTES", 1000)
    with pytest.raises(TooLargeError, match="in portions"):
        world.mirror.door(A).add([book.fill(10).update(0)])


def test_the_proof_of_a_fork_is_kept_and_refusals_are_counted(world: Watched, book: Book) -> None:
    book.fill(5)
    world.add(A, book.update(0))
    fork = forged(book, 5, _changed_leaf(book).root(), 5)
    for update in (fork, book.update(3, 4), fork):
        world.time.on(60)
        with pytest.raises(WitnessRefusedError):
            world.mirror.door(A).add([update])
    with pytest.raises(UnknownLogError):
        world.mirror.door(A).add([replace(fork, origin="x")])
    found = {refused.code: refused for refused in world.mirror.refusals()}
    assert set(found) == {"witness-fork", "witness-size-differs", "witness-unknown-log"}
    forks = found["witness-fork"]
    assert (forks.count, forks.note) == (2, fork.checkpoint)
    assert (forks.first, forks.newest) == ("2026-11-22T20:01:00Z", "2026-11-22T20:03:00Z")
    # A smaller tree that is a beginning of what is held accuses nobody: a message may come late.
    assert found["witness-size-differs"].note == found["witness-unknown-log"].note == ""


def test_a_role_that_keeps_no_ledger_may_not_add(world: Watched, book: Book) -> None:
    with pytest.raises(UnknownLogError):
        world.mirror.door("regulator").add([book.fill(1).update(0)])
    assert world.mirror.door("regulator").standing() == ()


def test_a_bank_adds_to_its_own_logs_and_to_no_node_of_its_name(world: Watched) -> None:
    bank = world.release["bank-a"].fill(2)
    world.add("bank-a", bank.update(0))
    with pytest.raises(UnknownLogError):
        world.mirror.door("bank-a").add([replace(bank.update(2), origin="hejin/hebei/node/bank-a")])


def test_a_revoked_or_unknown_member_finds_the_door_closed(world: Watched, book: Book) -> None:
    door = world.mirror.door(A)
    door.add([book.fill(1).update(0)])
    world.office.revoke(A, now())
    with pytest.raises(NotAMemberError):
        door.add([book.fill(1).update(1)])
    with pytest.raises(NotAMemberError):
        world.mirror.door("nobody").standing()
    # What it logged before stays.
    assert len(stored(world.mirror, book.origin)) == 1
    check_newest(world.mirror)


def test_a_member_gets_its_own_entries_back_in_portions(
    world: Watched, book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.add(A, book.fill(25).update(0))
    door = world.mirror.door(A)
    assert list(door.entries(book.origin, 3)) == book.leaves[3:]
    for start in (25, 26, 2**64 - 1):
        assert door.entries(book.origin, start) == ()
    monkeypatch.setattr("hejin_trust.mirroring.MOST_ENTRIES", 4)
    assert list(door.entries(book.origin, 3)) == book.leaves[3:7]
    monkeypatch.setattr("hejin_trust.mirroring.MOST_BYTES", 3 * len(book.leaves[0]) - 1)
    assert list(door.entries(book.origin, 0)) == book.leaves[:2]
    with pytest.raises(UnknownLogError):
        world.mirror.door("node-b").entries(book.origin, 0)


def test_a_clock_that_went_back_a_little_repeats_the_last_time(world: Watched, book: Book) -> None:
    world.time.on(600)
    world.add(A, book.fill(1).update(0))
    last = world.time.now
    world.time.on(-120)
    (head,) = world.add(A, book.fill(1).update(1))
    (again,) = world.add("node-b", world.release["node-b"].update(0))
    assert head.time == again.time == last


def test_a_clock_that_went_back_far_stops_the_witness_and_names_whose_it_is(
    world: Watched, book: Book
) -> None:
    world.time.on(600)
    world.add(A, book.fill(1).update(0))
    world.time.on(-121)
    with pytest.raises(WitnessClockError, match="the regulator's operator must set") as refused:
        world.add(A, book.fill(1).update(1))
    assert refused.value.code == "witness-clock"
    assert "监管方" in refused.value.text.zh
    assert len(stored(world.mirror, book.origin)) == 1
    world.time.on(200)
    world.add(A, book.update(1))


@dataclass
class Hourglass:
    """Seconds that pass whatever a clock is set to."""

    seconds: float = 7.0

    def __call__(self) -> float:
        return self.seconds


def test_a_clock_that_is_set_a_year_ahead_for_a_moment_is_not_followed(
    world: Watched, book: Book
) -> None:
    passed, update = Hourglass(), book.fill(1).update(0)
    with open_mirror(world.office, world.time, passed) as mirror:
        world.time.on(365 * 86400)
        for _ in range(2):
            with pytest.raises(WitnessClockError, match="31536000 s ahead") as refused:
                mirror.door(A).add([update])
            assert "拨快" in refused.value.text.zh
            passed.seconds += 60.0
            world.time.on(60)
        world.time.on(-365 * 86400)
        (line,) = mirror.door(A).add([update])
        assert world.opened(update, line).time == world.time.now


def test_a_clock_that_was_set_back_and_right_again_is_followed(world: Watched, book: Book) -> None:
    update = book.fill(1).update(0)
    with open_mirror(world.office, world.time, Hourglass()) as mirror:
        mirror.door(A).add([update])
        world.time.on(-3600)
        with pytest.raises(WitnessClockError, match="has cosigned at"):
            mirror.door(A).add([book.update(1)])
        world.time.on(3600)
        mirror.door(A).add([book.update(1)])


def test_a_clock_that_is_set_right_by_more_than_two_minutes_counts_from_the_next_start(
    world: Watched, book: Book
) -> None:
    passed, update = Hourglass(), book.fill(1).update(0)
    with open_mirror(world.office, world.time, passed) as mirror:
        mirror.door(A).add([update])
        for _ in range(10):
            # Time passes, and small corrections are followed.
            world.time.on(3720)
            passed.seconds += 3600.0
            mirror.door(A).add([book.update(1)])
        world.time.on(121)
        with pytest.raises(WitnessClockError, match="restart"):
            mirror.door(A).add([book.update(1)])
    with open_mirror(world.office, world.time, passed) as mirror:
        (line,) = mirror.door(A).add([book.update(1)])
    assert world.opened(book.update(1), line).time == world.time.now


def test_no_time_goes_back_over_a_restart_even_where_nothing_was_stored(
    world: Watched, book: Book
) -> None:
    world.add(A, book.fill(1).update(0))
    world.time.on(300)
    (shown,) = world.add(A, book.update(1))
    world.time.on(-60)
    with open_mirror(world.office, world.time) as again:
        (line,) = again.door(A).add([book.update(1)])
    after = world.opened(book.update(1), line)
    assert shown.time <= after.time <= shown.time + AHEAD


def test_a_full_disk_cosigns_nothing(world: Watched, book: Book) -> None:
    world.add(A, book.fill(1).update(0))

    def cap(mirror: LogMirror) -> None:
        with writing(mirror.engine) as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
            connection.exec_driver_sql(f"PRAGMA max_page_count={pages + 1}")

    cap(world.mirror)
    with pytest.raises(StorageError, match="disk is full"):
        world.add(A, book.fill(2000).update(1))
    assert len(stored(world.mirror, book.origin)) == 1
    assert [size for size, _ in heads(world.mirror, book.origin)] == [1]


def test_members_add_at_the_same_time_and_nothing_is_lost(world: Watched) -> None:
    def work(name: str) -> None:
        for book in (world.release[name], world.internal[name]):
            for _ in range(8):
                size = len(book.leaves)
                world.add(name, book.fill(3).update(size))

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(work, world.release))
    for book in (*world.release.values(), *world.internal.values()):
        assert stored(world.mirror, book.origin) == book.leaves
    assert check_whole(world.mirror, lambda _: None) == 6 * 24


def test_one_of_several_equal_messages_at_once_is_stored_and_who_waits_is_told(
    world: Watched, book: Book
) -> None:
    update = book.fill(400).update(0)

    def send(_: int) -> str:
        try:
            world.mirror.door(A).add([update])
        except (SizeDiffersError, NotNowError) as refused:
            return refused.code
        return "stored"

    with ThreadPoolExecutor(8) as pool:
        told = Counter(pool.map(send, range(8)))
    assert told["stored"] == 1
    assert told.keys() <= {"stored", "witness-size-differs", "witness-busy"}
    assert stored(world.mirror, book.origin) == book.leaves


def test_a_member_has_one_message_under_way_and_one_that_waits_and_others_have_theirs() -> None:
    fair, begun, over = FairUse(), threading.Semaphore(0), threading.Event()

    def work() -> None:
        with fair.turn(A):
            begun.release()
            over.wait(20.0)

    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(work) for _ in range(2)]
        assert begun.acquire(timeout=20.0)
        end = time.monotonic() + 20.0
        while fair._shares._held[A] < 2:
            assert time.monotonic() < end
        with pytest.raises(NotNowError, match="2 messages") as busy, fair.turn(A):
            pass
        assert busy.value.code == "witness-busy"
        assert busy.value.text.zh != busy.value.text.en
        with fair.turn("node-b"):
            pass
        over.set()
        for each in both:
            each.result(timeout=20.0)
    with fair.turn(A):
        pass


def test_entries_are_only_opened_where_they_lead_to_the_signed_root(
    world: Watched, book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(_: bytes) -> None:
        raise AssertionError("opened")

    book.fill(100)
    monkeypatch.setattr(witness_rules, "parse", opened)
    with pytest.raises(EntriesDifferError):
        world.mirror.door(A).add([forged(book, 100, bytes(32), 0, *book.leaves)])


def test_a_member_that_brings_too_much_within_an_hour_waits_and_others_do_not(
    world: Watched, book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    door, other = world.mirror.door(A), world.release["node-b"].fill(10)
    book.fill(20)
    monkeypatch.setattr(fair_use, "MOST_AN_HOUR", sum(len(raw) for raw in book.leaves[:10]))
    door.add([book.update(0, 10)])
    with pytest.raises(AllowanceError, match="within an hour") as refused:
        door.add([book.update(10, 11)])
    assert refused.value.code == "witness-allowance"
    assert "上限" in refused.value.text.zh
    # What is held already is cosigned all the same.
    door.add([book.update(10, 10)])
    world.mirror.door("node-b").add([other.update(0)])
    world.time.on(1800)
    door.add([book.update(10, 14)])
    with pytest.raises(AllowanceError):
        door.add([book.update(14, 20)])
    world.time.on(3600)
    door.add([book.update(14, 20)])


def test_what_could_not_be_stored_counts_for_nothing(
    world: Watched, book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise StorageError("The disk is full.", "磁盘已满。")

    book.fill(10)
    monkeypatch.setattr(fair_use, "MOST_AN_HOUR", sum(len(raw) for raw in book.leaves))
    with monkeypatch.context() as patch:
        patch.setattr(StoredLog, "extend", full)
        with pytest.raises(StorageError):
            world.mirror.door(A).add([book.update(0)])
    world.add(A, book.update(0))


DAMAGES = [
    pytest.param("DELETE FROM log_entry WHERE seq = 8", True, id="last-entry-gone"),
    pytest.param("DELETE FROM log_cosigned WHERE size = 9", True, id="last-head-gone"),
    pytest.param("UPDATE log_cosigned SET note = replace(note, 'a', 'b')", True, id="head"),
    pytest.param("UPDATE log_node SET hash = zeroblob(32) WHERE level = 3", True, id="node"),
    pytest.param("UPDATE log_entry SET raw = CAST(raw || 'x' AS BLOB)", False, id="entry"),
    pytest.param("UPDATE log_entry SET leaf = zeroblob(32) WHERE seq = 2", False, id="leaf"),
    pytest.param("UPDATE log_cosigned SET size = 4 WHERE size = 5", False, id="older-head"),
    pytest.param("UPDATE log_cosigned SET time = '2020' WHERE size = 9", True, id="time"),
]


@pytest.mark.parametrize(("damage", "at_start"), DAMAGES)
def test_a_damaged_mirror_is_found(world: Watched, book: Book, damage: str, at_start: bool) -> None:
    book.fill(9)
    world.add(A, book.update(0, 5))
    world.add(A, book.update(5))
    check_newest(world.mirror)
    seen: list[int] = []
    assert check_whole(world.mirror, seen.append) == 9
    with writing(world.mirror.engine) as connection:
        connection.execute(text(damage))
    if at_start:
        with pytest.raises(MirrorDamagedError, match="put back a backup"):
            check_newest(world.mirror)
    with pytest.raises((MirrorDamagedError, LogError, EntryError)):
        check_whole(world.mirror, lambda _: None)
