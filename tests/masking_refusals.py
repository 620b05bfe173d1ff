"""What must be refused at set-up, of survivor sets, votes and shares: each as the bytes sent.

A case holds JSON values only, so that it can be stored as a known answer. Where a document of the
honest round stands unaltered, its node's name stands for it.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from masking_world import AT, NODES, Round, World

from hejin_privacy.messages import Commitments, MaskedHeader
from hejin_privacy.secure_sum.bank import (
    BankRound,
    check_masked,
    check_seeds,
    check_shares,
    open_total,
)
from hejin_privacy.secure_sum.documents import SurvivorSet
from hejin_privacy.secure_sum.keys import LOW_ORDER, Advertised, Invitation, open_roster, share_key
from hejin_privacy.secure_sum.node import Revealed, reveal, share_commitment, vote
from hejin_privacy.shamir import FIELD
from hejin_trust.canonical import time_from, time_text
from hejin_trust.envelope import SUM_KEYAD, SUM_MASKED, SUM_SURVIVORS, SUM_VOTE, seal

Inputs = dict[str, Any]
WITHOUT_JING = ("anping", "baigou", "dingzhou", "yongnian")
WITHOUT_ANPING = NODES[1:]
TAKER = "baigou"


@dataclass(frozen=True)
class Case:
    """One refusal: at which step, of what, with which code and which words in its sentence."""

    name: str
    step: str
    code: str
    said: str
    inputs: Inputs


def honest_world() -> Round:
    """Return a round of five nodes whose total wraps around 2^64 in both directions."""
    return honest_round(World())


def honest_round(world: World) -> Round:
    least, most = -(2**63), 2**63 - 1
    columns = {
        "anping": [1, most, least, -1, 0, 2**40],
        "baigou": [2, most, least, -1, 0, -(2**40)],
        "dingzhou": [3, most, least, -1, 0, 7],
        "jing": [4, most, least, -1, 0, 11],
        "yongnian": [5, 1, least, -1, 0, 13],
    }
    return Round(world, columns)


# -- set-up ------------------------------------------------------------------------------


def roster_cases(world: World) -> Iterator[Case]:
    """Yield every roster that a node must not mask with."""

    def case(
        name: str,
        code: str,
        said: str,
        keyads: Sequence[str],
        certificates: Sequence[str] | None = None,
        **rest: object,
    ) -> Case:
        inputs: Inputs = {"keyads": list(keyads), **rest}
        if certificates is not None:
            inputs["certificates"] = list(certificates)
        return Case(name, "roster", code, said, inputs)

    def altered(node: str, /, **changes: str) -> list[str]:
        """Everybody's key, with one that its node signed otherwise."""
        return [_text(world.advertise(node, **changes).envelope), *_but(node)]

    def keyed(key: int | bytes) -> list[str]:
        raw = key if isinstance(key, bytes) else key.to_bytes(32, "little")
        return altered("jing", key=raw.hex())

    people = world.people
    refused, keyed_wrong = "roster-refused", "key-refused"
    outsider = _text(world.advertise("uninvited").envelope)
    yield case("other-run", refused, "another run or plan", altered("jing", run="0e" * 16))
    yield case("other-plan", refused, "another run or plan", altered("jing", plan="ac" * 32))
    yield case("not-invited", refused, "does not invite", [outsider, *_but("jing")])
    yield case("too-small", refused, "it has 3 nodes", NODES[:3])
    yield case("too-large", refused, "it has 6 nodes", [outsider, *NODES])
    yield case("p1-honest", "thresholds-unsafe", "holds 1 honest", NODES, tau=5, m=5, t=4)
    yield case("p1-colluders", "thresholds-unsafe", "two different", NODES, t=3)
    yield case("p1-quorum", "thresholds-unsafe", "two different", NODES, tau=3)
    yield case("p1-of-a-larger-roster", "thresholds-unsafe", "with 5 nodes", NODES, tau=3, m=3)
    yield case("node-twice", refused, "twice", [
        _text(world.advertise("anping", key=people["jing"].public.hex()).envelope),
        *_but("jing"),
    ])  # fmt: skip
    yield case("key-copied", refused, "twice", keyed(people["anping"].public))
    own = _text(world.advertise("anping", expires=time_text(AT + timedelta(days=1))).envelope)
    yield case("own-key-altered", refused, "own key", [own, *_but("anping")], own="anping")
    yield case("own-key-missing", refused, "own key", _but("anping"), own="anping")
    yield case("certificates-swapped", refused, "certificate", NODES, [
        "baigou", "anping", *NODES[2:],
    ])  # fmt: skip
    yield case("keys-swapped", refused, "does not invite", altered("jing", node="anping"))
    yield case("other-certificate", refused, "certificate", altered("jing", certificate="cd" * 32))
    yield case(
        "revoked-certificate", refused, "certificate", NODES, NODES, replaced={"jing": "late"}
    )
    bank = seal(SUM_KEYAD, world.keyad("bank").body(), people["bank"].identity, "bank")
    yield case("bank-as-node", "not-a-member", "no node", [_text(bank), *_but("jing")],
               ["bank", *_but("jing")], invited=["bank"])  # fmt: skip
    for name, code, said in (
        ("late", "bad-certificate", "expired"),
        ("revoked", "not-a-member", "revoked"),
    ):
        envelope = _text(world.advertise(name).envelope)
        yield case(f"{name}-node", code, said, [envelope, *_but("jing")],
                   [name, *_but("jing")], invited=[name])  # fmt: skip
    yield case("not-yet-valid", "bad-certificate", "valid only from", NODES,
               at=time_text(AT - timedelta(days=2)))  # fmt: skip
    yield case("key-expired", refused, "expired", altered("jing", expires=time_text(AT)))
    twisted = people["anping"].public[:31] + bytes([people["anping"].public[31] | 0x80])
    yield case("bit-255", keyed_wrong, "not canonical", keyed(twisted))
    yield case("own-bit-255", keyed_wrong, "not canonical", keyed(
        people["jing"].public[:31] + bytes([people["jing"].public[31] | 0x80])
    ))  # fmt: skip
    yield case("key-is-p", keyed_wrong, "not canonical", keyed(FIELD))
    yield case("key-is-nine-plus-p", keyed_wrong, "not canonical", keyed(FIELD + 9))
    yield case("key-all-ones", keyed_wrong, "not canonical", keyed(2**255 - 1))
    for place, low in enumerate(sorted(LOW_ORDER)):
        yield case(f"low-order-{place}", keyed_wrong, "low order", keyed(low))
    yield case("short-key", "bad-document", "key", altered("jing", key="ab" * 31))
    body = world.keyad("jing").body()
    jing = people["jing"].identity
    for name, kind, fields, code, said in (
        ("keyad-as-vote", SUM_VOTE, body, "bad-envelope", "not of type"),
        ("keyad-with-more", SUM_KEYAD, {**body, "more": 1}, "bad-document", "unknown field"),
        ("keyad-version", SUM_KEYAD, {**body, "v": 2}, "bad-document", "v"),
    ):
        yield case(name, code, said, [_text(seal(kind, fields, jing, "jing")), *_but("jing")])
    stranger = _text(seal(SUM_KEYAD, body, people["anping"].identity, "jing"))
    yield case("keyad-forged", "bad-envelope", "signature", [stranger, *_but("jing")])
    yield case("keyad-of-nobody", "not-a-member", "no node", [
        _text(seal(SUM_KEYAD, body, jing, "nobody")), *_but("jing"),
    ])  # fmt: skip
    yield case("checkpoint-of-another", "checkpoint-invalid", "refused", altered(
        "jing", checkpoint=world.keyad("anping").checkpoint
    ))  # fmt: skip


