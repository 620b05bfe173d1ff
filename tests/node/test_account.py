"""The account's sums are exact, whatever was charged and in whatever order."""

from __future__ import annotations

import random
import shutil
from collections import defaultdict
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest
from sqlalchemy import Engine

from hejin_node import account
from hejin_node.account import Reservation, ReservationEndedError
from hejin_node.home import MIGRATIONS
from hejin_trust.database import open_database, reading, writing


@pytest.fixture
def database(tmp_path: Path, empty_database: Path) -> Iterator[Engine]:
    shutil.copy(empty_database, tmp_path / "node.db")
    engine = open_database(tmp_path / "node.db", MIGRATIONS)
    yield engine
    engine.dispose()


def reservation(seq: int, **changes: object) -> Reservation:
    values: dict[str, object] = {
        "seq": seq, "run": f"{seq:032x}", "round": 1, "bank": "bank-1", "plan": "0" * 64,
        "part": "train", "period": "2026-01-01T00:00:00Z", "query": "1" * 64,
        "round_ctx": "2" * 64, "cost": Fraction(1, 7), "charge": Fraction(1, 7),
        "cost_alone": Fraction(1, 5), "charge_alone": Fraction(1, 5), "state": "reserved",
        "header_digest": None, "vector_digest": None, "header": None, "vector": None,
        "ciphertexts": None, "receipt": None, **changes,
    }  # fmt: skip
    return Reservation(**values)  # type: ignore[arg-type]


def put(database: Engine, *reservations: Reservation) -> None:
    with writing(database) as connection:
        for each in reservations:
            account.restore(connection, each)


@pytest.mark.parametrize("seed", range(5))
def test_what_was_spent_is_the_sum_of_all_charges_to_the_last_digit(
    database: Engine, seed: int
) -> None:
    draw = random.Random(seed)
    prices = [Fraction(draw.randrange(1, 10**6), draw.randrange(1, 10**9)) for _ in range(7)]
    made = [
        reservation(
            seq,
            bank=draw.choice(("bank-1", "bank-2")),
            period=draw.choice(("2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z")),
            charge=draw.choice([*prices, Fraction(0), Fraction(2)]),
            charge_alone=draw.choice(prices),
            state=draw.choice(("reserved", "released", "void", "lost")),
        )
        for seq in range(200)
    ]
    put(database, *made)
    slow: defaultdict[tuple[str, str], Fraction] = defaultdict(Fraction)
    for each in made:
        slow[each.period, each.bank] += each.charge
    with reading(database) as connection:
        for period in ("2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z", "2028-01-01T00:00:00Z"):
            banks = [slow[period, bank] for bank in ("bank-1", "bank-2")]
            assert account.spent(connection, period, bank="bank-1") == banks[0]
            assert account.spent(connection, period, bank="bank-2") == banks[1]
            assert account.spent(connection, period) == sum(banks)
            assert account.alone_spent(connection, period) == sum(
                each.charge_alone for each in made if each.period == period
            )


def test_a_reservation_ends_once(database: Engine) -> None:
    put(database, reservation(1), reservation(2, state="lost"))
    with writing(database) as connection:
        account.mark_void(connection, 1)
    sent = {"header_digest": "3" * 64, "header": b"h", "vector": b"v", "ciphertexts": b""}
    for end in (
        lambda c: account.mark_void(c, 1),
        lambda c: account.mark_released(c, 1, **sent),
        lambda c: account.end_lost(c, 1, b"receipt"),
        lambda c: account.restore_end(c, 1, "released"),
        # Only the bank's word, or the log, ends what was lost.
        lambda c: account.mark_void(c, 2),
        lambda c: account.mark_released(c, 2, **sent),
        lambda c: account.mark_void(c, 3),
    ):
        with pytest.raises(ReservationEndedError, match="nothing leaves"), writing(database) as c:
            end(c)
    with reading(database) as connection:
        states = {each.seq: each.state for each in account._load(connection)}
    assert states == {1: "void", 2: "lost"}


def test_the_log_may_end_what_an_earlier_recovery_had_left_open(database: Engine) -> None:
    """A backup from between a recovery and the bank's word is put back a second time."""
    put(database, reservation(1, state="lost"))
    with writing(database) as connection:
        account.restore_end(
            connection, 1, "released", header_digest="3" * 64, vector_digest="4" * 64
        )
    with reading(database) as connection:
        (found,) = account._load(connection)
    assert (found.state, found.header_digest, found.vector) == ("released", "3" * 64, None)


def test_a_bank_owes_its_word_for_what_was_released_and_for_what_was_lost(
    database: Engine,
) -> None:
    states = ("reserved", "released", "void", "lost")
    put(database, *(reservation(n, state=state) for n, state in enumerate(states)))
    put(database, reservation(9, state="released", receipt=b"given"))
    put(database, reservation(10, state="released", bank="bank-2"))
    with reading(database) as connection:
        owed = [each.seq for each in account.without_receipt(connection, "bank-1")]
        waiting = [each.seq for each in account.unfinished(connection)]
    assert (owed, waiting) == ([1, 3], [0])
