"""A log is put back as the regulator approved it, or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from bent_mirror import BentMirror, is_level
from node_world import World, found_world
from recovery_world import approval, put_back_after, recovery
from witnessed_node import Node

from hejin_node.home import NodeHome, open_home
from hejin_trust.canonical import DocumentError, encode
from hejin_trust.channels import PeerUnreachable
from hejin_trust.database import reading, writing
from hejin_trust.entries import EntryError, parse
from hejin_trust.envelope import RECOVERY, EnvelopeError, seal
from hejin_trust.errors import HejinError
from hejin_trust.home import MemberHome
from hejin_trust.keys import SigningKey
from hejin_trust.mirroring import LogStanding
from hejin_trust.one_history import FrozenError
from hejin_trust.recovering import (
    Missing,
    RecoveryError,
    fetch_missing,
    log_recovery,
    put_back,
)
from hejin_trust.recovery import Recovery
from hejin_trust.witness import Witness

VOID = {"reservation": 0, "reason": "test"}
REFUSAL = {"request": "0" * 64, "code": "test", "peer": "bank-1"}


def append(home: MemberHome, release: int = 0, internal: int = 0) -> None:
    with writing(home.database) as connection:
        home.release_log.append_many(connection, [("void", VOID)] * release)
        home.internal_log.append_many(connection, [("refusal", REFUSAL)] * internal)


def sizes(home: MemberHome) -> tuple[int, int]:
    with reading(home.database) as connection:
        return home.release_log.size(connection), home.internal_log.size(connection)


def before(node: Node) -> None:
    append(node.home, 2, 1)


def after(node: Node) -> None:
    append(node.home, 3, 2)
    node.witness.refresh()


@pytest.fixture
def world(tmp_path: Path) -> World:
    found = found_world(tmp_path, nodes=2)
    put_back_after(found, tmp_path, before, after)
    return found


@pytest.fixture
def home(world: World) -> Iterator[NodeHome]:
    with open_home(world.nodes["node-1"], world.clock) as opened:
        yield opened


@pytest.fixture
def mirror(world: World) -> BentMirror:
    return BentMirror(world.mirror.door("node-1"))


def restore(home: MemberHome, missing: tuple[Missing, Missing]) -> None:
    with writing(home.database) as connection:
        for each in missing:
            put_back(connection, each)
            log_recovery(connection, each, "1" * 64, "its disk failed")


def test_what_a_backup_lacks_comes_back_from_the_mirror(
    world: World, home: NodeHome, mirror: BentMirror
) -> None:
    assert sizes(home) == (3, 2)
    with pytest.raises(FrozenError):
        Witness(home, mirror).start()
    missing = fetch_missing(home, mirror, recovery(world))
    assert [each.size for each in missing] == [3, 2]
    assert [len(each.entries) for each in missing] == [3, 2]
    restore(home, missing)
    assert sizes(home) == (7, 5)
    home.verify_logs()
    with reading(home.database) as connection:
        for log, size in ((home.release_log, 3), (home.internal_log, 2)):
            last = parse(list(log.entries(connection))[-1])
            assert last.type == "recover"
            assert last.body == {"approval": "1" * 64, "reason": "its disk failed", "size": size}
    Witness(home, mirror).start()
    assert is_level(world, home)


def test_a_log_that_lacks_nothing_still_says_that_it_was_recovered(
    tmp_path: Path,
) -> None:
    world = found_world(tmp_path)

    def only_internal(node: Node) -> None:
        append(node.home, 0, 2)
        node.witness.refresh()

    put_back_after(world, tmp_path, before, only_internal)
    with open_home(world.nodes["node-1"], world.clock) as home:
        missing = fetch_missing(home, world.mirror.door("node-1"), recovery(world))
        assert [len(each.entries) for each in missing] == [0, 2]
        restore(home, missing)
        assert sizes(home) == (4, 5)
        world.witness(home)


def test_long_logs_come_back_in_portions(world: World, home: NodeHome, mirror: BentMirror) -> None:
    asked: list[int] = []

    def two_at_most(leaves: tuple[bytes, ...]) -> tuple[bytes, ...]:
        asked.append(parse(leaves[0]).seq)
        return leaves[:2]

    portions = Lying(mirror, lie=two_at_most)
    restore(home, fetch_missing(home, portions, recovery(world)))
    assert asked == [3, 5, 2]
    Witness(home, mirror).start()


# -- approvals that are none --------------------------------------------------------------


@pytest.mark.parametrize("other", ["member", "consortium"])
def test_an_approval_of_somebody_else_is_refused(
    world: World, home: NodeHome, mirror: BentMirror, other: str
) -> None:
    changes = {"member": "node-2"} if other == "member" else {"consortium": "another"}
    with pytest.raises(RecoveryError, match="the approval is for") as told:
        fetch_missing(home, mirror, recovery(world, **changes))
    assert told.value.code == "recovery-refused"
    assert "请向监管方索取" in told.value.text.zh


def shorter(true: Recovery) -> Any:
    first, *rest = true.logs
    return (replace(first, size=first.size - 1), *rest)


@pytest.mark.parametrize(
    "change",
    [
        shorter,
        lambda true: true.logs[:1],
        lambda true: (),
        lambda true: (true.logs[0], replace(true.logs[1], root=b"\1" * 32)),
        lambda true: (*true.logs, LogStanding("hejin/test/node/node-2", 1, b"\1" * 32)),
    ],
    ids=["of before", "of one log", "of none", "another root", "of one log more"],
)
def test_an_approval_of_other_logs_than_the_mirror_holds_is_refused(
    world: World, home: NodeHome, mirror: BentMirror, change: Any
) -> None:
    changed = recovery(world, logs=change(recovery(world)))
    with pytest.raises(RecoveryError, match="ask it for a new approval"):
        fetch_missing(home, mirror, changed)


def test_an_approval_is_used_up_by_the_recovery_it_approved(
    world: World, home: NodeHome, mirror: BentMirror
) -> None:
    approved = recovery(world)
    restore(home, fetch_missing(home, mirror, approved))
    with pytest.raises(RecoveryError, match="start `serve`"):
        fetch_missing(home, mirror, approved)
    Witness(home, mirror).start()
    with pytest.raises(RecoveryError, match="ask it for a new approval"):
        fetch_missing(home, mirror, approved)


def test_a_log_that_lacks_nothing_is_not_recovered(world: World) -> None:
    with open_home(world.nodes["node-2"], world.clock) as home:
        world.witness(home)
        append(home, 1)
        with pytest.raises(RecoveryError, match="nothing is missing"):
            fetch_missing(home, world.mirror.door("node-2"), recovery(world, "node-2"))


@pytest.mark.parametrize(
    ("release", "internal", "which"),
    [(3, 0, "node-1 differs"), (4, 0, "node-1 differs"), (0, 2, "internal differs")],
    ids=["as long as the mirror's", "longer", "the internal log alone"],
)
def test_a_log_that_went_on_by_itself_as_far_as_the_mirrors_is_a_fork(
    world: World, home: NodeHome, mirror: BentMirror, release: int, internal: int, which: str
) -> None:
    append(home, release, internal)
    with pytest.raises(FrozenError, match="restore the backup anew") as told:
        fetch_missing(home, mirror, recovery(world))
    assert which in told.value.text.en


def test_logs_that_both_forked_at_the_mirrors_size_do_not_lack_nothing(
    world: World, home: NodeHome, mirror: BentMirror
) -> None:
    append(home, 3, 2)
    with pytest.raises(FrozenError, match="forked"):
        fetch_missing(home, mirror, recovery(world))


@pytest.mark.parametrize(("release", "internal"), [(1, 0), (0, 1)])
def test_a_log_that_went_on_by_itself_and_is_shorter_cannot_be_put_back(
    world: World, home: NodeHome, mirror: BentMirror, release: int, internal: int
) -> None:
    append(home, release, internal)
    was = sizes(home)
    missing = fetch_missing(home, mirror, recovery(world))
    with pytest.raises(RecoveryError, match="went on by itself") as told:
        restore(home, missing)
    assert "restore the backup anew" in told.value.text.en
    assert "run `recover` first" in told.value.text.en
    assert "首先执行 `recover`" in told.value.text.zh
    assert sizes(home) == was


# -- mirrors that are not to be trusted ---------------------------------------------------


@dataclass
class Lying(BentMirror):
    """Gives other entries than it holds."""

    lie: Any = None

    def entries(self, origin: str, start: int) -> tuple[bytes, ...]:
        given: tuple[bytes, ...] = self.lie(super().entries(origin, start))
        return given


def one_more(leaves: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """The true entries, and one that nobody approved."""
    last = parse(leaves[-1])
    return (*leaves, last.raw.replace(b'"seq":%d' % last.seq, b'"seq":%d' % (last.seq + 1)))


def one_altered(leaves: tuple[bytes, ...]) -> tuple[bytes, ...]:
    first = leaves[0].replace(b'"test"', b'"tset"')
    assert first != leaves[0]
    return (first, *leaves[1:])


@pytest.mark.parametrize(
    "lie",
    [
        one_more,
        one_altered,
        lambda leaves: leaves[::-1],
        lambda leaves: (leaves[0], *leaves),
        lambda leaves: leaves[1:],
    ],
    ids=["one more", "one altered", "another order", "one twice", "one left out"],
)
def test_entries_that_the_regulator_did_not_approve_are_not_put_back(
    world: World, home: NodeHome, lie: Any
) -> None:
    lying = Lying(world.mirror.door("node-1"), lie=lie)
    was = sizes(home)
    with pytest.raises(RecoveryError):
        restore(home, fetch_missing(home, lying, recovery(world)))
    assert sizes(home) == was


def test_a_mirror_that_gives_too_few_entries_is_named(world: World, home: NodeHome) -> None:
    lying = Lying(world.mirror.door("node-1"), lie=lambda _: ())
    with pytest.raises(RecoveryError, match="the mirror gave 3 of 6 entries"):
        fetch_missing(home, lying, recovery(world))


def test_entries_that_do_not_parse_are_refused(world: World, home: NodeHome) -> None:
    lying = Lying(world.mirror.door("node-1"), lie=lambda leaves: (b"{}", *leaves[1:]))
    with pytest.raises(EntryError):
        fetch_missing(home, lying, recovery(world))


def test_a_regulator_that_does_not_answer_recovers_nobody(
    world: World, home: NodeHome, mirror: BentMirror
) -> None:
    mirror.down = True
    with pytest.raises(PeerUnreachable):
        fetch_missing(home, mirror, recovery(world))


# -- the document -------------------------------------------------------------------------


def test_an_approval_is_read_as_it_was_signed(world: World) -> None:
    charter, true = world.office.charter, recovery(world)
    read = Recovery.parse(approval(world), charter)
    assert read == true
    assert len(read.digest) == 64
    nothing = recovery(world, logs=(LogStanding("hejin/test/node/node-1", 0, b""),))
    sealed = nothing.seal(world.office.identity, charter.regulator.id)
    assert Recovery.parse(sealed, charter) == nothing


@pytest.mark.parametrize("signer", ["another key", "its log key", "a member"])
def test_an_approval_that_the_regulators_identity_key_did_not_sign_is_refused(
    world: World, signer: str
) -> None:
    key = {
        "another key": SigningKey.generate(),
        "its log key": SigningKey.load(world.office.home / "keys" / "log.key"),
        "a member": world.bank.identity,
    }[signer]
    with pytest.raises(EnvelopeError):
        Recovery.parse(approval(world, key=key), world.office.charter)


def bodies(world: World) -> dict[str, dict[str, Any]]:
    true: dict[str, Any] = {
        "v": 1,
        "consortium": "test",
        "member": "node-1",
        "reason": "its disk failed",
        "issued": "2026-01-01T00:00:00Z",
        "logs": [{"origin": "a", "size": 1, "root": "1" * 64}],
    }
    return {
        "version": {**true, "v": 2},
        "field more": {**true, "why": "x"},
        "field less": {k: v for k, v in true.items() if k != "member"},
        "no time": {**true, "issued": "yesterday"},
        "size below 0": {**true, "logs": [{"origin": "a", "size": -1, "root": "1" * 64}]},
        "short root": {**true, "logs": [{"origin": "a", "size": 1, "root": "1" * 62}]},
        "log not an object": {**true, "logs": [1]},
        "long reason": {**true, "reason": "x" * 4097},
        "long member": {**true, "member": "x" * 64},
    }


@pytest.mark.parametrize(
    "which",
    [
        "version", "field more", "field less", "no time", "size below 0", "short root",
        "log not an object", "long reason", "long member",
    ],
)  # fmt: skip
def test_an_approval_of_another_form_is_refused(world: World, which: str) -> None:
    office = world.office
    sealed = seal(RECOVERY, bodies(world)[which], office.identity, office.charter.regulator.id)
    with pytest.raises(DocumentError):
        Recovery.parse(sealed, office.charter)


def test_a_document_of_another_type_is_no_approval(world: World) -> None:
    office = world.office
    body = dict(bodies(world)["version"], v=1)
    sealed = seal("hejin/plan/v1", body, office.identity, office.charter.regulator.id)
    for data in (sealed, b"", b"{}", encode(body), b"\0" * 100):
        with pytest.raises(HejinError):
            Recovery.parse(data, office.charter)