def refuse_roster(world: World, inputs: Inputs) -> None:
    """Show a roster to the real code."""
    stored: Mapping[str, str] = inputs.get("replaced", {})

    def advertised(keyad: str, holder: str) -> Advertised:
        honest = world.advertise(keyad).envelope if keyad in NODES else keyad.encode()
        return Advertised(honest, world.people[stored.get(holder, holder)].certificate)

    keyads: list[str] = inputs["keyads"]
    invitation = _invitation(world, inputs)
    open_roster(
        [advertised(keyad, holder) for keyad, holder in zip(keyads, _holders(inputs), strict=True)],
        invitation,
        time_from(inputs["at"]) if "at" in inputs else AT,
        world.advertise(inputs["own"]).envelope if "own" in inputs else None,
    )


def _holders(inputs: Inputs) -> list[str]:
    """Return whose certificate goes with each key: the signer's, unless the case says so."""
    if "certificates" in inputs:
        holders: list[str] = inputs["certificates"]
        return holders
    signers = [
        keyad if keyad in NODES else json.loads(keyad)["signatures"][0]["keyid"]
        for keyad in inputs["keyads"]
    ]
    return [name if name != "nobody" else "jing" for name in signers]


def _invitation(world: World, inputs: Inputs) -> Invitation:
    known = world.invitation
    return replace(
        known,
        nodes=known.nodes | frozenset(inputs.get("invited", ())),
        tau=inputs.get("tau", known.tau),
        m=inputs.get("m", known.m),
        t=inputs.get("t", known.t),
    )


