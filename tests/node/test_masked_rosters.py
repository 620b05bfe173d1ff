"""A masking node against a hostile bank: keys and rosters that are lies."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hostile_bank import CALM, Attack, Colluder, HostileBank
from hostile_checks import (
    FIVE,
    FOUR,
    NODES,
    ONE,
    THREE,
    TWO,
    altered,
    contents,
    found,
    refused,
    spent,
)
from node_world import BANK

from hejin_node import offers
from hejin_node.masking import run_table
from hejin_privacy.errors import ThresholdError
from hejin_privacy.secure_sum.keys import LOW_ORDER
from hejin_privacy.shamir import FIELD
from hejin_trust.database import reading
from hejin_trust.envelope import (
    PLAN,
    REFUSAL,
    SUM_KEYAD,
    open_envelope,
    seal,
)
from hejin_trust.fleet import Payload, pack, unpack


@pytest.fixture
def fresh(bank: HostileBank) -> Attack:
    """A run whose only honest node has given its key."""
    return bank.begin([ONE])


def forge_keyad(**changes: str) -> Callable[[Attack], Payload]:
    """Return a roster in which node-2's key says something else."""
    return lambda attack: attack.introduction(node_2=attack.colluders[TWO].keyad(None, **changes))


def forge_key(key: Callable[[Attack], bytes]) -> Callable[[Attack], Payload]:
    """Return a roster in which node-2 registers another public key."""
    return lambda attack: attack.introduction(node_2=attack.colluders[TWO].keyad(point=key(attack)))


def victim_key(attack: Attack) -> bytes:
    return bytes.fromhex(str(contents(attack.keyads[ONE])["key"]))


def flip(key: bytes) -> bytes:
    return key[:31] + bytes([key[31] ^ 0x80])


def swap_own(attack: Attack) -> Payload:
    """The bank replaces node-1's key by its own, under node-1's signature."""
    own, other = victim_key(attack).hex(), "22" * 32
    return attack.introduction(node_1=altered(attack.keyads[ONE], own.encode(), other.encode()))


def bank_as_node(attack: Attack) -> Payload:
    world = attack.bank.world
    keyad = {**contents(attack.keyads[TWO]), "node": BANK}
    return attack.introduction(node_2=seal(SUM_KEYAD, keyad, world.bank.identity, BANK))


def bank_certificate(attack: Attack) -> Payload:
    """node-2's certificate is exchanged for the bank's."""
    made = attack.introduction()
    certificates = [attack.certificate(node) for node in NODES]
    certificates[1] = attack.bank.world.bank.certificate_pem
    return {**made, "certificates": pack(certificates)}


def twice(attack: Attack) -> Payload:
    made = attack.introduction()
    keyads, certificates = (list(unpack(made[k], 9)) for k in ("keyads", "certificates"))
    keyads[2], certificates[2] = keyads[1], certificates[1]
    return {"keyads": pack(keyads), "certificates": pack(certificates)}


def of_another_run(attack: Attack) -> Payload:
    other = attack.bank.begin([ONE])
    return attack.introduction(node_1=other.keyads[ONE])


