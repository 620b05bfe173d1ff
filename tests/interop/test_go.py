"""Go's golang.org/x/mod/sumdb accepts our notes, proofs and logs, refuses altered ones, and we its.

Needs Debian's golang-go and golang-golang-x-mod-dev; without them every test here is skipped.
"""

from __future__ import annotations

import base64
import json
import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hejin_trust.checkpoint import (
    format_proof,
    open_note,
    sign_checkpoint,
    sign_note,
    verifier_key,
)
from hejin_trust.cosignature import cosign, cosigner_key, witness_name
from hejin_trust.database import open_database, reading, writing
from hejin_trust.export import MemberExport, write_export
from hejin_trust.keys import SigningKey
from hejin_trust.log import Log
from hejin_trust.merkle import (
    check_consistency,
    check_inclusion,
    consistency_path,
    inclusion_path,
    leaf_hash,
    root_of,
)

DEBIAN = Path("/usr/share/gocode")
SOURCE = Path(__file__).with_name("main.go")

pytestmark = [
    pytest.mark.skipif(shutil.which("go") is None, reason="no Go here: apt install golang-go"),
    pytest.mark.skipif(
        not (DEBIAN / "src/golang.org/x/mod/sumdb/note").is_dir(),
        reason="no golang.org/x/mod here: apt install golang-golang-x-mod-dev",
    ),
]

ORIGIN = "hejin/test/node/a"
WITNESS = witness_name("test", "regulator")
LOG, REGULATOR, OTHER = (SigningKey.from_seed(bytes([n]) * 32) for n in (1, 2, 3))
KEYS = [verifier_key(ORIGIN, LOG.public), cosigner_key(WITNESS, REGULATOR.public)]
AT = datetime(2026, 11, 26, 17, 0, 3, tzinfo=UTC)
MIGRATION = '''"""first"""
from alembic import op
import sqlalchemy as sa
from hejin_trust.stored_log import log_tables
revision = "0001"
down_revision = None
def upgrade():
    log_tables(metadata := sa.MetaData())
    metadata.create_all(op.get_bind())
'''

Case = dict[str, object]
Go = Callable[[str, object], str]


@pytest.fixture(scope="module")
def go(tmp_path_factory: pytest.TempPathFactory) -> Go:
    """The program of main.go: call it with a command and the text or JSON of its file."""
    folder = tmp_path_factory.mktemp("go")
    # No module, no network: the packages that Debian installs as source.
    environment = {"HOME": str(folder), **os.environ, "GO111MODULE": "off", "GOPATH": str(DEBIAN)}
    program = folder / "interop"
    subprocess.run(["go", "build", "-o", program, SOURCE], check=True, env=environment)

    def run(command: str, content: object) -> str:
        given = folder / "given"
        given.write_text(content if isinstance(content, str) else json.dumps(content))
        return subprocess.run(
            [program, command, given], check=True, capture_output=True, text=True
        ).stdout

    return run


def check(go: Go, accepted: list[Case], refused: list[Case]) -> None:
    """Let Go judge; every verdict must be the one expected."""
    for number, case in enumerate((*accepted, *refused)):
        case["Name"] = f"{number}: {case.get('Name', case['Kind'])}"
    verdicts = [json.loads(line) for line in go("check", [*accepted, *refused]).splitlines()]
    wanted = [(case["Name"], case in accepted) for case in (*accepted, *refused)]
    assert [(v["Name"], v["Accepted"]) for v in verdicts] == wanted, [
        v for v, (_, want) in zip(verdicts, wanted, strict=True) if v["Accepted"] != want
    ]


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def texts(parts: list[bytes]) -> list[str]:
    return [text(part) for part in parts]


def flipped(data: bytes, place: int = 0) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def note_case(note: str, keys: list[str], name: str = "note") -> Case:
    return {"Kind": "note", "Name": name, "Note": note, "Keys": keys}