# -- survivor sets -----------------------------------------------------------------------


def survivor_cases(honest: Round) -> Iterator[Case]:
    """Yield every survivor set that the node TAKER must not vote for."""
    world = honest.world

    def case(
        name: str,
        said: str,
        survivors: Sequence[str] = NODES,
        code: str = "survivors-refused",
        headers: Sequence[str] | None = None,
        shares: Sequence[str] | None = None,
        asked: Mapping[str, object] | None = None,
        **rest: object,
    ) -> Case:
        inputs: Inputs = {
            "node": TAKER,
            "asked": {**honest.asked(survivors).body(), **(asked or {})},
            "headers": list(survivors if headers is None else headers),
            "shares": list(survivors if shares is None else shares),
            **rest,
        }
        return Case(name, "survivors", code, said, inputs)

    def headed(
        name: str,
        said: str,
        node: str,
        code: str = "survivors-refused",
        kind: str = SUM_MASKED,
        signer: str = "",
        /,
        **changes: Any,
    ) -> Case:
        """Everybody survives, one node's header says something else; the bank hashes it."""
        body = replace(_header(honest, node), **changes).body()
        person = world.people[signer or node]
        envelope = _text(seal(kind, body, person.identity, node))
        return with_header(case(name, said, code=code), honest, node, envelope)

    other = honest.asked(NODES)
    yield case("set-of-another-run", "another round", asked={"run": "0e" * 16})
    yield case("set-of-another-round", "another round", asked={"round": 2})
    yield case("set-of-another-query", "another round", asked={"round_ctx": "00" * 32})
    yield case("stranger-in-the-set", "not in the roster", headers=NODES,
               asked={"survivors": [*NODES[:4], "zhuozhou"]})  # fmt: skip
    yield case("below-the-minimum", "at least 4 are needed", NODES[:3])
    yield case("answered-and-left-out", "is not in it", ("anping", "dingzhou", "jing", "yongnian"))
    yield case("header-missing", "5 nodes have 4 headers", headers=NODES[:4])
    yield case("share-missing", "5 nodes have 5 headers and 4 shares", shares=NODES[:4])
    yield case("hash-of-other-headers", "not those that came", asked={"headers": "00" * 32})
    yield case("headers-swapped", "not signed by anping", code="bad-envelope",
               headers=("baigou", "anping", *NODES[2:]))  # fmt: skip
    yield case("survivors-unsorted", "sorted", code="message-malformed",
               asked={"survivors": list(reversed(NODES))})  # fmt: skip
    yield case("survivor-twice", "unique", code="message-malformed",
               asked={"survivors": ["anping", *NODES]})  # fmt: skip
    yield case("survivor-revoked", "revoked", code="not-a-member", revoked=["jing"])
    yield case("second-vote", "votes once", code="second-vote",
               voted=honest.asked(WITHOUT_JING).body())  # fmt: skip
    yield case("second-vote-for-fewer", "votes once", WITHOUT_JING, code="second-vote",
               voted=other.body())  # fmt: skip

    made = _made(honest, "jing")
    yield headed("header-of-another-round", "another round", "jing", round=2)
    yield headed("header-of-another-query", "another round", "jing", round_ctx="00" * 32)
    yield headed("header-of-another-run", "another round", "jing", run="0e" * 16)
    yield headed("header-of-another-node", "another round", "jing", node="anping")
    yield headed("header-unmasked", "does not commit", "jing", masking=None)
    yield headed("header-with-another-place", "does not commit", "jing",
                 masking=_made(honest, "anping"))  # fmt: skip
    yield headed("header-for-fewer-nodes", "does not commit", "jing", masking=replace(
        made, shares=made.shares[:4], ciphertexts=made.ciphertexts[:4]))  # fmt: skip
    yield headed("own-header-altered", "own header", TAKER, reservation=8)
    yield headed("header-forged", "signature", "jing", "bad-envelope", SUM_MASKED, "anping")
    yield headed("header-as-vote", "not of type", "jing", "bad-envelope", SUM_VOTE)
    second = replace(_header(honest, "jing"), reservation=8)
    yield case("header-equivocated", "not those that came", headers=[
        *NODES[:3], _text(world.signed_header("jing", second)), "yongnian",
    ])  # fmt: skip

    cipher = honest.answers["jing"].masked.ciphertexts[1]
    flipped = bytes([cipher[0] ^ 1]) + cipher[1:]
    yield case("share-altered", "not the one that its node signed",
               shares=[*NODES[:3], flipped.hex(), "yongnian"])  # fmt: skip
    yield case("shares-swapped", "not the one that its node signed",
               shares=(*NODES[:3], "yongnian", "jing"))  # fmt: skip
    yield case("share-left-out", "not the one that its node signed",
               shares=[*NODES[:3], "", "yongnian"])  # fmt: skip
    party = honest.states["jing"].party
    key = share_key(party.pairs[2], honest.round_ctx, 4, 2)
    share = ChaCha20Poly1305(key).decrypt(bytes(12), cipher, honest.round_ctx)
    for name, sealed, committed in (
        ("share-that-does-not-open", flipped, None),
        ("share-against-its-commitment", cipher, share[:31] + bytes([share[31] ^ 1])),
        ("share-too-short", ChaCha20Poly1305(key).encrypt(
            bytes(12), share[:31], honest.round_ctx), share[:31]),
    ):  # fmt: skip
        hashes, commitments = list(made.ciphertexts), list(made.shares)
        hashes[1] = hashlib.sha256(sealed).hexdigest()
        if committed is not None:
            commitments[1] = share_commitment(honest.round_ctx, 4, 2, committed)
        wrong = headed(name, "jing for baigou", "jing", "share-wrong", masking=replace(
            made, shares=tuple(commitments), ciphertexts=tuple(hashes)))  # fmt: skip
        wrong.inputs["shares"][3] = sealed.hex()
        yield wrong


