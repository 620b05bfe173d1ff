"""A masking node against a hostile bank: queries, survivors and votes that are lies."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hostile_bank import CALM, Attack, HostileBank, check_header, signed_bytes
from hostile_checks import (
    FIVE,
    FOUR,
    NODES,
    ONE,
    THREE,
    TWO,
    altered,
    contents,
    refused,
)
from node_world import BANK

from hejin_node import offers
from hejin_privacy.secure_sum import masks
from hejin_privacy.secure_sum import node as masking_node
from hejin_privacy.secure_sum.documents import documents_hash
from hejin_trust.envelope import (
    REFUSAL,
    SUM_MASKED,
    SUM_QUERY,
    SUM_SURVIVORS,
    open_envelope,
    seal,
)
from hejin_trust.fleet import Payload, pack, unpack


@pytest.fixture(scope="module")
def uploaded(bank: HostileBank) -> Attack:
    """A run in which all have answered round 1: refusals leave it as it is."""
    attack = bank.begin([ONE])
    attack.collect()
    return attack


@pytest.fixture(scope="module")
def voted(bank: HostileBank) -> Attack:
    """A run in which node-1 has voted for four survivors."""
    attack = bank.begin([ONE])
    attack.collect()
    assert attack.ask(ONE, attack.survivors(ONE, NODES[:4]))["kind"] == b"vote"
    return attack


# -- queries -----------------------------------------------------------------------------


def test_a_query_that_is_not_the_plans_or_not_in_order_is_refused(
    bank: HostileBank, uploaded: Attack
) -> None:
    first = uploaded.uploads[ONE, 1]
    again = uploaded.ask(ONE, uploaded.query())
    assert all(again[part] == first[part] for part in ("header", "vector", "shares"))
    refused(uploaded, uploaded.query(1, 1), "query-out-of-order")
    refused(uploaded, uploaded.query(2, plan="f" * 64), "plan-unknown")
    refused(uploaded, uploaded.query(2, sum=9), "query-refused")
    refused(uploaded, uploaded.query(2, part="holdout"), "query-refused")
    refused(uploaded, uploaded.query(2, previous="f" * 64), "bad-envelope")
    mechanism = uploaded.plan
    assert mechanism.mode == "shared"
    envelope, digest, other = bank.world.propose(**CALM)  # type: ignore[arg-type]
    offers.receive(bank.homes[ONE], envelope)
    asked = bank.world.query(other, digest, run="d" * 32)
    refused(uploaded, {**asked, **uploaded.introduction()}, "query-refused")
    for payload in (
        {},
        {"kind": b"hello"},
        {"kind": b"query"},
        {"kind": b"query", "query": b"\xff"},
        {"kind": b"query", "query": b"{" * 5000},
    ):
        code = "bad-envelope" if payload.get("kind") == b"query" else "message-malformed"
        refused(uploaded, payload, code)


def test_a_query_under_the_plan_without_masks_is_not_answered(bank: HostileBank) -> None:
    """Less noise is only for masked sums: no field of a query turns the masks off."""
    fresh = bank.begin([ONE])
    shared = contents(fresh.query()["query"])["mechanism"]
    assert isinstance(shared, dict)
    for changes in ({"mode": "node"}, {"tau": 2}, {"m": 5}, {"t": 0}, {"n": 4}):
        body = {**contents(fresh.query()["query"]), "mechanism": {**shared, **changes}}
        envelope = seal(SUM_QUERY, body, bank.world.bank.identity, BANK)
        answer = fresh.ask(ONE, {**fresh.query(), "query": envelope, **fresh.introduction()})
        assert answer.keys() == {"kind", "refusal"}
    assert fresh.ask(ONE, {**fresh.query(), **fresh.introduction()})["kind"] == b"masked"


@pytest.mark.parametrize("split", ["query", "roster"])
def test_two_halves_that_were_asked_differently_open_nothing(bank: HostileBank, split: str) -> None:
    attack = bank.begin([ONE, TWO])
    attack.collect(nodes=[ONE])
    other = (
        {**attack.query(1, 1), **attack.introduction()}
        if split == "query"
        else {**attack.query(), **attack.introduction(*NODES[:4])}
    )
    attack.uploads[TWO, 1] = attack.ask(TWO, other)
    assert attack.uploads[TWO, 1]["kind"] == b"masked"
    contexts = {contents(attack.header(node))["round_ctx"] for node in (ONE, TWO)}
    assert len(contexts) == 2
    for context in contexts:
        for node in (ONE, TWO):
            told = attack.survivors(node, NODES[:4], round_ctx=context)
            refused(attack, told, "survivors-refused", node)


def test_in_whatever_order_messages_come_nothing_leaves_unmasked(
    bank: HostileBank, monkeypatch: pytest.MonkeyPatch
) -> None:
    unmasked: list[bytes] = []

    def kept(vector: np.ndarray, keys: object) -> None:
        unmasked.append(vector.tobytes())
        masks.add_masks(vector, keys)  # type: ignore[arg-type]

    monkeypatch.setattr(masking_node, "add_masks", kept)
    template = bank.begin([ONE])
    template.collect()
    for order in Random(3).sample(list(itertools.permutations(range(5))), 12):
        attack = bank.begin([ONE])
        unmasked.clear()
        asked = replace(template.asked(NODES), run=attack.run)
        messages = (
            attack.query(),
            attack.introduction() | attack.query(2),
            {**template.survivors(ONE, NODES), "survivors": attack.signed(asked)},
            attack.votes(asked, [attack.ballot(n, asked) for n in NODES[1:]]),
            attack.result(asked, [attack.ballot(n, asked) for n in NODES[1:]]),
        )
        for place in order:
            answer = attack.ask(ONE, messages[place])
            assert answer["kind"] in (b"refusal", b"masked", b"noted")
            if answer["kind"] == b"masked":
                assert check_header(answer["header"], bank.homes[ONE]).masking is not None
            for noisy in unmasked:
                assert not any(noisy[:24] in part for part in answer.values())


# -- survivors ---------------------------------------------------------------------------


def with_headers(attack: Attack, sent: list[bytes], **changes: object) -> Payload:
    return {**attack.survivors(ONE, NODES, 1, **changes), "headers": pack(sent)}


def other_header(attack: Attack, node: str) -> bytes:
    """Return a second header of a colluder, for the same round."""
    colluder = attack.colluders[node]
    state = colluder.rounds[1]
    body = contents(attack.header(node))
    made = seal(SUM_MASKED, {**body, "vector": "1" * 64}, colluder.home.identity, node)
    assert state.header != made
    return made


def headers(attack: Attack) -> list[bytes]:
    return [attack.header(node) for node in NODES]


def forge_header(**changes: object) -> Callable[[Attack], Payload]:
    """Return all survivors, node-2's header being of something else and hashed all the same."""

    def forge(attack: Attack) -> Payload:
        body = {**contents(attack.header(TWO)), **changes}
        body = {key: value for key, value in body.items() if value is not None}
        made = seal(SUM_MASKED, body, attack.bank.homes[TWO].identity, TWO)
        sent = [made if node == TWO else attack.header(node) for node in NODES]
        named = documents_hash([signed_bytes(header) for header in sent])
        return with_headers(attack, sent, headers=named)

    return forge


