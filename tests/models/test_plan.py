"""A plan that exists is coherent; one that is not is refused with its field."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction

import pytest

from hejin_models.plan import (
    Deadlines,
    LabelReference,
    Plan,
    PlanError,
    PricedSum,
    ViewReference,
)
from hejin_privacy.errors import ThresholdError
from hejin_trust.canonical import DocumentError, decode, encode

NOW = datetime(2026, 11, 22, 20, 0, tzinfo=UTC)
SUM = PricedSum("histogram", 1, "train", Fraction(1, 20))
PLAN = Plan(
    bank="bank-1",
    consortium="test",
    charter="0" * 64,
    purpose="model-training",
    product="安平丝网贷",
    view=ViewReference("trade", 1, "1" * 64),
    grade="core",
    as_of=date(2026, 6, 30),
    label=LabelReference("default", "bad-1", "bank-1"),
    family="scorecard",
    mode="node",
    nodes=("node-1", "node-2"),
    minimum_nodes=2,
    quorum=0,
    colluders=0,
    deadlines=Deadlines(),
    holdout=Fraction(1, 5),
    rho_train=Fraction(1, 10),
    rho_holdout=Fraction(1, 10),
    sums=(SUM, SUM),
    created=NOW,
    expires=NOW + timedelta(days=1),
    nonce="ab" * 16,
)
SHARED = replace(
    PLAN,
    mode="shared",
    nodes=tuple(f"node-{place:02d}" for place in range(20)),
    minimum_nodes=16,
    quorum=16,
    colluders=2,
    deadlines=Deadlines(1, 2, 3, 86_400),
)


def test_a_plan_survives_signing_and_reading() -> None:
    assert Plan.parse(decode(encode(PLAN.body()))) == PLAN
    assert Plan.parse(decode(encode(SHARED.body()))) == SHARED
    without = replace(PLAN, as_of=None)
    assert Plan.parse(decode(encode(without.body()))) == without


@pytest.mark.parametrize(
    "changes",
    [
        {"product": ""},
        {"product": "loan\x1b[2J"},
        {"product": "l" * 101},
        {"view": ViewReference("trade\n", 1, "1" * 64)},
        {"label": LabelReference("default", "bad\u202e", "bank-1")},
        {"sums": (replace(SUM, statistic="\x07"),)},
    ],
)
def test_what_a_terminal_would_not_show_as_it_is_stands_in_no_plan(
    changes: dict[str, object],
) -> None:
    with pytest.raises(PlanError, match="printable") as refused:
        replace(PLAN, **changes)  # type: ignore[arg-type]
    assert refused.value.code == "plan-malformed"


def test_a_plan_states_one_of_the_grades() -> None:
    with pytest.raises(PlanError, match="general, important, core"):
        Plan.parse({**PLAN.body(), "grade": "public"})
    without = {key: value for key, value in PLAN.body().items() if key != "grade"}
    with pytest.raises(DocumentError, match="grade"):
        Plan.parse(without)


def test_a_plan_costs_the_dearer_part() -> None:
    assert replace(PLAN, rho_holdout=Fraction(1, 3)).rho == Fraction(1, 3)


def test_spare_rounds_are_part_of_what_a_plan_may_cost() -> None:
    roomy = replace(PLAN, rho_train=Fraction(3, 20))
    assert roomy.rho == Fraction(3, 20)
    assert roomy.rho_once == PLAN.rho_once == Fraction(1, 10)


def test_a_node_alone_is_worth_what_its_honest_fellows_are_counted_on_for() -> None:
    assert PLAN.rho_alone(1) == PLAN.rho_alone(2) == PLAN.rho
    assert SHARED.rho_alone(1) - 14 * SHARED.rho < Fraction(1, 2**63)
    assert SHARED.rho_alone(1) >= 14 * SHARED.rho
    assert SHARED.rho_alone(2) >= 7 * SHARED.rho


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"quorum": 11}, id="two quorums"),
        pytest.param({"quorum": 17}, id="survivors below the quorum"),
        pytest.param({"colluders": 14}, id="too few honest nodes"),
        pytest.param({"nodes": SHARED.nodes[:2], "minimum_nodes": 2}, id="two nodes"),
        pytest.param({"quorum": 0, "colluders": 0}, id="no thresholds"),
    ],
)
def test_unsafe_thresholds_are_refused_with_the_plan(changes: dict[str, object]) -> None:
    with pytest.raises(ThresholdError):
        replace(SHARED, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("seconds", [0, -1, 86_401])
@pytest.mark.parametrize("phase", ["keys", "masked", "survivors", "shares"])
def test_a_deadline_out_of_range_is_refused_by_name(phase: str, seconds: int) -> None:
    with pytest.raises(PlanError, match=phase):
        Deadlines(**{phase: seconds})
    with pytest.raises(DocumentError, match=phase):
        Plan.parse({**PLAN.body(), "deadlines": {**PLAN.deadlines.body(), phase: seconds}})


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"purpose": "marketing"}, id="an unknown purpose"),
        pytest.param({"family": "oracle"}, id="an unknown family"),
        pytest.param({"mode": "none"}, id="an unknown noise mode"),
        pytest.param({"nodes": ()}, id="no nodes"),
        pytest.param({"nodes": ("node-1", "node-1")}, id="a node twice"),
        pytest.param({"nodes": ("node-2", "node-1")}, id="nodes out of order"),
        pytest.param({"minimum_nodes": 3}, id="more nodes needed than invited"),
        pytest.param({"minimum_nodes": 0}, id="no node needed"),
        pytest.param({"quorum": 2}, id="a quorum in mode node"),
        pytest.param({"colluders": 1}, id="colluders in mode node"),
        pytest.param({"holdout": Fraction(0)}, id="no hold-out"),
        pytest.param({"holdout": Fraction(1)}, id="nothing but hold-out"),
        pytest.param({"sums": ()}, id="no sums"),
        pytest.param({"sums": (SUM,) * 201}, id="too many sums"),
        pytest.param({"sums": (replace(SUM, rho=Fraction(0)),)}, id="a free sum"),
        pytest.param({"sums": (SUM,) * 3}, id="sums over the plan's own cap"),
        # No float holds these: a message that shows one must not end the process that reads it.
        pytest.param({"sums": (replace(SUM, rho=Fraction(10**390)),)}, id="an absurd sum"),
        pytest.param({"rho_holdout": Fraction(10**390)}, id="an absurd cap"),
        pytest.param({"expires": NOW}, id="expired when made"),
    ],
)
def test_an_incoherent_plan_cannot_exist(changes: dict[str, object]) -> None:
    with pytest.raises(PlanError):
        replace(PLAN, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("v", 2),
        ("bank", "Bank 1"),
        ("nodes", ["node 1"]),
        ("charter", "xyz"),
        ("as_of", "yesterday"),
        ("nonce", "ab"),
        ("created", "2026-11-22 20:00"),
        ("expires", "0999-01-01T00:00:00Z"),
        ("expires", "999-01-01T00:00:00Z"),
        ("quorum", -1),
        ("deadlines", {"keys": 60, "masked": 60, "survivors": 60}),
        ("holdout", {"num": "1", "den": "0"}),
        ("sums", [{"statistic": "histogram", "version": 1, "part": "all", "rho": {"num": "1",
                                                                                 "den": "9"}}]),
        ("view", {"name": "trade", "version": 1, "sha256": "1" * 64, "sql": "SELECT 1"}),
    ],
)  # fmt: skip
def test_a_malformed_field_is_refused(field: str, value: object) -> None:
    with pytest.raises((PlanError, DocumentError)):
        Plan.parse({**PLAN.body(), field: value})


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(DocumentError, match="unknown"):
        Plan.parse({**PLAN.body(), "urgent": True})


def test_a_missing_field_is_refused() -> None:
    body = PLAN.body()
    del body["rho_train"]
    with pytest.raises(DocumentError, match="rho_train"):
        Plan.parse(body)
