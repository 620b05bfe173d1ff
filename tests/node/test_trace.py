"""Trace and statement: every reason, every cost, and what an enterprise is handed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from fractions import Fraction
from pathlib import Path

import pytest
from commands import answer, run
from node_world import BANK, World, approved, fill, found_world, new_session, terms
from sqlalchemy import delete

from hejin_models.uscc import make_code
from hejin_node import usage
from hejin_node.consent import authorisations, grant, revoke
from hejin_node.erasing import erase
from hejin_node.home import NodeHome, open_home
from hejin_node.statement import render_statement, statement_of
from hejin_node.trace import RunLine, Trace, read_trace
from hejin_privacy.accounting import epsilon
from hejin_privacy.holdout import in_holdout, split_key
from hejin_trust.at_rest import NotOpenedError
from hejin_trust.canonical import fraction
from hejin_trust.database import reading, writing
from hejin_trust.entries import parse
from hejin_trust.errors import HejinError

RUN = "ab" * 16
SUMS = [("histogram", "train"), ("histogram", "train"), ("histogram", "holdout")]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return found_world(tmp_path)


@pytest.fixture
def home(world: World) -> Iterator[NodeHome]:
    with open_home(world.nodes["node-1"], world.clock) as opened:
        yield opened


class Asked:
    """One plan, and its rounds as a test asks them."""

    def __init__(self, world: World, home: NodeHome, rho: Fraction = Fraction(1, 20)) -> None:
        self.world, self.home = world, home
        self.plan, self.digest = approved(home, world, sums=SUMS, rho=rho)
        self.session = new_session(home, world.receipts(home))
        self.named: tuple[bytes, str] = (b"", "")

    def round(self, number: int) -> None:
        result, named = self.named
        got = self.session.answer(
            self.world.query(
                self.plan, self.digest, run=RUN, number=number, index=number - 1,
                previous=named, result=result,
            )
        )  # fmt: skip
        assert got["kind"] == b"masked"
        self.named = self.world.result(got)

    def code(self, part: str = "train", nth: int = 0, count: int = 40) -> str:
        """Return an enterprise of a part."""
        codes = [make_code(n) for n in range(count)]
        held = in_holdout(codes, split_key(self.digest, self.home.charter.nonce), Fraction(1, 5))
        return [c for c, out in zip(codes, held, strict=True) if out == (part == "holdout")][nth]


def only_run(home: NodeHome, code: str) -> RunLine:
    (found,) = read_trace(home, code).runs
    return found


def codes_of(found: RunLine) -> list[str]:
    return [reason.code for reason in found.why]


def test_an_enterprise_pays_for_the_sums_of_its_own_part_and_no_others(
    world: World, home: NodeHome
) -> None:
    fill(home, world)
    asked = Asked(world, home)
    for number in (1, 2, 3):
        asked.round(number)
    with reading(home.database) as connection:
        reserves = [e for raw in home.release_log.entries(connection)
                    if (e := parse(raw)).type == "reserve"]  # fmt: skip
    for part in ("train", "holdout"):
        found = read_trace(home, asked.code(part))
        (line,) = found.runs
        own = [e for e in reserves if e.body["part"] == part]
        assert (line.part, line.grant is not None) == (part, True)
        assert [one.reservation for one in line.sums if one.counted] == [e.seq for e in own]
        (cost,) = found.costs
        spent = sum((fraction(e.body, "rho") for e in own), Fraction(0))
        assert (cost.rho, cost.sums, cost.period) == (spent, len(own), home.charter.period_from)
        told = statement_of(home, found).costs[0]
        assert 0 <= float(told.epsilon) - epsilon(spent, float(home.charter.delta)) <= 1e-4


def test_who_has_no_label_or_no_row_is_told_so(world: World, home: NodeHome) -> None:
    fill(home, world, 10)
    labelled, bare = make_code(50), make_code(51)
    labels = home.path / "more.csv"
    labels.write_text(f"enterprise,label\n{labelled},1\n")
    from hejin_node.labels import label_spec, load_labels

    load_labels(home.warehouse, home.internal_log, labels, label_spec(BANK, "bad-1"))
    with writing(home.database) as connection:
        for code in (labelled, bare):
            grant(connection, home.internal_log, home.pseudonym_key, code, terms(world))
    Asked(world, home).round(1)
    assert codes_of(only_run(home, labelled)) == ["no-row"]
    assert codes_of(only_run(home, bare)) == ["no-label"]
    assert codes_of(only_run(home, make_code(60))) == ["no-grant"]
    assert read_trace(home, bare).costs == ()


def test_a_grant_that_came_after_the_rows_were_taken_counts_for_the_next_run(
    world: World, home: NodeHome
) -> None:
    fill(home, world, 20, authorised=10)
    Asked(world, home).round(1)
    with writing(home.database) as connection:
        code = make_code(15)
        grant(connection, home.internal_log, home.pseudonym_key, code, terms(world))
    assert codes_of(only_run(home, code)) == ["no-grant"]


def test_a_later_revocation_is_told_with_its_time_and_the_models_stay(
    world: World, home: NodeHome
) -> None:
    fill(home, world)
    asked = Asked(world, home)
    asked.round(1)
    code = asked.code()
    world.clock.turn(timedelta(minutes=1))
    with writing(home.database) as connection:
        revoke(connection, home.internal_log, "asked to", code=code)
    asked.round(2)
    first, second = only_run(home, code).sums
    assert (first.counted, second.counted) == (True, False)
    assert second.why is not None
    with reading(home.database) as connection:
        (one,) = authorisations(connection, code=code)
    assert (second.why.code, second.why.since) == ("revoked", one.revoked_at)
    assert "继续有效" in page(home, code)


def test_another_grant_that_stands_goes_on_for_a_revoked_one(world: World, home: NodeHome) -> None:
    fill(home, world)
    asked = Asked(world, home)
    code = asked.code()
    key = home.pseudonym_key
    with writing(home.database) as connection:
        other = replace(terms(world), document="2" * 64)
        second = grant(connection, home.internal_log, key, code, other)
    asked.round(1)
    world.clock.turn(timedelta(minutes=1))
    with writing(home.database) as connection:
        revoke(connection, home.internal_log, "", seq=second)
    asked.round(2)
    found = only_run(home, code)
    assert found.grant == second
    assert [line.counted for line in found.sums] == [True, True]
    assert [line.grant for line in found.sums] == [second, min(grants_of(home, code))]


def grants_of(home: NodeHome, code: str) -> list[int]:
    return [line.authorisation.seq for line in read_trace(home, code).grants]


def test_an_authorisation_that_runs_out_amid_a_run_is_told(world: World, home: NodeHome) -> None:
    fill(home, world)
    asked = Asked(world, home)
    code = asked.code()
    with writing(home.database) as connection:
        revoke(connection, home.internal_log, "", code=code)
        short = replace(terms(world), valid_to=world.clock() + timedelta(seconds=60))
        grant(connection, home.internal_log, home.pseudonym_key, code, short)
    asked.round(1)
    world.clock.turn(timedelta(seconds=60))
    asked.round(2)
    first, second = only_run(home, code).sums
    assert first.counted
    assert second.why is not None
    assert second.why.code == "expired"
    assert codes_of(only_run(home, code)) == []


def test_an_enterprise_that_is_erased_amid_a_run_is_in_no_later_sum_and_told_why(
    world: World, home: NodeHome
) -> None:
    fill(home, world)
    asked = Asked(world, home)
    code = asked.code()
    asked.round(1)
    world.clock.turn(timedelta(minutes=1))
    erase(home, code, "asked to")
    asked.round(2)
    found = read_trace(home, code)
    first, second = found.runs[0].sums
    assert (first.counted, second.counted) == (True, False)
    assert second.why is not None
    assert (second.why.code, len(found.erased)) == ("erased", 1)
    assert all(line.counted for line in only_run(home, asked.code(nth=1)).sums)


def test_a_round_that_came_to_nothing_used_nothing(
    world: World, home: NodeHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hejin_node.session import Session

    fill(home, world)
    asked = Asked(world, home)
    with monkeypatch.context() as patched:
        patched.setattr(Session, "_compute", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            asked.round(1)
    (line,) = only_run(home, asked.code()).sums
    assert line.counted is False
    assert line.why is not None
    assert line.why.code == "nothing-left"
    assert line.released is None


def test_what_was_lost_with_a_database_is_told_as_unknown_and_not_as_unused(
    world: World, home: NodeHome
) -> None:
    fill(home, world)
    asked = Asked(world, home)
    asked.round(1)
    with writing(home.database) as connection:
        connection.execute(delete(usage.sum_use))
    found = read_trace(home, asked.code())
    assert [line.counted for line in found.runs[0].sums] == [None]
    assert statement_of(home, found).unknown == 1
    with writing(home.database) as connection:
        connection.execute(delete(usage.run_use))
    found = read_trace(home, asked.code())
    assert codes_of(found.runs[0]) == ["unknown"]
    assert statement_of(home, found).unknown == 1
    assert "无法查明" in page(home, asked.code())


def test_what_is_kept_of_a_run_names_nobody_in_clear_and_fits_no_other_run(
    world: World, home: NodeHome
) -> None:
    fill(home, world)
    Asked(world, home).round(1)
    with reading(home.database) as connection:
        row = connection.execute(usage.run_use.select()).one()
        assert usage.find_run(connection, home.snapshot_key, RUN) is not None
    with writing(home.database) as connection:
        moved = {"run": "cd" * 16, "taken": row.taken, "sealed": row.sealed}
        connection.execute(usage.run_use.insert().values(moved))
    with reading(home.database) as connection, pytest.raises(NotOpenedError):
        usage.find_run(connection, home.snapshot_key, "cd" * 16)


def page(home: NodeHome, code: str) -> str:
    return render_statement(statement_of(home, read_trace(home, code)), "zh")


def test_a_statement_holds_what_concerns_one_enterprise_and_nobody_else(
    world: World, home: NodeHome
) -> None:
    fill(home, world)
    asked = Asked(world, home)
    asked.round(1)
    code = asked.code()
    told = page(home, code)
    for wanted in (code, asked.digest, "Staff", "员工", "Your data were used", "您的数据已被使用"):
        assert wanted in told
    others = [make_code(n) for n in range(40) if make_code(n) != code]
    assert not any(other in told for other in others)
    assert "<script" not in told
    assert "尚未被使用" in page(home, make_code(77))


def test_a_banks_words_are_escaped_on_the_page(world: World, home: NodeHome) -> None:
    fill(home, world)
    asked = Asked.__new__(Asked)
    asked.world, asked.home, asked.named = world, home, (b"", "")
    asked.plan, asked.digest = approved(home, world, sums=SUMS, product="<b>loan</b>")
    asked.session = new_session(home, world.receipts(home))
    asked.round(1)
    told = page(home, asked.code())
    assert "<b>loan" not in told
    assert "&lt;b&gt;loan" in told


# -- the commands -----------------------------------------------------------------------------


def test_the_commands_trace_state_and_list_what_ends_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEJIN_LANG", "en")
    world = found_world(tmp_path)
    path = world.nodes["node-1"]
    with open_home(path, world.clock) as home:
        fill(home, world)
        asked = Asked(world, home)
        asked.round(1)
        code, digest = asked.code(), asked.digest
        with writing(home.database) as connection:
            soon = replace(terms(world), valid_to=world.clock() + timedelta(days=5))
            grant(connection, home.internal_log, home.pseudonym_key, code, soon)
    told = answer(path, "authorisation", "trace", code)
    (traced,) = told["runs"]  # type: ignore[misc]
    assert (traced["plan"], traced["bank"], traced["part"]) == (digest, BANK, "train")
    assert traced["sums"][0]["counted"] is True
    assert told["costs"][0]["sums"] == 1  # type: ignore[index]
    said = run(path, "authorisation", "trace", code).stdout
    assert said.startswith(code)
    assert "in it by authorisation" in said
    assert "Text(" not in said, "both languages at once"
    costs = told["costs"][0]  # type: ignore[index]
    assert said.splitlines()[-1] == (
        f"cost to its privacy since {costs['period']}: epsilon"
        f" {math.ceil(costs['epsilon'] * 1e4) / 1e4:.4f} at delta 1.0e-06"
        f" ({math.ceil(costs['epsilon_alone'] * 1e4) / 1e4:.4f} if all other nodes colluded);"
        " sums that hold its data: 1"
    )
    untouched = run(path, "authorisation", "trace", make_code(77)).stdout
    assert "cost to its privacy" not in untouched
    (offered,) = answer(path, "plan", "list")["plans"]  # type: ignore[misc]
    assert (offered["plan"], offered["run"]) == (digest, {"open": True, "sums": 1})
    assert f"{digest[:16]}: its run is open, 1 sums released" in run(path, "plan", "list").stdout
    out = tmp_path / "statement.html"
    made = answer(path, "authorisation", "statement", code, "--out", str(out))
    assert (made["runs"], made["sums"]) == (1, 1)
    assert out.stat().st_mode & 0o777 == 0o600
    ending = answer(path, "authorisation", "list", "--expiring", "7")["authorisations"]
    assert [one["enterprise"] for one in ending] == [code]  # type: ignore[union-attr]
    assert answer(path, "authorisation", "list", "--expiring", "4")["authorisations"] == []
    ended = answer(path, "authorisation", "revoke", code, "--reason", "left")
    assert ended["runs"] == [{"run": RUN, "plan": digest, "bank": BANK, "open": True}]
    for words in (("trace", "x"), ("statement", "x", "--out", str(out))):
        with pytest.raises(HejinError, match="unified social credit code"):
            run(path, "authorisation", *words)
    with pytest.raises(HejinError, match="no authorisation of that number"):
        run(path, "authorisation", "show", "9999")


def test_a_trace_of_nobody_says_that_there_is_nothing(home: NodeHome) -> None:
    found: Trace = read_trace(home, make_code(3))
    assert (found.grants, found.runs, found.costs) == ((), (), ())