def with_header(case: Case, honest: Round, node: str, envelope: str) -> Case:
    """Return a case with another header of one node, and with the bank's hash over it."""
    place = NODES.index(node)
    case.inputs["headers"][place] = envelope
    documents = honest.headers(NODES)
    documents[place] = envelope.encode()
    hashed = hashlib.sha256()
    for document in documents:
        payload = _payload(document)
        hashed.update(len(payload).to_bytes(4, "big") + payload)
    case.inputs["asked"]["headers"] = hashed.hexdigest()
    return case


def refuse_survivors(honest: Round, inputs: Inputs) -> None:
    """Show a survivor set to the real code."""
    world, node = honest.world, inputs["node"]
    place = honest.roster.index(node) - 1
    state = honest.states[node]
    if "voted" in inputs:
        state = replace(state, voted=SurvivorSet.parse(inputs["voted"]))
    members = tuple(
        replace(member, status="revoked") if member.id in inputs.get("revoked", ()) else member
        for member in world.charter.members
    )
    vote(
        state,
        SurvivorSet.parse(inputs["asked"]),
        [
            honest.answers[item].header if item in NODES else item.encode()
            for item in inputs["headers"]
        ],
        [
            honest.answers[item].masked.ciphertexts[place] if item in NODES else bytes.fromhex(item)
            for item in inputs["shares"]
        ],
        replace(world.charter, members=members),
    )


# -- votes -------------------------------------------------------------------------------


