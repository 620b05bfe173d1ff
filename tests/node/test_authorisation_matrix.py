"""Purpose x bank x category x features x validity x revocation, two banks, real sessions."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from bank_world import body_of
from matrix_world import BANKS, FEATURES, READS, Answered, Matrix, everything, open_matrix
from sqlalchemy import Connection

from hejin_models.uscc import make_code
from hejin_node import pinned, session
from hejin_node.consent import authorisations, entitled, grant
from hejin_node.terms import Terms
from hejin_node.trace import RunLine, read_trace
from hejin_privacy.holdout import part_of, split_key
from hejin_trust.database import writing


def no_noise(_: object, dimension: int) -> np.ndarray:
    return np.zeros(dimension, np.int64)


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Matrix]:
    """Both banks have carried out their plans; the world changed in the middle of each."""
    mixtures = everything(seed=11)
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patched:
        patched.setattr(session, "discrete_gaussian", no_noise)
        made = open_matrix(
            tmp_path_factory.mktemp("matrix"), stack, (mixtures[::2], mixtures[1::2])
        )
        made.carry_out("bank-1", first=0, change_in=3)
        made.carry_out("bank-2", first=2, change_in=3)
        yield made


def test_exactly_the_entitled_enterprises_are_in_every_sum(matrix: Matrix) -> None:
    steps = {(one.bank, one.step) for one in matrix.sent}
    assert steps == {("bank-1", 0), ("bank-1", 1), ("bank-2", 2), ("bank-2", 3)}
    for one in matrix.sent:
        total, within = matrix.expected(one)
        # A node's hold-out part is a fifth of a few dozen, by the plan's hash: it may be empty.
        assert within or matrix.query(one).part == "holdout"
        assert np.array_equal(one.vector, total), (one.node, one.bank, one.step)


def test_the_regulator_finds_nothing_in_their_ledgers(matrix: Matrix, tmp_path: Path) -> None:
    verification = matrix.verify(tmp_path / "export")
    assert verification.findings == ()
    assert set(verification.members) >= {*BANKS, *matrix.nodes}


def test_a_sum_without_noise_tells_who_is_in_it(matrix: Matrix) -> None:
    """Else the test above would prove little: each enterprise has a cell of its own."""
    one = matrix.sent[0]
    total, within = matrix.expected(one)
    assert matrix.query(one).mechanism.statistic == "label_histogram"
    assert np.count_nonzero(total == 1 << 20) >= len(within)
    assert len(within) > 20
    left = {
        step: sum(len(matrix.entitled(node, bank, step)) for node in matrix.nodes)
        for bank, step in (("bank-1", 0), ("bank-1", 1), ("bank-2", 2), ("bank-2", 3))
    }
    assert left[0] > left[1] > 0
    assert left[2] > left[3] > 0


def test_the_trace_of_every_enterprise_explains_every_sum(matrix: Matrix) -> None:
    sent = {
        (one.node, one.bank, round_of(one)): (one.step, matrix.expected_codes(one))
        for one in matrix.sent
    }
    may = {
        (node, bank, step): matrix.entitled(node, bank, step)
        for node in matrix.nodes for bank in BANKS for step in range(4)
    }  # fmt: skip
    charter = matrix.world.office.charter
    seen: Counter[str] = Counter()
    for node, home in matrix.nodes.items():
        for code, grants in matrix.given[node].items():
            traced = read_trace(home, code)
            assert [run.plan.bank for run in traced.runs] == list(BANKS)
            for run in traced.runs:
                first = 2 * BANKS.index(run.plan.bank)
                inside = code in may[node, run.plan.bank, first]
                assert (run.grant is not None) == inside
                if not inside:
                    check_reasons(matrix, code, run, first)
                    seen.update(reason.code for reason in run.why)
                    assert not any(line.counted for line in run.sums)
                    continue
                part = part_of(code, split_key(run.digest, charter.nonce), run.plan.holdout)
                assert run.part == part
                for line in run.sums:
                    step, within = sent[node, run.plan.bank, line.round]
                    assert line.counted == (code in within)
                    if line.counted:
                        standing = {matrix.seqs[code][g] for g in grants
                                    if g.allows(run.plan.bank, step)}  # fmt: skip
                        assert line.grant in standing
                    else:
                        assert line.why is not None
                        seen[line.why.code] += 1
                        stays = code in may[node, run.plan.bank, step]
                        assert (line.why.code == "other-part") == (part != line.part)
                        assert stays or line.why.code in ("revoked", "expired", "other-part")
    assert set(seen) == {
        "purpose", "bank", "category", "feature", "not-begun", "expired", "revoked", "other-part",
    }  # fmt: skip


def check_reasons(matrix: Matrix, code: str, run: RunLine, step: int) -> None:
    """Fail unless each grant is named with something that it really lacked."""
    node = next(node for node, given in matrix.given.items() if code in given)
    by_seq = {matrix.seqs[code][one]: one for one in matrix.given[node][code]}
    assert {reason.grant for reason in run.why} == by_seq.keys()
    for reason in run.why:
        assert reason.grant is not None
        one = by_seq[reason.grant]
        categories, features = READS[run.plan.bank], set(FEATURES)
        lacks = {
            "purpose": "model-training" not in one.purposes,
            "bank": not {"*", run.plan.bank} & set(one.banks),
            "category": "*" not in one.categories and not categories <= set(one.categories),
            "feature": "*" not in one.features and not features <= set(one.features),
            "not-begun": one.window[0] > step,
            "expired": one.window[1] <= step,
            "revoked": one.revoked is not None and one.revoked <= step,
        }
        assert lacks[reason.code]


@pytest.mark.parametrize("forged", ["one more", "one less"])
def test_a_node_that_counts_in_one_more_or_one_less_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forged: str
) -> None:
    """It does so all along: in the snapshot that it logs, and in every sum."""
    honest = pinned.entitled

    def lying(connection: Connection, **asked: object) -> dict[str, int]:
        found = honest(connection, **asked)  # type: ignore[arg-type]
        if forged == "one less":
            found.pop(min(found))
            return found
        others = [one for one in authorisations(connection) if one.code not in found]
        return {**found, others[0].code: others[0].seq}

    monkeypatch.setattr(pinned, "entitled", lying)
    monkeypatch.setattr(session, "discrete_gaussian", no_noise)
    mixtures = everything(seed=5)
    with ExitStack() as stack:
        made = open_matrix(tmp_path, stack, (mixtures[::2], mixtures[1::2]))
        made.carry_out("bank-1", first=0, change_in=3)
        findings = made.verify(tmp_path / "export").findings
    assert {(one.check, one.member) for one in findings} == {("V7", node) for node in made.nodes}
    assert all("were not in force" in one.reason.en for one in findings)


def test_a_node_that_goes_on_counting_whoever_it_began_with_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its snapshot is honest; revocations and ends amid the run do not reach its sums."""
    honest, kept = pinned.entitled, {}

    def forgetful(connection: Connection, **asked: object) -> dict[str, int]:
        place = (str(connection.engine.url), asked["bank"])
        if made.step == 0:  # also before, where the plan is looked at
            kept[place] = honest(connection, **asked)  # type: ignore[arg-type]
        return kept[place]

    monkeypatch.setattr(pinned, "entitled", forgetful)
    monkeypatch.setattr(session, "discrete_gaussian", no_noise)
    mixtures = everything(seed=6)
    with ExitStack() as stack:
        made = open_matrix(tmp_path, stack, (mixtures[::2], mixtures[1::2]))
        made.carry_out("bank-1", first=0, change_in=3)
        findings = made.verify(tmp_path / "export").findings
    assert {(one.check, one.member) for one in findings} == {("V7", node) for node in made.nodes}
    assert all("the sum of reservation" in one.reason.en for one in findings)


