"""What a private set intersection shows on the wire: over real gRPC, byte by byte counted.

Two worlds that differ in nothing but who is not in both sets must look alike to the bank, to the
node, and to whoever counts bytes between them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from fault_proxy import FaultProxy
from google.protobuf.message import Message
from label_world import (
    DEFINITION,
    NODE,
    PERIOD,
    SPEC,
    entries,
    outcome_terms,
    settle_bank,
    write_book,
)
from node_world import BANK, World, found_world
from serving import serving

from hejin_coordinator import service
from hejin_coordinator.home import open_home as open_bank
from hejin_models.uscc import make_code
from hejin_node.consent import grant_many
from hejin_node.home import open_home as open_node
from hejin_node.label_channel import LabelChannel
from hejin_node.matching import Asked, Described, Given, Matched, match
from hejin_trust import membership
from hejin_trust.channels import LARGEST_MESSAGE, PeerRefused, PeerUnreachable, dial
from hejin_trust.database import writing

pytestmark = pytest.mark.system

Shape = tuple[str, tuple[tuple[str, int], ...], tuple[tuple[str, int], ...]]


def sizes(message: Message) -> tuple[tuple[str, int], ...]:
    """Return the whole encoded size of a message, and the size of each field."""
    fields = [
        (name.name, len(value) if isinstance(value, bytes | str) else len(list(value)))
        for name, value in message.ListFields()
    ]
    return ("", message.ByteSize()), *fields


class Counting(grpc.UnaryUnaryClientInterceptor):
    """Keeps the shape of every call: method, sizes of the request and of the response."""

    def __init__(self) -> None:
        self.shapes: list[Shape] = []

    def intercept_unary_unary(
        self, continuation: Callable[[Any, Any], Any], details: Any, request: Any
    ) -> Any:
        call = continuation(details, request)
        self.shapes.append((details.method, sizes(request), sizes(call.result())))
        return call


@dataclass
class Seen:
    """What one world's session looked like, and what it brought."""

    matched: Matched
    shapes: list[Shape]
    labels: dict[str, int] = field(default_factory=dict)