ROSTERS: dict[str, tuple[Callable[[Attack], Payload], str]] = {
    "none": (lambda _: {}, "roster-refused"),
    "three nodes": (lambda a: a.introduction(*NODES[:3]), "roster-refused"),
    "without this node": (lambda a: a.introduction(*NODES[1:]), "roster-refused"),
    "own key altered by the bank": (swap_own, "bad-envelope"),
    "own key of another run": (of_another_run, "roster-refused"),
    "another key of this node, signed by itself": (
        lambda a: a.introduction(node_1=Colluder(a.bank.homes[ONE], a).keyad()),
        "roster-refused",
    ),
    "another node's key altered by the bank": (
        lambda a: a.introduction(
            node_2=altered(a.keyads[TWO], str(contents(a.keyads[TWO])["key"]).encode(), b"2" * 64)
        ),
        "bad-envelope",
    ),
    "keys swapped": (lambda a: a.introduction(node_2=a.keyads[THREE]), "roster-refused"),
    "a node twice": (twice, "roster-refused"),
    "a colluder with the victim's key": (forge_key(victim_key), "roster-refused"),
    "a colluder with the victim's key, bit 255 set": (
        forge_key(lambda a: flip(victim_key(a))),
        "key-refused",
    ),
    "a key of its own, bit 255 set": (
        forge_key(lambda _: b"\x09" + bytes(30) + b"\x80"),
        "key-refused",
    ),
    "the field's order plus nine": (
        forge_key(lambda _: (FIELD + 9).to_bytes(32, "little")),
        "key-refused",
    ),
    **{
        f"low order {number}": (
            forge_key(lambda _, value=value: value.to_bytes(32, "little")),  # type: ignore[misc]
            "key-refused",
        )
        for number, value in enumerate(sorted(LOW_ORDER))
    },
    "a key for another run": (forge_keyad(run="f" * 32), "roster-refused"),
    "a key for another plan": (forge_keyad(plan="f" * 64), "roster-refused"),
    "a key in another node's name": (forge_keyad(node=THREE), "roster-refused"),
    "a key that has expired": (forge_keyad(expires="2020-01-01T00:00:00Z"), "roster-refused"),
    "a key with a field more": (forge_keyad(extra="x"), "bad-document"),
    "a key of 31 bytes": (forge_keyad(key="0" * 62), "bad-document"),
    "a checkpoint that nobody signed": (forge_keyad(checkpoint="x"), "checkpoint-invalid"),
    "the bank in a node's role": (bank_as_node, "not-a-member"),
    "the bank's certificate for a node's": (bank_certificate, "roster-refused"),
    "a certificate missing": (
        lambda a: {**a.introduction(), "certificates": pack([b""] * 4)},
        "roster-refused",
    ),
    "no certificate": (lambda a: {"keyads": a.introduction()["keyads"]}, "roster-refused"),
    "a certificate that is none": (
        lambda a: {**a.introduction(), "certificates": pack([b"x"] * 5)},
        "bad-certificate",
    ),
    "more keys than nodes": (
        lambda a: {
            "keyads": pack([a.keyads[TWO]] * 6),
            "certificates": pack([a.certificate(TWO)] * 6),
        },
        "roster-refused",
    ),
    "more parts than any roster": (
        lambda a: {**a.introduction(), "keyads": pack([b""] * 1001)},
        "payload-refused",
    ),
    "a frame that is cut off": (
        lambda a: {**a.introduction(), "keyads": a.introduction()["keyads"][:-1]},
        "payload-refused",
    ),
    "a length beyond the frame": (
        lambda a: {**a.introduction(), "keyads": b"\xff\xff\xff\xff" + bytes(9)},
        "payload-refused",
    ),
    "envelopes that are none": (
        lambda a: {**a.introduction(), "keyads": pack([b"{}"] * 5)},
        "bad-envelope",
    ),
}  # fmt: skip


def test_a_roster_that_is_not_all_as_it_should_is_refused(fresh: Attack) -> None:
    for name, (forge, code) in ROSTERS.items():
        try:
            refused(fresh, {**fresh.query(), **forge(fresh)}, code)
        except AssertionError as reason:
            raise AssertionError(name) from reason
    # None of them was taken for the run's one roster.
    answer = fresh.ask(ONE, {**fresh.query(), **fresh.introduction()})
    assert answer["kind"] == b"masked"


def test_a_roster_with_a_revoked_node_or_an_expired_certificate_is_refused(
    tmp_path: Path,
) -> None:
    with ExitStack() as stack:
        bank = found(tmp_path, stack)
        attack, running = bank.begin([ONE]), bank.begin([ONE])
        running.collect()
        whole = {**attack.query(), **attack.introduction()}
        bank.world.office.revoke(THREE, bank.world.clock())
        for home in bank.homes.values():
            home.charters.update(bank.world.office.charters.signed())
        refused(attack, whole, "not-a-member")
        # In a run that has begun it is no survivor any more.
        refused(running, running.survivors(ONE, NODES), "not-a-member")
        without = (ONE, TWO, FOUR, FIVE)
        assert running.ask(ONE, running.survivors(ONE, without))["kind"] == b"vote"
        bank.world.office.revoke(BANK, bank.world.clock())
        bank.homes[ONE].charters.update(bank.world.office.charters.signed())
        for payload in (running.keys(), running.query(2), running.survivors(ONE, without)):
            refused(running, payload, "not-a-member")


