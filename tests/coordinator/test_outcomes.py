"""The bank's outcomes: what is taken from a file, how it lies on the disk, what is refused."""

from __future__ import annotations

import json
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from label_world import DEFINITION, settle_bank
from node_world import BANK, World, found_world
from typer.testing import CliRunner

from hejin_coordinator.cli import app
from hejin_coordinator.errors import OutcomesError
from hejin_coordinator.home import CoordinatorHome, open_home
from hejin_coordinator.outcomes import (
    KEY_FILE,
    books,
    definition_of,
    find_book,
    import_outcomes,
    open_book,
)
from hejin_models.errors import DefinitionError
from hejin_models.uscc import make_code
from hejin_trust.database import reading
from hejin_trust.keys import KeyFileError

A, B, C = (make_code(n) for n in range(3))


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = found_world(tmp_path)
    settle_bank(world, outcomes_declared=4)
    return world


@pytest.fixture
def bank(world: World) -> Iterator[CoordinatorHome]:
    with open_home(world.folder / BANK, world.clock) as home:
        yield home


def taken(bank: CoordinatorHome, text: str | bytes, period: str = "2025", **told: object) -> dict:
    """Import a file and return what the book holds then."""
    path = bank.path / "outcomes.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    definition, _ = definition_of(bank, DEFINITION)
    import_outcomes(bank, path, definition, period, **told)  # type: ignore[arg-type]
    return held(bank, period)


def held(bank: CoordinatorHome, period: str = "2025") -> dict[str, int]:
    with reading(bank.database) as connection:
        book = find_book(connection, DEFINITION, period)
        return {} if book is None else open_book(bank, connection, book)


def test_labels_are_taken_as_they_are_and_days_by_the_definition(bank: CoordinatorHome) -> None:
    assert taken(bank, f"enterprise,label\n{A},1\n {B} , 0 \n") == {A: 1, B: 0}
    days = f"days_overdue,enterprise,name\n90,{A},x\n89,{B},y\n0,{C},z\n"
    assert taken(bank, days) == {A: 1, B: 0, C: 0}


def test_a_book_is_replaced_as_a_whole_and_other_periods_stay(bank: CoordinatorHome) -> None:
    taken(bank, f"enterprise,label\n{A},1\n{B},0\n")
    taken(bank, f"enterprise,label\n{C},1\n", period="2024")
    assert taken(bank, f"enterprise,label\n{A},0\n") == {A: 0}
    assert held(bank, "2024") == {C: 1}
    with reading(bank.database) as connection:
        assert [(book.period, book.outcomes) for book in books(connection)] == [
            ("2024", 1), ("2025", 1),
        ]  # fmt: skip


def test_gb18030_and_a_byte_order_mark_are_read(bank: CoordinatorHome) -> None:
    text = f"enterprise,label,名称\n{A},1,安平丝网\n"
    assert taken(bank, text.encode("gb18030"), encoding="gb18030") == {A: 1}
    assert taken(bank, text.replace(",1,", ",0,").encode("utf-8-sig")) == {A: 0}


def test_the_same_outcome_twice_is_one(bank: CoordinatorHome) -> None:
    assert taken(bank, f"enterprise,label\n{A},1\n{A},1\n") == {A: 1}


@settings(deadline=None, max_examples=30,
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
@given(st.dictionaries(st.integers(0, 99).map(make_code), st.integers(0, 400), max_size=4))
def test_what_is_imported_is_what_opens(bank: CoordinatorHome, days: dict[str, int]) -> None:
    text = "enterprise,days_overdue\n" + "".join(f"{code},{n}\n" for code, n in days.items())
    assert taken(bank, text) == {code: int(n >= 90) for code, n in days.items()}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("enterprise,label\n{A},2\n", "label.range 1"),
        ("enterprise,label\n{A},\n", "label.type 1"),
        ("enterprise,label\n{A},1.0\n", "label.type 1"),
        ("enterprise,label\n{A}\n", "label.type 1"),
        ("enterprise,days_overdue\n{A},-1\n", "days_overdue.type 1"),
        ("enterprise,days_overdue\n{A},1234567\n", "days_overdue.type 1"),
        ("enterprise,label\n91999999000000000,1\n{A},1\n", "enterprise.code 1"),
        ("enterprise,label\n{A},1\n{B},0\n{A},0\n", "label.conflict 1"),
        ("enterprise,label\nx,1\n{A},9\ny,0\n", "enterprise.code 2, label.range 1"),
        ("enterprise,label,days_overdue\n{A},1,9\n", "either `label` or"),
        ("enterprise,default\n{A},1\n", "either `label` or"),
        ("code,label\n{A},1\n", "`enterprise`"),
        ("enterprise,label,label\n{A},1,1\n", "each name once"),
        ("", "`enterprise`"),
        ('enterprise,label\n"{A},1\n', "not a CSV file"),
    ],
)
def test_a_file_with_one_bad_row_changes_nothing_and_quotes_no_value(
    bank: CoordinatorHome, text: str, told: str
) -> None:
    taken(bank, f"enterprise,label\n{C},1\n")
    with pytest.raises(OutcomesError) as refused:
        taken(bank, text.format(A=A, B=B))
    assert refused.value.code == "outcomes-refused"
    assert told in refused.value.text.en
    assert A not in refused.value.text.en + refused.value.text.zh
    assert held(bank) == {C: 1}