def round_of(one: Answered) -> int:
    return int(str(body_of(one.payload["query"])["round"]))


NOW = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.mark.parametrize("purpose", ["model-training", "credit-approval", "post-loan-monitoring"])
@pytest.mark.parametrize("bank", ["bank-1", "bank-2", "bank-3"])
@pytest.mark.parametrize("category", ["production", "trade", "outcome"])
def test_every_purpose_bank_and_category_is_looked_up_for_itself(
    data, purpose: str, bank: str, category: str
) -> None:
    """Also those that no plan asks for yet; `*` covers all banks and data, and no outcome."""
    expected = {}
    lists = itertools.product(
        (("model-training",), ("credit-approval",), ("model-training", "post-loan-monitoring")),
        (("bank-1",), ("bank-1", "bank-2"), ("*",)),
        (("production",), ("outcome", "trade"), ("*",), ("*", "outcome")),
    )
    with writing(data.database) as connection:
        for number, (purposes, banks, categories) in enumerate(lists):
            code = make_code(number)
            terms = Terms(
                document="ab" * 32, grade="B", purposes=purposes, banks=banks,
                categories=categories, features=("*",),
                valid_from=NOW, valid_to=NOW + timedelta(days=1),
            )  # fmt: skip
            seq = grant(connection, data.log, b"p" * 32, code, terms)
            if (
                purpose in purposes
                and (bank in banks or "*" in banks)
                and (category in categories or ("*" in categories and category != "outcome"))
            ):
                expected[code] = seq
        found = entitled(
            connection, purpose=purpose, bank=bank, categories=[category], features=["x"], at=NOW
        )
    assert found == expected