def signed_by(node: str | None, kind: str) -> Callable[[Attack], Payload]:
    """Return a survivor set under another signature."""

    def forge(attack: Attack) -> Payload:
        world = attack.bank.world
        key = world.bank.identity if node is None else attack.bank.homes[node].identity
        document = seal(kind, attack.asked(NODES).body(), key, BANK)
        return {**attack.survivors(ONE, NODES), "survivors": document}

    return forge


def shares_of(change: Callable[[list[bytes]], list[bytes]]) -> Callable[[Attack], Payload]:
    """Return all survivors with other encrypted shares than were sent."""
    return lambda attack: {
        **attack.survivors(ONE, NODES),
        "shares": pack(change(attack.ciphertexts(ONE, NODES))),
    }


SURVIVORS: dict[str, tuple[Callable[[Attack], Payload], str]] = {
    "this node left out": (lambda a: a.survivors(ONE, NODES[1:]), "survivors-refused"),
    "fewer than the least": (lambda a: a.survivors(ONE, NODES[:3]), "survivors-refused"),
    "nobody": (lambda a: a.survivors(ONE, ()), "survivors-refused"),
    "not sorted": (
        lambda a: a.survivors(ONE, (TWO, ONE, THREE, FOUR, FIVE)),
        "message-malformed",
    ),
    "a node in it twice": (
        lambda a: a.survivors(ONE, (ONE, ONE, TWO, THREE, FOUR)),
        "message-malformed",
    ),
    "an unknown node": (
        lambda a: a.survivors(ONE, (*NODES[:4], "node-9")),
        "survivors-refused",
    ),
    "another round": (lambda a: a.survivors(ONE, NODES) | {
        "survivors": a.signed(replace(a.asked(NODES), round=2))}, "round-before-restart"),
    "another round_ctx": (
        lambda a: a.survivors(ONE, NODES, round_ctx="0" * 64),
        "survivors-refused",
    ),
    "another run": (lambda a: a.survivors(ONE, NODES, run="0" * 32), "query-refused"),
    "other headers than it names": (
        lambda a: a.survivors(ONE, NODES, headers="0" * 64),
        "survivors-refused",
    ),
    "a header missing": (lambda a: with_headers(a, headers(a)[:4]), "survivors-refused"),
    "a header more": (
        lambda a: with_headers(a, [*headers(a), headers(a)[0]]),
        "survivors-refused",
    ),
    "two headers swapped": (
        lambda a: with_headers(a, [headers(a)[1], headers(a)[0], *headers(a)[2:]]),
        "bad-envelope",
    ),
    "a colluder's second header": (
        lambda a: with_headers(a, [headers(a)[0], other_header(a, TWO), *headers(a)[2:]]),
        "survivors-refused",
    ),
    "a header altered on the way": (
        lambda a: with_headers(
            a,
            [altered(headers(a)[0], b'"round":1', b'"round":2'), *headers(a)[1:]],
        ),
        "bad-envelope",
    ),
    "a header of another round": (forge_header(round=2), "survivors-refused"),
    "a header of another round_ctx": (forge_header(round_ctx="0" * 64), "survivors-refused"),
    "a header of another run": (forge_header(run="0" * 32), "survivors-refused"),
    "a header in another node's name": (forge_header(node=THREE), "survivors-refused"),
    "a header without commitments": (forge_header(masking=None), "survivors-refused"),
    "a header with a field more": (forge_header(extra=1), "bad-document"),
    "no headers": (lambda a: with_headers(a, []), "survivors-refused"),
    "a share missing": (shares_of(lambda s: s[:4]), "survivors-refused"),
    "shares swapped": (
        shares_of(lambda s: [s[0], s[2], s[1], *s[3:]]),
        "survivors-refused",
    ),
    "a share altered": (
        shares_of(lambda s: [s[0], bytes(48), *s[2:]]),
        "survivors-refused",
    ),
    "an empty share": (shares_of(lambda s: [s[0], b"", *s[2:]]), "survivors-refused"),
    "more shares than nodes": (shares_of(lambda s: s * 201), "payload-refused"),
    "frames that are cut off": (
        lambda a: {**a.survivors(ONE, NODES), "headers": b"\0\0\0\5abc"},
        "payload-refused",
    ),
    "signed by another member": (signed_by(TWO, SUM_SURVIVORS), "bad-envelope"),
    "a query's signature": (signed_by(None, SUM_QUERY), "bad-envelope"),
    "unsigned": (
        lambda a: {**a.survivors(ONE, NODES), "survivors": b"{}"},
        "bad-envelope",
    ),
    "nothing": (lambda _: {"kind": b"survivors"}, "bad-envelope"),
    "votes before this node's own": (
        lambda a: a.votes(
            a.asked(NODES), [a.ballot(node, a.asked(NODES)) for node in NODES[1:]]
        ),
        "votes-refused",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", SURVIVORS.values(), ids=SURVIVORS.keys())
def test_a_survivor_set_that_is_not_all_as_it_should_gets_no_vote(
    uploaded: Attack, case: tuple[Callable[[Attack], Payload], str]
) -> None:
    forge, code = case
    refused(uploaded, forge(uploaded), code)


def test_a_share_against_its_commitment_names_its_giver_to_the_bank(bank: HostileBank) -> None:
    attack = bank.begin([ONE])
    attack.collect()
    colluder = attack.colluders[THREE]
    state = colluder.rounds[1]
    other = colluder.masked(1, state.round_ctx.hex(), 1)
    made = check_header(other["header"], colluder.home).masking
    assert made is not None
    # What is encrypted is what is signed; what is committed to is not what is encrypted.
    body = contents(attack.header(THREE))
    own = body["masking"]
    assert isinstance(own, dict)
    body["masking"] = {**own, "shares": list(made.shares)}
    signed = seal(SUM_MASKED, body, colluder.home.identity, THREE)
    attack.uploads[THREE, 1] = {**attack.uploads[THREE, 1], "header": signed}
    refused(attack, attack.survivors(ONE, NODES), "share-wrong")
    answer = attack.ask(ONE, attack.survivors(ONE, NODES))
    home = bank.homes[ONE]
    body = dict(open_envelope(answer["refusal"], REFUSAL, home.identity.public).body)
    assert body["giver"] == THREE


# -- votes -------------------------------------------------------------------------------


def ballots(attack: Attack, *nodes: str) -> list[bytes]:
    asked = attack.asked(NODES[:4])
    return [attack.ballot(node, asked) for node in nodes]


def own_vote(attack: Attack) -> bytes:
    return attack.ask(ONE, attack.survivors(ONE, NODES[:4]))["vote"]


VOTES: dict[str, tuple[Callable[[Attack], list[bytes]], str]] = {
    "one too few": (lambda a: [own_vote(a), *ballots(a, TWO, THREE)], "votes-refused"),
    "none": (lambda _: [], "votes-refused"),
    "a repeated voter": (
        lambda a: [own_vote(a), *ballots(a, TWO, THREE, THREE)],
        "votes-refused",
    ),
    "a quorum, and one voter twice": (
        lambda a: [own_vote(a), *ballots(a, TWO, THREE, FOUR, FOUR)],
        "votes-refused",
    ),
    "a node that dropped out": (
        lambda a: [own_vote(a), *ballots(a, TWO, THREE, FIVE)],
        "votes-refused",
    ),
    "more votes than nodes": (lambda a: ballots(a, TWO, THREE, FOUR) * 2, "votes-refused"),
    "a vote for another set": (
        lambda a: [
            own_vote(a), *ballots(a, TWO, THREE),
            a.ballot(FOUR, a.asked((ONE, TWO, FOUR, FIVE))),
        ],
        "votes-refused",
    ),
    "a vote on other headers": (
        lambda a: [
            own_vote(a), *ballots(a, TWO, THREE),
            a.ballot(FOUR, a.asked(NODES[:4], headers="0" * 64)),
        ],
        "votes-refused",
    ),
    "a vote in another round": (
        lambda a: [
            own_vote(a), *ballots(a, TWO, THREE),
            a.ballot(FOUR, replace(a.asked(NODES[:4]), round=2)),
        ],
        "votes-refused",
    ),
    "a vote under another type": (
        lambda a: [
            own_vote(a), *ballots(a, TWO, THREE),
            a.ballot(FOUR, a.asked(NODES[:4]), SUM_SURVIVORS),
        ],
        "bad-envelope",
    ),
    "a header for a vote": (
        lambda a: [own_vote(a), *ballots(a, TWO, THREE), a.header(FOUR)],
        "bad-envelope",
    ),
    "the bank's vote": (
        lambda a: [own_vote(a), *ballots(a, TWO, THREE), a.signed(a.asked(NODES[:4]))],
        "roster-refused",
    ),
    "a vote altered on the way": (
        lambda a: [
            own_vote(a), *ballots(a, TWO, THREE),
            altered(ballots(a, FOUR)[0], b'"round":1', b'"round":2'),
        ],
        "bad-envelope",
    ),
    "a forged own vote": (
        lambda a: [altered(own_vote(a), b'"round":1', b'"round":2'), *ballots(a, TWO, THREE, FOUR)],
        "bad-envelope",
    ),
    "no vote at all": (lambda _: [b""], "bad-envelope"),
    "more parts than nodes": (lambda _: [b""] * 1001, "payload-refused"),
}  # fmt: skip


@pytest.mark.parametrize("case", VOTES.values(), ids=VOTES.keys())
def test_votes_that_are_no_certificate_open_nothing(
    voted: Attack, case: tuple[Callable[[Attack], list[bytes]], str]
) -> None:
    forge, code = case
    refused(voted, voted.votes(voted.asked(NODES[:4]), forge(voted)), code)


def test_a_node_votes_once_also_after_a_restart(bank: HostileBank) -> None:
    attack = bank.begin([ONE])
    attack.collect()
    first, other = NODES[:4], (ONE, TWO, FOUR, FIVE)
    answer = attack.ask(ONE, attack.survivors(ONE, first))
    assert unpack(answer["shares"], 5) == ()
    # A late drop-out, and shown alive to some and gone to others: each is another set.
    certified = [attack.ballot(node, attack.asked(other)) for node in other[1:]]
    for _ in range(2):
        for chosen in (other, NODES):
            refused(attack, attack.survivors(ONE, chosen), "second-vote")
            votes = [attack.ballot(node, attack.asked(chosen)) for node in chosen[1:]]
            refused(attack, attack.votes(attack.asked(chosen), votes), "second-vote")
        assert attack.ask(ONE, attack.survivors(ONE, first)) == answer
        bank.restart(ONE)
    refused(attack, attack.votes(attack.asked(other), certified), "second-vote")
    # What it knew of the round is gone with its memory: the true votes open nothing now.
    asked = attack.asked(first)
    votes = [answer["vote"], *(attack.ballot(node, asked) for node in first[1:])]
    refused(attack, attack.votes(asked, votes), "round-before-restart")


def test_a_node_that_restarts_before_it_votes_does_not_vote(bank: HostileBank) -> None:
    attack = bank.begin([ONE])
    attack.collect()
    bank.restart(ONE)
    refused(attack, attack.survivors(ONE, NODES), "round-before-restart")
    again = attack.ask(ONE, attack.query())
    assert again["vector"] == attack.uploads[ONE, 1]["vector"]
    refused(attack, attack.survivors(ONE, NODES), "round-before-restart")


def test_an_earlier_round_gets_no_vote_once_a_later_one_is_answered(bank: HostileBank) -> None:
    attack = bank.begin([ONE])
    attack.collect()
    attack.collect(2)
    refused(attack, attack.survivors(ONE, NODES), "query-out-of-order")
    # Its receipt is logged, so its bytes are gone: it can be repeated no more.
    refused(attack, attack.query(), "round-void")
    home = bank.homes[ONE]
    told = open_envelope(attack.ask(ONE, attack.query())["refusal"], REFUSAL, home.identity.public)
    assert "the bytes were let go" in str(told.body["reason"])
    assert attack.ask(ONE, attack.survivors(ONE, NODES, 2))["kind"] == b"vote"


def test_messages_of_a_run_that_is_over_are_refused(bank: HostileBank) -> None:
    attack = bank.begin([ONE])
    attack.collect()
    asked = attack.asked(NODES)
    own = attack.ask(ONE, attack.survivors(ONE, NODES))["vote"]
    votes = [own, *(attack.ballot(node, asked) for node in NODES[1:4])]
    results: list[tuple[dict[str, object], list[bytes], str]] = [
        ({}, votes[:3], "votes-refused"),
        ({"survivors": list(NODES[:4])}, votes, "votes-refused"),
        ({"votes": ""}, votes, "query-refused"),
        ({"round_ctx": "0" * 64}, votes, "query-refused"),
    ]
    for changes, sent, code in results:
        refused(attack, attack.result(asked, sent, **changes), code)
    other = attack.asked((ONE, TWO, FOUR, FIVE))
    forged = [attack.ballot(node, other) for node in (TWO, FOUR, FIVE)]
    refused(attack, attack.result(other, [own, *forged]), "second-vote")
    assert attack.ask(ONE, attack.result(asked, votes)) == {"kind": b"noted"}
    refused(attack, attack.keys(), "query-out-of-order")
    refused(attack, attack.query(2), "roster-refused")
    refused(attack, {**attack.query(2), **attack.introduction()}, "roster-refused")
    refused(attack, attack.survivors(ONE, NODES), "query-refused")
    refused(attack, attack.votes(asked, votes), "query-refused")
    changed = attack.result(asked, votes, total="1" * 64)
    refused(attack, changed, "query-out-of-order")


def test_no_bytes_make_a_session_raise(bank: HostileBank) -> None:
    """Every part of every message cut, emptied, doubled or with a byte changed: an answer comes."""
    attack = bank.begin([ONE])
    attack.collect()
    asked, random = attack.asked(NODES[:4]), Random(1)
    votes = [attack.ballot(node, asked) for node in NODES[1:4]]
    messages = [
        attack.keys(),
        attack.query(2) | attack.introduction(),
        attack.survivors(ONE, NODES[:4]),
        attack.votes(asked, votes),
        attack.result(asked, votes),
    ]
    for message in messages:
        for part, value in message.items():
            at = random.randrange(len(value)) if value else 0
            for changed in (
                b"",
                value[: len(value) // 2],
                value * 2,
                value[:at] + bytes([random.randrange(256)]) + value[at + 1 :],
            ):
                if changed != value:
                    answer = attack.ask(ONE, {**message, part: changed})
                    assert answer["kind"] in (b"refusal", b"keyad", b"masked", b"vote")