def test_go_opens_our_notes_and_refuses_altered_ones(go: Go) -> None:
    root = leaf_hash(b"one")
    notes = [sign_checkpoint(ORIGIN, size, root, LOG) for size in (0, 1, 7, 2**40, 2**63 - 1)]
    cosigned = [note + cosign(note, WITNESS, REGULATOR, AT) for note in notes]
    accepted = [note_case(note, KEYS[:1]) for note in (*notes, *cosigned)]
    accepted += [note_case(note, KEYS) for note in cosigned]
    note, both = notes[2], cosigned[2]
    other = verifier_key(ORIGIN, OTHER.public)
    altered = both.replace("\n7\n", "\n8\n")
    late = cosign(note, WITNESS, REGULATOR, datetime(2026, 11, 26, 17, 0, 4, tzinfo=UTC))
    # The time of one cosignature with the signature of another.
    early = base64.b64decode(cosign(note, WITNESS, REGULATOR, AT).split()[-1])
    mixed = base64.b64decode(late.split()[-1])[:12] + early[12:]
    refused = [
        note_case(note, KEYS, "not cosigned"),
        note_case(both, [other], "another log key"),
        note_case(both, [KEYS[0], cosigner_key(WITNESS, OTHER.public)], "another witness key"),
        note_case(both, [KEYS[0], cosigner_key("else", REGULATOR.public)], "another witness"),
        note_case(altered, KEYS[:1], "another size"),
        note_case(altered, KEYS[1:], "another size, seen by the witness alone"),
        note_case(f"{note}— {WITNESS} {text(mixed)}\n", KEYS, "another time"),
        note_case(both.replace("\n\n", "\n"), KEYS, "no blank line"),
        note_case(both[:-1], KEYS, "no final newline"),
        note_case(sign_note(f"{ORIGIN}\n07\n{text(root)}\n", ORIGIN, LOG), KEYS[:1], "size 07"),
        note_case(sign_note(f"{ORIGIN}/x\n7\n{text(root)}\n", ORIGIN, LOG), KEYS[:1], "origin"),
    ]
    check(go, accepted, refused)


def proofs(
    leaves: list[bytes], sizes: list[int], places: Callable[[int], list[int]]
) -> Iterator[tuple[list[Case], list[Case]]]:
    """Yield (accepted, refused) record and tree proofs of each size at some of its places."""
    hashes = [leaf_hash(leaf) for leaf in leaves]
    for size in sizes:
        root = root_of(hashes[:size])
        for index in places(size):
            path = inclusion_path(hashes[:size], index)
            record: Case = {
                "Kind": "record",
                "Leaf": text(leaves[index]),
                "Index": index,
                "Size": size,
                "Root": text(root),
                "Proof": texts(path),
            }
            wrong: list[Case] = [
                record | {"Leaf": text(leaves[index] + b"!"), "Name": "another leaf"},
                record | {"Root": text(flipped(root)), "Name": "another root"},
                record | {"Proof": texts([*path, root]), "Name": "a hash too many"},
            ]
            if path:
                wrong.append(record | {"Proof": texts(path[:-1]), "Name": "a hash too few"})
                wrong.append(record | {"Proof": texts([flipped(path[0]), *path[1:]])})
                wrong.append(record | {"Index": (index + 1) % size, "Name": "another index"})
            old = index + 1
            way = consistency_path(hashes[:size], old)
            tree: Case = {
                "Kind": "tree",
                "Size": size,
                "Root": text(root),
                "Old": old,
                "OldRoot": text(root_of(hashes[:old])),
                "Proof": texts(way),
            }
            wrong.append(tree | {"OldRoot": text(flipped(root_of(hashes[:old])))})
            wrong.append(tree | {"Proof": texts([*way, root]), "Name": "a hash too many"})
            if way:
                wrong.append(tree | {"Proof": texts(way[:-1]), "Name": "a hash too few"})
                wrong.append(tree | {"Proof": texts([*way[:-1], flipped(way[-1], 31)])})
                wrong.append(tree | {"Root": text(flipped(root)), "Name": "another root"})
            yield [record, tree], wrong


def test_go_accepts_every_proof_of_small_trees_and_refuses_altered_ones(go: Go) -> None:
    leaves = [b"entry %d" % number for number in range(40)]
    accepted, refused = [], []
    for good, bad in proofs(leaves, list(range(1, 41)), lambda size: list(range(size))):
        accepted += good
        refused += bad
    assert len(accepted) == 2 * 820
    check(go, accepted, refused)


def test_go_accepts_proofs_of_large_trees_and_refuses_altered_ones(go: Go) -> None:
    chance = random.Random(5)
    leaves = [chance.randbytes(chance.randrange(200)) for _ in range(5000)]
    sizes = [1023, 1024, 1025, 4095, 4096, 4097, 5000]
    accepted, refused = [], []
    for good, bad in proofs(
        leaves, sizes, lambda size: [0, 1, size - 2, size - 1, chance.randrange(size)]
    ):
        accepted += good
        refused += bad
    check(go, accepted, refused)


