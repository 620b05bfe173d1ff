"""What a node approves without asking its operator, and how many offers it looks at."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import grpc
import pytest
from node_world import BANK, SIZE_BAND, World, fill, found_world
from structlog.testing import capture_logs

from hejin.v1 import coordinator_pb2 as pb
from hejin_node import inbox, offers, policy_file, service
from hejin_node.home import NodeHome, open_home
from hejin_node.offers import MOST_UNANSWERED, OffersTooManyError
from hejin_node.policy import DryRun
from hejin_node.service import DECIDE_SECONDS, MOST_AT_ONCE, BankChannel
from hejin_trust.database import reading


def approve_up_to(world: World, epsilon: float) -> None:
    """Let node-1 approve plans of at most `epsilon` by itself."""
    file = world.nodes["node-1"] / policy_file.FILE
    file.write_bytes(policy_file.starter(SIZE_BAND, epsilon, "core"))


@pytest.mark.parametrize(
    ("colluders", "epsilon_at_most", "answer"),
    [
        pytest.param(1, 50.0, "approved", id="cheap enough"),
        pytest.param(1, 0.01, "offered", id="too dear"),
        pytest.param(0, 50.0, "offered", id="counts on every other node"),
    ],
)
def test_a_plan_beyond_the_policy_waits_for_the_operator(
    tmp_path: Path, colluders: int, epsilon_at_most: float, answer: str
) -> None:
    world = found_world(tmp_path, nodes=5, rho_cap=Fraction(10), rho_alone_cap=Fraction(50))
    approve_up_to(world, epsilon_at_most)
    with open_home(world.nodes["node-1"], world.clock) as home:
        fill(home, world)
        envelope, digest, _ = world.propose(
            mode="shared", minimum_nodes=4, quorum=4, colluders=colluders
        )
        offers.receive(home, envelope)
        assert offers.decide(home, digest) == answer


def test_a_policy_that_is_narrowed_after_the_dry_run_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = found_world(tmp_path)
    approve_up_to(world, 50.0)
    with open_home(world.nodes["node-1"], world.clock) as home:
        fill(home, world)
        envelope, digest, _ = world.propose()
        offers.receive(home, envelope)
        real = offers.dry_run

        def narrowed(home: NodeHome, offer: inbox.Offer) -> DryRun:
            found = real(home, offer)
            assert found.automatic
            approve_up_to(world, 0.01)
            return found

        monkeypatch.setattr(offers, "dry_run", narrowed)
        assert offers.decide(home, digest) == "offered"
        with reading(home.database) as connection:
            assert inbox.find_offer(connection, digest).answer == "offered"
        offers.approve(home, digest, "operator:me")  # the operator still may


@dataclass
class Desk:
    """The bank's PlanService: what it lists, and what it was answered."""

    plans: list[bytes] = field(default_factory=list)
    answers: list[bytes] = field(default_factory=list)

    def ListOffers(self, *_: object, **__: object) -> pb.ListOffersResponse:
        return pb.ListOffersResponse(plans=self.plans)

    def AnswerOffer(self, request: pb.AnswerOfferRequest, **_: object) -> None:
        self.answers.append(request.answer)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return found_world(tmp_path)


@pytest.fixture
def home(world: World) -> Iterator[NodeHome]:
    approve_up_to(world, 50.0)
    with open_home(world.nodes["node-1"], world.clock) as opened:
        yield opened


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def channel(home: NodeHome, desk: Desk) -> Iterator[BankChannel]:
    with grpc.insecure_channel("127.0.0.1:1") as nowhere:
        found = BankChannel(home, BANK, nowhere)
        found._plans = desk
        yield found


