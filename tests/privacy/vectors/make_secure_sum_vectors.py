"""Writes secure_sum.json: one round of five nodes, byte by byte, and every refusal.

Run by hand: PYTHONPATH=tests .venv/bin/python tests/privacy/vectors/make_secure_sum_vectors.py
Made by hejin_privacy itself; tests hold it to a second implementation that shares no code with
it. The TLS certificates, which are not deterministic, are kept if the file exists.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from masking_refusals import WITHOUT_JING, all_cases, honest_round, opened
from masking_world import (
    AT,
    NODES,
    OTHERS,
    PLAN,
    QUERY,
    RUN,
    World,
    new_people,
    payloads,
    person,
    seed,
)

from hejin_privacy.secure_sum.documents import documents_hash
from hejin_privacy.secure_sum.keys import mask_key, self_key
from hejin_privacy.secure_sum.masks import add_masks
from hejin_privacy.secure_sum.node import reveal
from hejin_trust.canonical import time_text

FILE = Path(__file__).with_name("secure_sum.json")


def words(key: bytes, count: int) -> list[str]:
    vector = np.zeros(count, "<u8")
    add_masks(vector, [(key, 1)])
    return [str(word) for word in vector.tolist()]


def main() -> None:
    if FILE.exists():
        stored = json.loads(FILE.read_text())["certificates"]
        people = {name: person(name, pem.encode()) for name, pem in stored.items()}
    else:
        people = new_people()
    world = World(people=people)
    made = honest_round(world)
    nodes = []
    for index, name in enumerate(NODES, start=1):
        answer, secret = made.answers[name], world.secret(name)
        masked = answer.masked
        key = self_key(secret.value, made.round_ctx)
        nodes.append(
            {
                "node": name,
                "identity_seed": seed(f"identity {name}").hex(),
                "x25519_private": people[name].private.hex(),
                "x25519_public": people[name].public.hex(),
                "keyad": world.advertise(name).envelope.decode(),
                "secret": secret.value.to_bytes(32, "big").hex(),
                "coefficients": [c.to_bytes(32, "big").hex() for c in secret.coefficients],
                "vector": [str(value) for value in made.vectors[name]],
                "self_key": key.hex(),
                "self_stream": words(key, 6),
                "masked": [str(v) for v in np.frombuffer(masked.vector, "<u8").tolist()],
                "own_share": masked.own_share.hex(),
                "share_commitments": list(masked.commitments.shares),
                "secret_commitment": masked.commitments.secret,
                "ciphertexts": [c.hex() for c in masked.ciphertexts],
                "header": answer.header.decode(),
                "index": index,
            }
        )
    pairs = []
    for i, name in enumerate(NODES, start=1):
        for j in range(i + 1, len(NODES) + 1):
            pair = made.states[name].party.pairs[j]
            key = mask_key(pair, made.round_ctx)
            pairs.append(
                {
                    "pair": [i, j],
                    "mask": pair.mask.hex(),
                    "share": pair.share.hex(),
                    "key": key.hex(),
                    "stream": words(key, 6),
                }
            )
    totals = []
    for survivors, takers in ((NODES, NODES[1:]), (WITHOUT_JING, WITHOUT_JING)):
        seeds = {}
        for name in survivors if len(survivors) < len(NODES) else ():
            revealed = reveal(made.vote(name, survivors), made.ballots(survivors))
            seeds[name] = [s.hex() for s in revealed.seeds]
        ballots = made.ballots(survivors)
        totals.append(
            {
                "survivors": list(survivors),
                "takers": list(takers),
                "headers": documents_hash(payloads(made.headers(survivors))),
                "votes": [ballot.decode() for ballot in ballots],
                "seeds": seeds,
                "total": [str(value) for value in opened(made, survivors, takers)],
            }
        )
    document = {
        "at": time_text(AT),
        "run": RUN,
        "plan": PLAN,
        "tau": 4,
        "m": 4,
        "t": 1,
        "round": made.number,
        "query": QUERY.hex(),
        "run_ctx": made.roster.context.hex(),
        "round_ctx": made.round_ctx.hex(),
        "nodes": nodes,
        "pairs": pairs,
        "totals": totals,
        "refusals": [
            {"name": c.name, "step": c.step, "code": c.code, "inputs": c.inputs}
            for c in all_cases(made)
        ],
        "certificates": {name: people[name].certificate.decode() for name in (*NODES, *OTHERS)},
    }
    FILE.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