def vote_cases(honest: Round) -> Iterator[Case]:
    """Yield every set of votes for which the node TAKER must reveal nothing."""
    world, people = honest.world, honest.world.people
    asked, whole = honest.asked(WITHOUT_JING), honest.asked(NODES)

    def case(name: str, said: str, votes: Sequence[str], code: str = "votes-refused",
             voted: SurvivorSet | None = asked) -> Case:  # fmt: skip
        inputs: Inputs = {
            "node": TAKER,
            "voted": None if voted is None else voted.body(),
            "votes": list(votes),
        }
        return Case(name, "votes", code, said, inputs)

    three = ("anping", "baigou", "dingzhou")

    def fourth(name: str, said: str, envelope: bytes, code: str = "votes-refused") -> Case:
        return case(name, said, [*three, _text(envelope)], code)

    yield case("before-the-vote", "has not voted", WITHOUT_JING, voted=None)
    yield case("no-votes", "there are 0 votes, 4 are needed", ())
    yield case("one-vote-short", "there are 3 votes, 4 are needed", three)
    yield case("vote-repeated", "twice", [*three, "anping"])
    yield case("more-votes-than-nodes", "more votes than nodes", [*WITHOUT_JING, "anping", "jing"])
    yield case("vote-from-outside-the-set", "outside the set", [*three, "jing"])
    yield fourth("vote-for-the-whole", "another survivor set", world.ballot("yongnian", whole))
    for what, changed in (
        ("round", replace(asked, round=2)),
        ("query", replace(asked, round_ctx="00" * 32)),
        ("run", replace(asked, run="0e" * 16)),
    ):
        ballot = world.ballot("yongnian", changed)
        yield fourth(f"vote-in-another-{what}", "another survivor set", ballot)
    equivocated = replace(asked, headers="00" * 32)
    ballot = world.ballot("yongnian", equivocated)
    yield fourth("vote-on-other-headers", "another survivor set", ballot)
    yield fourth("vote-as-survivors", "not of type", world.ballot(
        "yongnian", asked, SUM_SURVIVORS), "bad-envelope")  # fmt: skip
    body = asked.body()
    yield fourth("vote-forged", "signature", seal(
        SUM_VOTE, body, people["bank"].identity, "yongnian"), "bad-envelope")  # fmt: skip
    yield fourth("vote-of-the-bank", "not in it", seal(
        SUM_VOTE, body, people["bank"].identity, "bank"), "roster-refused")  # fmt: skip
    yield fourth("vote-of-a-stranger", "not in it", world.ballot(
        "uninvited", asked), "roster-refused")  # fmt: skip
    yield fourth("vote-with-more", "unknown field", seal(
        SUM_VOTE, {**body, "more": 1}, people["yongnian"].identity, "yongnian"
    ), "bad-document")  # fmt: skip


def refuse_votes(honest: Round, inputs: Inputs) -> None:
    """Show votes to the real code; whoever voted holds checked shares."""
    state, voted = honest.states[inputs["node"]], inputs["voted"]
    if voted is not None:
        state = honest.vote(inputs["node"], voted["survivors"])
    ballots = [
        honest.world.ballot(item, honest.asked(WITHOUT_JING)) if item in NODES else item.encode()
        for item in inputs["votes"]
    ]
    reveal(state, ballots)


# -- the bank's side ---------------------------------------------------------------------


def bank_cases(honest: Round) -> Iterator[Case]:
    """Yield what the bank refuses of its nodes' answers."""
    made = _made(honest, "jing")
    hexed = [c.hex() for c in honest.answers["jing"].masked.ciphertexts]
    malformed, shape = "answer-malformed", "does not have the shape"

    def masked(name: str, commitments: Commitments | None, ciphertexts: Sequence[str]) -> Case:
        inputs: Inputs = {
            "node": "jing",
            "made": None if commitments is None else commitments.body(),
            "ciphertexts": list(ciphertexts),
        }
        return Case(name, "masked", malformed, shape, inputs)

    yield masked("not-masked", None, hexed)
    yield masked("another-place", _made(honest, "anping"), hexed)
    yield masked("too-few-ciphertexts", made, hexed[:4])
    yield masked("too-many-ciphertexts", made, [*hexed, hexed[0]])
    yield masked("ciphertext-altered", made, ["00" * 48, *hexed[1:]])
    yield masked("ciphertext-missing", made, ["", *hexed[1:]])
    yield masked("ciphertexts-swapped", made, [hexed[1], hexed[0], *hexed[2:]])
    yield masked("ciphertext-for-itself", made, [*hexed[:3], hexed[0], hexed[4]])
    long = "00" * 49
    named = (hashlib.sha256(bytes.fromhex(long)).hexdigest(), *made.ciphertexts[1:])
    yield masked("ciphertext-too-long", replace(made, ciphertexts=named), [long, *hexed[1:]])
    fewer = replace(made, shares=made.shares[:4], ciphertexts=made.ciphertexts[:4])
    yield masked("for-fewer-nodes", fewer, hexed)

    held = [share.hex() for share in honest.vote(TAKER, WITHOUT_JING).shares]

    def shares(name: str, code: str, said: str, given: Sequence[str]) -> Case:
        inputs: Inputs = {"taker": TAKER, "survivors": WITHOUT_JING, "shares": list(given)}
        return Case(name, "shares", code, said, inputs)

    wrong = held[2][:-1] + ("0" if held[2][-1] != "0" else "1")
    yield shares("too-few-shares", malformed, shape, held[:3])
    yield shares("too-many-shares", malformed, shape, [*held, held[0]])
    yield shares("short-share", malformed, shape, [held[0][:-2], *held[1:]])
    yield shares("wrong-share", "share-wrong", "dingzhou for baigou", [*held[:2], wrong, held[3]])
    yield shares("swapped-shares", "share-wrong", "anping for baigou",
                 [held[1], held[0], *held[2:]])  # fmt: skip
    seeds = [seed.hex() for seed in _revealed(honest).seeds]
    for name, given in (
        ("no-seed", []),
        ("too-many-seeds", [*seeds, *seeds]),
        ("short-seed", [seeds[0][:-2]]),
    ):
        inputs: Inputs = {"giver": TAKER, "survivors": WITHOUT_JING, "seeds": given}
        yield Case(name, "seeds", malformed, shape, inputs)


