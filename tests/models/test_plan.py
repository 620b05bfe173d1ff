"""A plan that exists is coherent; one that is not is refused with its field."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction

import pytest

from hejin_models.plan import LabelReference, Plan, PlanError, PricedSum, ViewReference
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
    as_of=date(2026, 6, 30),
    label=LabelReference("default", "bad-1", "bank-1"),
    family="scorecard",
    mode="node",
    nodes=("node-1", "node-2"),
    minimum_nodes=2,
    holdout=Fraction(1, 5),
    rho_train=Fraction(1, 10),
    rho_holdout=Fraction(1, 10),
    sums=(SUM, SUM),
    created=NOW,
    expires=NOW + timedelta(days=1),
    nonce="ab" * 16,
)


def test_a_plan_survives_signing_and_reading() -> None:
    assert Plan.parse(decode(encode(PLAN.body()))) == PLAN
    without = replace(PLAN, as_of=None)
    assert Plan.parse(decode(encode(without.body()))) == without


def test_a_plan_costs_the_dearer_part() -> None:
    assert replace(PLAN, rho_holdout=Fraction(1, 3)).rho == Fraction(1, 3)


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
