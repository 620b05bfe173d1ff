"""Known answers of the masking protocol: the project's code and the slow one both give them."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from masking_refusals import REFUSE, WITHOUT_JING, all_cases, honest_round, opened
from masking_world import NODES, Round, World, payloads, person
from slow_crypto import ed25519_sign, x25519_public
from slow_secure_sum import D, SlowNode, SlowRound, pae, stream

from hejin_privacy.secure_sum.documents import documents_hash
from hejin_privacy.secure_sum.node import reveal
from hejin_trust.errors import HejinError

ANSWERS: dict[str, Any] = json.loads(
    (Path(__file__).parent / "vectors" / "secure_sum.json").read_text()
)
PEOPLE = {name: person(name, pem.encode()) for name, pem in ANSWERS["certificates"].items()}
HONEST: Round = honest_round(World(people=PEOPLE))
SLOW = SlowRound(
    run=ANSWERS["run"],
    plan=ANSWERS["plan"],
    tau=ANSWERS["tau"],
    m=ANSWERS["m"],
    number=ANSWERS["round"],
    query=bytes.fromhex(ANSWERS["query"]),
    nodes=tuple(
        SlowNode(
            name=node["node"],
            private=bytes.fromhex(node["x25519_private"]),
            secret=int(node["secret"], 16),
            coefficients=tuple(int(c, 16) for c in node["coefficients"]),
            vector=tuple(int(value) for value in node["vector"]),
        )
        for node in ANSWERS["nodes"]
    ),
)


def by_name(node: dict[str, Any]) -> str:
    return str(node["node"])


def numbers(texts: list[str]) -> list[int]:
    return [int(text) for text in texts]


@pytest.mark.parametrize("kind", ["fast", "slow"])
def test_the_contexts(kind: str) -> None:
    made = (
        (HONEST.roster.context, HONEST.round_ctx)
        if kind == "fast"
        else (SLOW.run_ctx, SLOW.round_ctx)
    )
    assert [value.hex() for value in made] == [ANSWERS["run_ctx"], ANSWERS["round_ctx"]]


@pytest.mark.parametrize("node", ANSWERS["nodes"], ids=by_name)
def test_the_signed_key(node: dict[str, Any]) -> None:
    assert HONEST.world.advertise(node["node"]).envelope.decode() == node["keyad"]
    envelope = json.loads(node["keyad"])
    payload = base64.b64decode(envelope["payload"])
    public = x25519_public(bytes.fromhex(node["x25519_private"])).hex()
    assert json.loads(payload)["key"] == node["x25519_public"] == public
    signed = ed25519_sign(bytes.fromhex(node["identity_seed"]), pae(D + b"keyad", payload))
    assert base64.b64encode(signed).decode() == envelope["signatures"][0]["sig"]


@pytest.mark.parametrize("known", ANSWERS["pairs"], ids=lambda pair: "{}-{}".format(*pair["pair"]))
def test_the_keys_of_a_pair(known: dict[str, Any]) -> None:
    i, j = known["pair"]
    ours = HONEST.states[NODES[i - 1]].party.pairs[j]
    theirs = HONEST.states[NODES[j - 1]].party.pairs[i]
    expected = (known["mask"], known["share"])
    assert (ours.mask.hex(), ours.share.hex()) == expected
    assert (theirs.mask.hex(), theirs.share.hex()) == expected
    assert tuple(half.hex() for half in SLOW.pair(i, j)) == expected
    assert SLOW.pair(i, j) == SLOW.pair(j, i)
    assert SLOW.mask_key(i, j).hex() == known["key"]
    assert stream(SLOW.mask_key(i, j), 6) == numbers(known["stream"])


@pytest.mark.parametrize("node", ANSWERS["nodes"], ids=by_name)
def test_a_masked_answer(node: dict[str, Any]) -> None:
    index, answer = node["index"], HONEST.answers[node["node"]]
    masked = answer.masked
    assert np.frombuffer(masked.vector, "<u8").tolist() == numbers(node["masked"])
    assert SLOW.masked(index) == numbers(node["masked"])
    assert SLOW.self_key(index).hex() == node["self_key"]
    assert stream(SLOW.self_key(index), 6) == numbers(node["self_stream"])
    assert masked.own_share.hex() == node["own_share"] == SLOW.share(index, index).hex()
    assert [c.hex() for c in masked.ciphertexts] == node["ciphertexts"]
    everybody = range(1, len(NODES) + 1)
    assert [SLOW.ciphertext(index, j).hex() for j in everybody] == node["ciphertexts"]
    made = masked.commitments
    assert list(made.shares) == node["share_commitments"]
    assert [SLOW.share_commitment(index, j).hex() for j in everybody] == node["share_commitments"]
    assert made.secret == node["secret_commitment"] == SLOW.secret_commitment(index).hex()
    assert answer.header.decode() == node["header"]


@pytest.mark.parametrize("known", ANSWERS["totals"], ids=["whole", "drop-out"])
def test_a_total(known: dict[str, Any]) -> None:
    survivors, takers = known["survivors"], known["takers"]
    places = [NODES.index(name) + 1 for name in survivors]
    slow = SLOW.total(places, [NODES.index(name) + 1 for name in takers])
    assert [value % 2**64 for value in numbers(known["total"])] == slow
    assert opened(HONEST, survivors, takers) == numbers(known["total"])
    plain = [sum(HONEST.vectors[name][k] for name in survivors) for k in range(6)]
    assert [value % 2**64 for value in plain] == slow
    assert any(not -(2**63) <= value < 2**63 for value in plain), "nothing wraps around"
    documents = payloads(HONEST.headers(survivors))
    lp = b"".join(len(document).to_bytes(4, "big") + document for document in documents)
    assert known["headers"] == documents_hash(documents) == hashlib.sha256(lp).hexdigest()
    assert [ballot.decode() for ballot in HONEST.ballots(survivors)] == known["votes"]


def test_the_seeds_of_a_drop_out() -> None:
    known = ANSWERS["totals"][1]["seeds"]
    for name in WITHOUT_JING:
        revealed = reveal(HONEST.vote(name, WITHOUT_JING), HONEST.ballots(WITHOUT_JING))
        slow = SLOW.mask_key(NODES.index(name) + 1, 4)
        assert [seed.hex() for seed in revealed.seeds] == known[name] == [slow.hex()]


@pytest.mark.parametrize("known", ANSWERS["refusals"], ids=lambda case: str(case["name"]))
def test_a_stored_refusal(known: dict[str, Any]) -> None:
    with pytest.raises(HejinError) as refused:
        REFUSE[known["step"]](HONEST, known["inputs"])
    assert refused.value.code == known["code"]


def test_every_refusal_is_stored() -> None:
    stored = {(case["step"], case["name"], case["code"]) for case in ANSWERS["refusals"]}
    assert stored == {(case.step, case.name, case.code) for case in all_cases(HONEST)}