@pytest.fixture
def exported(tmp_path: Path) -> tuple[MemberExport, list[str]]:
    """A log of 333 entries, exported; and each entry's proof against the cosigned checkpoint."""
    versions = tmp_path / "migrations" / "versions"
    versions.mkdir(parents=True)
    (versions / "0001_first.py").write_text(MIGRATION)
    engine = open_database(tmp_path / "node.db", tmp_path / "migrations")
    log, internal = (Log(name, "a", LOG) for name in (ORIGIN, f"{ORIGIN}/internal"))
    with writing(engine) as connection:
        for batch in (1, 2, 30, 300):
            log.append_many(
                connection,
                [("void", {"reservation": n, "reason": "停用 — stopped"}) for n in range(batch)],
            )
        write_export(tmp_path / "out", "a", connection, log, internal)
        note = log.checkpoint(connection)
        note += cosign(note, WITNESS, REGULATOR, AT)
    with reading(engine) as connection:
        files = [
            format_proof(seq, log.inclusion_proof(connection, seq, 333), note, raw)
            for seq, raw in enumerate(log.entries(connection))
        ]
    return MemberExport(tmp_path / "out" / "a"), files


def test_go_rebuilds_an_exported_log_and_its_proofs(
    go: Go, exported: tuple[MemberExport, list[str]]
) -> None:
    export, files = exported
    leaves = export.folder / "release.jsonl"
    note = export.checkpoint("release")
    log: Case = {"Kind": "log", "Leaves": str(leaves), "Note": note, "Keys": KEYS[:1]}
    refused: list[Case] = []
    lines = leaves.read_bytes().splitlines(keepends=True)
    for name, altered in {
        "last entry dropped": lines[:-1],
        "first entry dropped": lines[1:],
        "two entries swapped": [lines[1], lines[0], *lines[2:]],
        "one letter changed": [lines[0], lines[1].replace(b"stopped", b"stepped"), *lines[2:]],
        "an entry twice": [*lines, lines[-1]],
    }.items():
        path = export.folder / f"{name}.jsonl"
        path.write_bytes(b"".join(altered))
        refused.append(log | {"Leaves": str(path), "Name": name})
    proven: list[Case] = [{"Kind": "proof", "Note": file, "Keys": KEYS} for file in files]
    other = files[1].split("\n")[1]
    refused += [
        proven[0] | {"Note": files[0].replace(files[0].split("\n")[1], other), "Name": "entry"},
        proven[5] | {"Note": files[5].replace("\nindex 5\n", "\nindex 6\n"), "Name": "index"},
        proven[7] | {"Note": files[7].replace("\n333\n", "\n332\n"), "Name": "checkpoint"},
        proven[9] | {"Keys": [KEYS[0], cosigner_key(WITNESS, OTHER.public)], "Name": "witness"},
    ]
    check(go, [log, *proven], refused)


def test_we_open_and_check_what_go_made(go: Go) -> None:
    leaves = [b"leaf %d" % number for number in range(70)]
    made = json.loads(go("make", "".join(leaf.decode() + "\n" for leaf in leaves)))
    name, _, encoded = made["Key"].split("+", 2)
    key = base64.b64decode(encoded)[1:]
    assert verifier_key(name, key) == made["Key"]
    roots = {}
    for tree in made["Trees"]:
        size = tree["Size"]
        origin, told, root = open_note(tree["Note"], name, key).split("\n")[:3]
        assert (origin, int(told)) == (name, size)
        roots[size] = base64.b64decode(root)
        for index, (record, older) in enumerate(zip(tree["Records"], tree["Older"], strict=True)):
            path = [base64.b64decode(item) for item in record or []]
            check_inclusion(leaves[index], index, size, path, roots[size])
            way = [base64.b64decode(item) for item in older or []]
            check_consistency(index + 1, roots[index + 1], size, roots[size], way)
            # And the very same hashes in the same order.
            hashes = [leaf_hash(leaf) for leaf in leaves[:size]]
            assert (path, way) == (
                inclusion_path(hashes, index),
                consistency_path(hashes, index + 1),
            )
    assert len(roots) == 70