@pytest.fixture
def minute(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    at = [float(int(time.monotonic()))]  # whole: a minute later is 60 s later, exactly
    monkeypatch.setattr(time, "monotonic", lambda: at[0])
    return at


def stored(home: NodeHome) -> dict[str, str]:
    with reading(home.database) as connection:
        return {offer.digest: offer.answer for offer in inbox.offers(connection)}


def test_a_bank_that_offers_plans_without_end_fills_no_disk(world: World, home: NodeHome) -> None:
    first = [world.propose()[0] for _ in range(MOST_UNANSWERED)]
    for envelope in first:
        offers.receive(home, envelope)
    for _ in range(3):
        with pytest.raises(OffersTooManyError, match="100 plans of bank-1 wait"):
            offers.receive(home, world.propose()[0])
    assert len(stored(home)) == MOST_UNANSWERED
    for envelope in first:
        offers.receive(home, envelope)


def test_an_answer_or_an_expiry_makes_room_for_another_offer(world: World, home: NodeHome) -> None:
    soon = world.clock() + timedelta(hours=1)
    expiring: list[str] = []
    for number in range(MOST_UNANSWERED):
        envelope, digest, _ = world.propose(**({"expires": soon} if number < 7 else {}))
        expiring += [digest] if number < 7 else []
        offers.receive(home, envelope)
    offers.refuse(home, digest, "no", "not this one")
    offers.receive(home, world.propose()[0])
    with pytest.raises(OffersTooManyError):
        offers.receive(home, world.propose()[0])
    world.clock.turn(timedelta(hours=1))
    offers.receive(home, world.propose()[0])
    assert not stored(home).keys() & set(expiring)
    assert len(stored(home)) == MOST_UNANSWERED + 2 - len(expiring)


def test_an_offer_is_decided_once_a_minute_and_approved_when_its_view_has_come(
    world: World,
    home: NodeHome,
    desk: Desk,
    channel: BankChannel,
    minute: list[float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decided: list[str] = []
    decide = offers.decide

    def counted(home: NodeHome, digest: str) -> Any:
        decided.append(digest)
        return decide(home, digest)

    monkeypatch.setattr(service.offers, "decide", counted)
    fill(home, world)
    view = home.path / "views" / "firms-v1.toml"
    away = view.rename(home.path / "firms-v1.toml")
    envelope, digest, _ = world.propose()
    desk.plans = [envelope]
    for _ in range(30):
        channel.exchange_offers()
    assert (decided, stored(home), desk.answers) == ([digest], {digest: "offered"}, [])
    away.rename(view)
    minute[0] += DECIDE_SECONDS
    channel.exchange_offers()
    assert (len(decided), stored(home), len(desk.answers)) == (2, {digest: "approved"}, 1)
    desk.plans = []
    channel.exchange_offers()
    assert channel._looked == {}


def test_many_offers_are_looked_at_a_few_at_a_time_and_their_refusals_told_once(
    world: World, home: NodeHome, desk: Desk, channel: BankChannel, minute: list[float]
) -> None:
    desk.plans = [world.propose()[0] for _ in range(MOST_AT_ONCE + 5)] + [b"{}"]
    channel.exchange_offers()
    assert len(stored(home)) == MOST_AT_ONCE
    with capture_logs() as console:
        for _ in range(20):
            minute[0] += 1
            channel.exchange_offers()
    assert len(stored(home)) == MOST_AT_ONCE + 5
    assert [line["event"] for line in console] == ["offers-refused"]


def test_a_plan_that_understates_its_grade_is_approved_by_nobody(
    world: World, home: NodeHome
) -> None:
    fill(home, world)
    envelope, digest, _ = world.propose(grade="general")
    offers.receive(home, envelope)
    assert offers.decide(home, digest) == "offered"
    with pytest.raises(offers.PlanNotApprovableError, match='grade = "core"') as refused:
        offers.approve(home, digest, "test")
    assert refused.value.code == "plan-not-approvable"


def test_a_bank_eats_no_budget_with_many_plans_that_are_cheap_one_by_one(
    world: World, home: NodeHome
) -> None:
    """Of plans of a tenth of the cap each, three pass by themselves; the operator is asked then."""
    fill(home, world)
    file = home.path / policy_file.FILE
    file.write_text(file.read_text().replace("# share_at_most = 0.5", "share_at_most = 0.35"))
    answers = []
    for _ in range(5):
        envelope, digest, _ = world.propose(rho=home.charter.rho_cap / 10)
        offers.receive(home, envelope)
        answers.append(offers.decide(home, digest))
    assert answers == ["approved", "approved", "approved", "offered", "offered"]
