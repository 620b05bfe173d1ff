"""What a member is shown before it works: each look, and the refusal it would lead to."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from bent_mirror import BentMirror, is_level
from node_world import Clock, World, found_world
from sqlalchemy import delete, update

from hejin_node.home import NodeHome, open_home
from hejin_trust.certificates import expires
from hejin_trust.database import reading, writing
from hejin_trust.errors import RefusedError
from hejin_trust.preflight import DAYS_AHEAD, Look, preflight
from hejin_trust.stored_log import TABLES
from hejin_trust.witness import Witness

VOID = {"reservation": 0, "reason": "test"}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return found_world(tmp_path)


@pytest.fixture
def own(world: World) -> Clock:
    return Clock(world.clock())


@pytest.fixture
def home(world: World, own: Clock) -> Iterator[NodeHome]:
    with open_home(world.nodes["node-1"], own) as opened:
        yield opened


@pytest.fixture
def mirror(world: World) -> BentMirror:
    return BentMirror(world.mirror.door("node-1"))


def looks(home: NodeHome, mirror: BentMirror) -> dict[str, Look]:
    return {look.name: look for look in preflight(home, Witness(home, mirror))}


def codes(found: dict[str, Look]) -> dict[str, str]:
    return {name: look.code for name, look in found.items()}


def append(home: NodeHome) -> None:
    with writing(home.database) as connection:
        home.release_log.append(connection, "void", VOID)


def test_a_member_that_may_work_sees_four_looks_that_are_well(
    world: World, home: NodeHome, mirror: BentMirror
) -> None:
    found = looks(home, mirror)
    assert list(found) == ["certificate", "ledgers", "regulator", "clock"]
    assert all(look.ok and look.code == "" for look in found.values())
    assert "valid until" in found["certificate"].says.en
    assert "有效期至" in found["certificate"].says.zh
    assert found["clock"].says.en.startswith("+0 s to the regulator's, at most 110 s")
    assert "+0 秒" in found["clock"].says.zh
    assert is_level(world, home)


def test_what_is_new_is_mirrored_on_the_way(
    world: World, home: NodeHome, mirror: BentMirror
) -> None:
    append(home)
    looks(home, mirror)
    assert is_level(world, home)
    with reading(home.database) as connection:
        assert home.release_log.size(connection) == 2, "looking logs nothing"


@pytest.mark.parametrize(("seconds", "says"), [(60, "-60 s"), (-60, "+60 s"), (110, "-110 s")])
def test_the_offset_of_the_clock_is_shown(
    home: NodeHome, mirror: BentMirror, own: Clock, seconds: int, says: str
) -> None:
    own.turn(timedelta(seconds=seconds))
    clock = looks(home, mirror)["clock"]
    assert clock.ok
    assert clock.says.en.startswith(says)
    assert clock.says.zh.startswith(f"与监管方时钟相差 {says.replace(' s', '')} 秒")


@pytest.mark.parametrize(
    ("seconds", "en", "zh"),
    [(180, "180 s ahead of", "超前 180 秒"), (-3600, "3600 s behind", "落后 3600 秒")],
)
def test_a_clock_that_is_off_is_named_with_what_to_do(
    home: NodeHome, mirror: BentMirror, own: Clock, seconds: int, en: str, zh: str
) -> None:
    own.turn(timedelta(seconds=seconds))
    found = looks(home, mirror)
    if seconds > 0:  # set back, the certificate is not valid yet
        assert codes(found) == {
            "certificate": "", "ledgers": "", "regulator": "", "clock": "clock-off"
        }  # fmt: skip
    assert found["clock"].code == "clock-off"
    assert en in found["clock"].says.en
    assert "set this member's clock" in found["clock"].says.en
    assert zh in found["clock"].says.zh


def test_a_regulator_that_does_not_answer_tells_no_time(home: NodeHome, mirror: BentMirror) -> None:
    mirror.down = True
    found = looks(home, mirror)
    assert codes(found) == {"certificate": "", "ledgers": "", "regulator": "witness-unreachable"}


def test_a_regulator_that_refuses_says_why(
    home: NodeHome, mirror: BentMirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise RefusedError("its clock is wrong", "时钟有误")

    monkeypatch.setattr(BentMirror, "add", refuse)
    found = looks(home, mirror)
    assert codes(found) == {"certificate": "", "ledgers": "", "regulator": "witness-refused"}
    assert "its clock is wrong" in found["regulator"].says.en
    assert "时钟有误" in found["regulator"].says.zh


def test_another_history_at_the_regulator_is_shown(
    world: World, home: NodeHome, mirror: BentMirror
) -> None:
    append(home)
    looks(home, mirror)
    with writing(home.database) as connection:
        connection.execute(
            delete(TABLES.entry).where(
                TABLES.entry.c.origin == home.release_log.origin, TABLES.entry.c.seq == 1
            )
        )
        connection.execute(delete(TABLES.node))
        connection.execute(delete(TABLES.checkpoint).where(TABLES.checkpoint.c.size == 2))
    found = looks(home, mirror)
    assert codes(found) == {"certificate": "", "ledgers": "", "regulator": "frozen"}
    assert "recover" in found["regulator"].says.en


def test_a_damaged_ledger_is_shown_and_the_rest_is_looked_at_all_the_same(
    home: NodeHome, mirror: BentMirror
) -> None:
    append(home)
    with writing(home.database) as connection:
        connection.execute(
            update(TABLES.entry).where(TABLES.entry.c.seq == 1).values(leaf=b"\1" * 32)
        )
    found = looks(home, mirror)
    assert found["ledgers"].code == "log-damaged"
    assert found["certificate"].ok
    assert "regulator" in found


def test_a_member_that_its_charter_names_as_revoked_is_shown_so(
    world: World, home: NodeHome, mirror: BentMirror
) -> None:
    world.office.revoke("node-1", world.clock())
    home.charters.update(world.office.charters.signed())
    found = looks(home, mirror)
    assert found["certificate"].code == "not-a-member"
    assert found["regulator"].code == "witness-refused"


def test_a_certificate_that_ends_soon_is_well_and_asks_for_a_new_one(
    world: World, home: NodeHome, mirror: BentMirror, own: Clock
) -> None:
    end = expires(home.membership.certificate_pem)
    for clock in (own, world.clock):
        clock.turn(end - clock() - timedelta(days=DAYS_AHEAD))
    look = looks(home, mirror)["certificate"]
    assert look.ok
    assert "ask for a new one" not in look.says.en
    for clock in (own, world.clock):
        clock.turn(timedelta(seconds=1))
    look = looks(home, mirror)["certificate"]
    assert look.ok
    assert f"{DAYS_AHEAD - 1} days; ask for a new one" in look.says.en
    assert "请申请新证书" in look.says.zh
    for clock in (own, world.clock):
        clock.turn(timedelta(days=DAYS_AHEAD))
    look = looks(home, mirror)["certificate"]
    assert not look.ok
    assert look.code == "bad-certificate"