def test_a_file_of_another_encoding_more_than_declared_or_none_is_refused(
    bank: CoordinatorHome,
) -> None:
    with pytest.raises(OutcomesError, match="not a CSV file in utf-8"):
        taken(bank, "enterprise,label,名\n".encode("gb18030"))
    many = "".join(f"{make_code(n)},0\n" for n in range(5))
    with pytest.raises(OutcomesError, match="5 outcomes, 4 are declared"):
        taken(bank, f"enterprise,label\n{many}")
    definition, _ = definition_of(bank, DEFINITION)
    with pytest.raises(OutcomesError, match="cannot be read"):
        import_outcomes(bank, bank.path / "nothing.csv", definition, "2025")
    for period in ("x" * 65, "a\nb", " 2025"):
        with pytest.raises(OutcomesError, match="A period is"):
            taken(bank, f"enterprise,label\n{A},1\n", period=period)
    assert held(bank) == {}


def test_a_file_that_is_too_long_is_not_read(bank: CoordinatorHome) -> None:
    path = bank.path / "outcomes.csv"
    with path.open("wb") as file:
        file.truncate((64 << 20) + 1)
    definition, _ = definition_of(bank, DEFINITION)
    with pytest.raises(OutcomesError, match="at most 67108864 are read"):
        import_outcomes(bank, path, definition, "2025")


def test_no_code_lies_readable_in_the_database_and_the_key_is_the_owner_s_alone(
    bank: CoordinatorHome,
) -> None:
    taken(bank, f"enterprise,label\n{A},1\n{B},0\n")
    key = bank.path / "keys" / KEY_FILE
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    bank.database.dispose()
    for file in bank.path.glob("coordinator.db*"):
        assert A.encode() not in file.read_bytes()
        assert key.read_bytes() not in file.read_bytes()


def test_another_key_or_a_book_moved_to_another_period_does_not_open(
    bank: CoordinatorHome,
) -> None:
    taken(bank, f"enterprise,label\n{A},1\n")
    with closing(sqlite3.connect(bank.path / "coordinator.db")) as database, database:
        database.execute("UPDATE outcome_book SET period = '2024'")
    with pytest.raises(OutcomesError, match="do not open"):
        held(bank, "2024")
    with closing(sqlite3.connect(bank.path / "coordinator.db")) as database, database:
        database.execute("UPDATE outcome_book SET period = '2025'")
    assert held(bank) == {A: 1}
    key = bank.path / "keys" / KEY_FILE
    key.write_bytes(bytes(32))
    with pytest.raises(OutcomesError, match=f"do not open with keys/{KEY_FILE}"):
        held(bank)
    key.unlink()
    with pytest.raises(KeyFileError):
        held(bank)


def test_a_definition_may_not_change_once_outcomes_were_imported_by_it(
    bank: CoordinatorHome,
) -> None:
    folder = bank.definitions_folder
    folder.mkdir()
    own = folder / "overdue30-6m-v1.toml"
    text = (
        'name = "overdue30-6m"\nversion = 1\ndays_overdue = 30\nwindow_months = 6\n'
        '[text]\nen = "30 days"\nzh = "30天"\n'
    )
    own.write_text(text)
    definition, _ = definition_of(bank, "overdue30-6m-v1")
    path = bank.path / "own.csv"
    path.write_text(f"enterprise,days_overdue\n{A},30\n")
    assert import_outcomes(bank, path, definition, "").bad == 1
    own.write_text(text.replace("= 30\n", "= 31\n"))
    with pytest.raises(DefinitionError, match="has changed since"):
        definition_of(bank, "overdue30-6m-v1")


def hejin(world: World, *words: str) -> Result:
    return CliRunner().invoke(app, [*words, "--home", str(world.folder / BANK)])


def test_the_commands_import_and_list_without_showing_an_outcome(
    world: World, tmp_path: Path
) -> None:
    file = tmp_path / "outcomes.csv"
    file.write_text(f"enterprise,days_overdue\n{A},120\n{B},3\n")
    told = ("outcomes", "import", str(file), "--definition", DEFINITION, "--period", "2025")
    made = json.loads(hejin(world, *told, "--json").output)
    assert (made["outcomes"], made["bad"], made["already"]) == (2, 1, False)
    assert json.loads(hejin(world, *told, "--json").output)["already"] is True
    assert "2 outcomes, 1 of them bad" in hejin(world, *told[:-1], "2024").output
    listed = json.loads(hejin(world, "outcomes", "list", "--json").output)
    assert listed["declared"] == 4
    assert [book["period"] for book in listed["books"]] == ["2024", "2025"]
    shown = hejin(world, "outcomes", "list").output
    assert DEFINITION in shown
    assert A not in shown
    assert hejin(world, *told, "--encoding", "latin-1").exit_code == 2


def test_a_bad_row_fails_the_command_with_one_sentence(world: World, tmp_path: Path) -> None:
    file = tmp_path / "outcomes.csv"
    file.write_text(f"enterprise,label\n{A},5\n")
    failed = hejin(world, "outcomes", "import", str(file), "--definition", DEFINITION)
    assert isinstance(failed.exception, OutcomesError)
    assert failed.exception.exit_code == 1