def refuse_masked(honest: Round, inputs: Inputs) -> None:
    """Give a masked answer to the bank's real code."""
    made = inputs["made"]
    check_masked(
        honest.roster,
        inputs["node"],
        None if made is None else Commitments.parse(made),
        [bytes.fromhex(item) for item in inputs["ciphertexts"]],
    )


def refuse_shares(honest: Round, inputs: Inputs) -> None:
    """Give opened shares to the bank's real code."""
    state = bank_round(honest, inputs["survivors"])
    check_shares(state, inputs["taker"], [bytes.fromhex(item) for item in inputs["shares"]])


def refuse_seeds(honest: Round, inputs: Inputs) -> None:
    """Give opened seeds to the bank's real code."""
    state = bank_round(honest, inputs["survivors"])
    check_seeds(state, inputs["giver"], [bytes.fromhex(item) for item in inputs["seeds"]])


def bank_round(honest: Round, survivors: Sequence[str]) -> BankRound:
    """Return the bank's round once an honest bank has fixed its survivors."""
    vectors = [np.frombuffer(honest.answers[name].masked.vector, dtype="<u8") for name in survivors]
    total = np.zeros_like(vectors[0])
    for vector in vectors:
        total += vector
    asked = honest.asked(survivors)
    return BankRound(honest.roster, asked, {n: _made(honest, n) for n in survivors}, total)


def opened(honest: Round, survivors: Sequence[str], takers: Sequence[str]) -> list[int]:
    """Return the total that an honest bank opens with these takers' shares."""
    state = bank_round(honest, survivors)
    shares, seeds = {}, {}
    for name in survivors:
        voted = honest.vote(name, survivors)
        if name in takers:
            shares[name] = check_shares(state, name, voted.shares)
        if len(survivors) < honest.roster.size:
            revealed = reveal(voted, honest.ballots(survivors))
            seeds[name] = check_seeds(state, name, revealed.seeds)
    total: list[int] = open_total(state, shares, seeds).tolist()
    return total


REFUSE: dict[str, Callable[[Round, Inputs], None]] = {
    "roster": lambda honest, inputs: refuse_roster(honest.world, inputs),
    "survivors": refuse_survivors,
    "votes": refuse_votes,
    "masked": refuse_masked,
    "shares": refuse_shares,
    "seeds": refuse_seeds,
}


def all_cases(honest: Round) -> list[Case]:
    return [
        *roster_cases(honest.world),
        *survivor_cases(honest),
        *vote_cases(honest),
        *bank_cases(honest),
    ]


def _text(envelope: bytes) -> str:
    return envelope.decode()


def _but(*names: str) -> list[str]:
    return [name for name in NODES if name not in names]


def _payload(envelope: bytes) -> bytes:
    return base64.b64decode(json.loads(envelope)["payload"])


def _made(honest: Round, node: str) -> Commitments:
    return honest.answers[node].masked.commitments


def _header(honest: Round, node: str) -> MaskedHeader:
    return honest.world.header_body(
        node, honest.number, honest.round_ctx, honest.answers[node].masked
    )


def _revealed(honest: Round) -> Revealed:
    return reveal(honest.vote(TAKER, WITHOUT_JING), honest.ballots(WITHOUT_JING))