@contextmanager
def bank_serving(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Let the bank serve over mutual TLS; its mirror is in this process."""

    @contextmanager
    def dialled(home: Any) -> Iterator[Any]:
        yield world.mirror.door(home.member_id)

    monkeypatch.setattr(service, "dialled", dialled)
    monkeypatch.setattr(service, "regulator_address", lambda _: "127.0.0.1:1")
    with serving(service.serve, world.folder / BANK) as port:
        yield port


def session(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    authorised: Sequence[int],
    borrowers: dict[int, int],
) -> Seen:
    """Found a world and let its node ask its bank over loopback."""
    world = found_world(folder, size_band=(5, 40))
    settle_bank(world, outcomes_declared=64)
    with open_bank(folder / BANK) as bank:
        write_book(bank, borrowers)
    counting = Counting()
    with (
        bank_serving(world, monkeypatch) as port,
        open_node(world.nodes[NODE]) as node,
    ):
        with writing(node.database) as connection:
            grant_many(
                connection, node.internal_log, node.pseudonym_key,
                [(make_code(n), outcome_terms(world)) for n in authorised],
            )  # fmt: skip
        witness = world.witness(node)
        channel = node.dial(BANK, f"127.0.0.1:{port}")
        with channel:
            door = LabelChannel(grpc.intercept_channel(channel, counting), BANK)
            found = match(node, witness, door, SPEC)
        seen = Seen(found, counting.shapes)
        for batch in node.warehouse.read("labels", SPEC.dataset):
            rows = batch.to_pydict()
            seen.labels.update(zip(rows["enterprise"], rows["label"], strict=True))
    return seen


COMMON = {7: 1, 8: 0}
"""The enterprises in both sets, in every world."""


@pytest.mark.parametrize(
    ("authorised", "borrowers"),
    [
        pytest.param([7, 8, *range(100, 130)], COMMON, id="more authorised"),
        pytest.param([7, 8], {**COMMON, **dict.fromkeys(range(200, 262), 1)}, id="more borrowers"),
        pytest.param([7, 8, 300], {**COMMON, 301: 0}, id="others on both sides"),
    ],
)
def test_two_worlds_that_differ_only_in_non_members_look_alike_byte_by_byte(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    authorised: list[int],
    borrowers: dict[int, int],
) -> None:
    one = session(tmp_path / "one", monkeypatch, [7, 8], COMMON)
    other = session(tmp_path / "other", monkeypatch, authorised, borrowers)
    assert one.labels == other.labels == {make_code(n): label for n, label in COMMON.items()}
    assert one.shapes == other.shapes
    (described, matched) = one.shapes
    assert described[0].endswith("/Describe")
    assert matched[0].endswith("/Match")
    asked, given = dict(matched[1]), dict(matched[2])
    assert (asked["points"], given["points"], given["items"]) == (40 * 32, 40 * 32, 64 * 33)
    assert set(asked) == {"", "question", "points", "entry", "proof"}
    assert set(given) == {"", "answer", "points", "items"}


def test_two_worlds_carry_as_many_bytes_of_plain_messages_as_each_other_also_without_common_members(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even whether anybody is in both sets shows."""
    one = session(tmp_path / "one", monkeypatch, [7, 8], COMMON)
    none = session(tmp_path / "none", monkeypatch, [1], {2: 1})
    assert none.labels == {}
    assert one.shapes == none.shapes


def test_ten_thousand_on_either_side_come_out_right_over_the_wire(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Known by arithmetic: 10,000 numbers each, 5,000 of them in common, every third one bad."""
    world = found_world(tmp_path, size_band=(5, 10_000))
    settle_bank(world, outcomes_declared=10_000)
    with open_bank(tmp_path / BANK) as bank:
        write_book(bank, {n: int(n % 3 == 0) for n in range(5_000, 15_000)})
    with bank_serving(world, monkeypatch) as port, open_node(world.nodes[NODE]) as node:
        with writing(node.database) as connection:
            grant_many(
                connection, node.internal_log, node.pseudonym_key,
                [(make_code(n), outcome_terms(world)) for n in range(10_000)],
            )  # fmt: skip
        with node.dial(BANK, f"127.0.0.1:{port}") as channel:
            found = match(node, world.witness(node), LabelChannel(channel, BANK), SPEC, PERIOD)
        assert (found.asked, found.labels, found.report.loaded) == (10_000, 5_000, 5_000)
        held: dict[str, int] = {}
        for batch in node.warehouse.read("labels", SPEC.dataset):
            rows = batch.to_pydict()
            held.update(zip(rows["enterprise"], rows["label"], strict=True))
    assert held == {make_code(n): int(n % 3 == 0) for n in range(5_000, 10_000)}


def test_only_a_node_may_ask_a_bank_for_outcomes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = found_world(tmp_path)
    settle_bank(world)
    own = membership.load(tmp_path / BANK, BANK, "bank", world.office.identity.public)
    with bank_serving(world, monkeypatch) as port:
        channel = dial(
            f"127.0.0.1:{port}", world.office.charter.member(BANK), world.office.charter,
            own.tls_key_pem, own.certificate_pem,
        )  # fmt: skip
        with channel, pytest.raises(PeerRefused) as refused:
            LabelChannel(channel, BANK).describe(DEFINITION)
    assert refused.value.peer_code == "not-allowed"


def test_a_message_beyond_the_channel_s_limit_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = found_world(tmp_path)
    settle_bank(world)
    with (
        bank_serving(world, monkeypatch) as port,
        open_node(world.nodes[NODE]) as node,
        node.dial(BANK, f"127.0.0.1:{port}") as channel,
        pytest.raises(PeerRefused),
    ):
        LabelChannel(channel, BANK).match(Asked(b"", bytes(LARGEST_MESSAGE + 1), b"", ""))


def test_a_link_that_breaks_over_the_answer_costs_a_session_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = found_world(tmp_path, size_band=(5, 40))
    settle_bank(world)
    with open_bank(tmp_path / BANK) as bank:
        write_book(bank, COMMON)
    with (
        bank_serving(world, monkeypatch) as port,
        FaultProxy(f"127.0.0.1:{port}") as link,
        open_node(world.nodes[NODE]) as node,
        node.dial(BANK, link.address) as channel,
    ):
        with writing(node.database) as connection:
            grant_many(
                connection, node.internal_log, node.pseudonym_key,
                [(make_code(n), outcome_terms(world)) for n in COMMON],
            )  # fmt: skip
        witness, door = world.witness(node), LabelChannel(channel, BANK)

        class Cut:
            """Lets the first bytes of the answer through and no more."""

            def describe(self, definition: str) -> Described:
                return door.describe(definition)

            def match(self, asked: Asked) -> Given:
                link.cut(2000, "down")
                return door.match(asked)

        with pytest.raises(PeerUnreachable):
            match(node, witness, Cut(), SPEC)
        assert node.warehouse.rows("labels", SPEC.dataset) == 0
        link.heal()
        assert match(node, witness, door, SPEC).labels == 2
    with open_bank(tmp_path / BANK) as bank:
        assert len(entries(bank, "labels.answer")) == 2  # the lost one is on record as well