def test_a_node_masks_with_no_expired_certificate_and_keeps_no_key_of_an_expired_plan(
    tmp_path: Path,
) -> None:
    with ExitStack() as stack:
        bank = found(tmp_path, stack)
        attack = bank.begin([ONE])
        whole = {**attack.query(), **attack.introduction()}
        bank.world.clock.turn(timedelta(days=29))
        bank.sessions[ONE].fetch_receipts()
        assert run_keys(bank) == 1
        bank.world.clock.turn(timedelta(days=337))
        refused(attack, whole, "bad-certificate")
        bank.sessions[ONE].fetch_receipts()
        assert run_keys(bank) == 0  # the plan has expired
        bank.world.clock.turn(timedelta(days=-366))
        # The regulator has cosigned next year: it does not go back, and nothing is charged.
        home = bank.homes[ONE]
        answer = attack.ask(ONE, whole)
        body = open_envelope(answer["refusal"], REFUSAL, home.identity.public, ONE).body
        assert body["code"] == "witness-refused"
        assert spent(bank, ONE) == 0


def run_keys(bank: HostileBank) -> int:
    """Return for how many runs node-1 holds keys."""
    with reading(bank.homes[ONE].database) as connection:
        return len(connection.execute(run_table.select()).all())


def test_a_run_has_one_roster_and_its_key_is_made_once(bank: HostileBank, fresh: Attack) -> None:
    again = fresh.ask(ONE, fresh.keys())
    assert again["keyad"] == fresh.keyads[ONE]
    question = {**fresh.query(), **fresh.introduction()}
    first = fresh.ask(ONE, question)
    assert first["kind"] == b"masked"
    for restarted in (False, True):
        if restarted:
            bank.restart(ONE)
        for other in (
            fresh.introduction(*NODES[:4]),
            fresh.introduction(node_2=fresh.colluders[TWO].keyad(point=b"\x09" + bytes(31))),
        ):
            refused(fresh, {**fresh.query(), **other}, "roster-refused")
            refused(fresh, {**fresh.query(2), **other}, "roster-refused")
        assert fresh.ask(ONE, question)["vector"] == first["vector"]
        assert fresh.ask(ONE, fresh.keys())["keyad"] == fresh.keyads[ONE]


def test_a_key_is_given_for_one_run_of_an_approved_plan(bank: HostileBank, fresh: Attack) -> None:
    for changes, code in (
        ({"run": b"f" * 32}, "query-out-of-order"),
        ({"run": b"f" * 31}, "bad-document"),
        ({"run": b"\xff" * 32}, "bad-document"),
        ({"plan": b"f" * 64}, "plan-unknown"),
        ({"plan": b""}, "bad-document"),
    ):
        refused(fresh, {**fresh.keys(), **changes}, code)
    envelope, digest, _ = bank.world.propose(**CALM)  # type: ignore[arg-type]
    offers.receive(bank.homes[ONE], envelope)
    refused(fresh, {"kind": b"keys", "run": b"e" * 32, "plan": digest.encode()}, "query-refused")
    unmasked = replace(fresh.plan, mode="node", quorum=0, colluders=0, nonce="0" * 32)
    envelope = seal(PLAN, unmasked.body(), bank.world.bank.identity, BANK)
    digest = open_envelope(envelope, PLAN, bank.world.bank.identity.public).digest
    offers.receive(bank.homes[ONE], envelope)
    offers.approve(bank.homes[ONE], digest, "test")
    refused(fresh, {"kind": b"keys", "run": b"e" * 32, "plan": digest.encode()}, "query-refused")


def test_a_plan_whose_thresholds_two_sets_could_pass_is_not_even_received(
    bank: HostileBank,
) -> None:
    _, _, plan = bank.world.propose(**CALM)  # type: ignore[arg-type]
    for changes in (
        {"quorum": 3},  # 2 tau = n + t
        {"minimum_nodes": 3},  # below the quorum
        {"colluders": 3},
        {"quorum": 1},
    ):
        body = {**plan.body(), **changes}
        envelope = seal(PLAN, body, bank.world.bank.identity, BANK)
        with pytest.raises(ThresholdError) as refused:
            offers.receive(bank.homes[ONE], envelope)
        assert refused.value.code == "thresholds-unsafe"
