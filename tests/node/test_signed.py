"""Grade A: an enterprise signs the form with OpenSSL, and only what it signed is granted."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from authorisation_world import record_of, sign
from commands import answer, run
from node_world import BANK, World, found_world, terms

from hejin_models.uscc import make_code
from hejin_node.bulk import CSV_COLUMNS, SIGNED_COLUMNS, grants_csv, read_grants
from hejin_node.consent import (
    Authorisation,
    Grant,
    authorisations,
    grant,
    grant_body,
    grant_in_parts,
    grant_many,
    pseudonym,
    revoke,
)
from hejin_node.errors import ConsentError
from hejin_node.form import render_form
from hejin_node.home import NodeHome, open_home
from hejin_node.notice import read_notice
from hejin_node.record import parse_record
from hejin_node.signed import (
    Signed,
    find_signed,
    keys,
    read_public_key,
    read_signature,
    register_key,
)
from hejin_node.terms import Terms
from hejin_trust.authorisation import statement_to_sign
from hejin_trust.canonical import decode, encode
from hejin_trust.database import reading, writing
from hejin_trust.errors import HejinError
from hejin_trust.keys import SigningKey
from hejin_trust.settings import SettingsError

A, B = make_code(0), make_code(1)
TERMS = (
    "--from", "2026-01-01", "--to", "2030-01-01", "--purpose", "model-training",
    "--bank", BANK, "--category", "trade", "--category", "outcome", "--feature", "staff",
)  # fmt: skip


@pytest.fixture
def world(tmp_path: Path) -> World:
    return found_world(tmp_path)


@pytest.fixture
def home(world: World) -> Iterator[NodeHome]:
    with open_home(world.nodes["node-1"], world.clock) as node:
        yield node


def give(home: NodeHome, *grants: Grant | tuple[str, Terms]) -> tuple[int, ...]:
    with writing(home.database) as connection:
        done = grant_many(connection, home.internal_log, home.pseudonym_key, grants)
    return done.seqs


def openssl(*words: str) -> None:
    subprocess.run(("openssl", *words), check=True, capture_output=True)


def test_a_form_that_is_signed_with_openssl_is_granted_as_grade_a(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEJIN_LANG", "en")
    home = found_world(tmp_path).nodes["node-1"]
    form, key = tmp_path / "form", tmp_path / "enterprise.key"
    made = answer(home, "authorisation", "form", A, "--out", str(form), *TERMS)
    assert {path.stat().st_mode & 0o777 for path in form.iterdir()} == {0o600}
    openssl("genpkey", "-algorithm", "ed25519", "-out", str(key))
    openssl("pkey", "-in", str(key), "-pubout", "-out", str(tmp_path / "enterprise.pem"))
    signature = tmp_path / "signature.bin"
    openssl("pkeyutl", "-sign", "-rawin", "-inkey", str(key), "-in", str(form / "to-sign.bin"),
            "-out", str(signature))  # fmt: skip
    accept = ("authorisation", "accept", str(form / "record.json"), "--signature", str(signature))
    with pytest.raises(HejinError, match="not the one that is registered"):
        run(home, *accept)
    (tmp_path / "seal.pdf").write_bytes(b"licence and seal")
    registered = answer(
        home, "authorisation", "key", A, str(tmp_path / "enterprise.pem"),
        "--evidence", str(tmp_path / "seal.pdf"),
    )  # fmt: skip
    granted = answer(home, *accept)
    shown = answer(home, "authorisation", "show", str(granted["seq"]))
    assert (shown["grade"], shown["document"]) == ("A", made["document"])
    assert shown["categories"] == ["outcome", "trade"]
    signed = shown["signed"]
    assert isinstance(signed, dict)
    assert signed["key"] == registered["key"]
    assert signed["key_evidence"] == hashlib.sha256(b"licence and seal").hexdigest()
    assert signed["record"]["notice"]["withdrawal"]["en"]
    assert "A" in run(home, "authorisation", "list").stdout
    assert "responsible" in run(home, "authorisation", "show", str(granted["seq"])).stdout
    assert answer(home, *accept) == granted  # again: it stands already
    with open_home(home) as node, reading(node.database) as connection:
        entries = [json.loads(raw) for raw in node.internal_log.entries(connection)]
    assert [one["type"] for one in entries] == [
        "genesis", "authorisation.key", "authorisation.grant", "authorisation.signature",
    ]  # fmt: skip
    assert A.encode() not in encode(entries)


def test_the_signed_bytes_hold_exactly_the_terms_and_the_hash_of_the_rest(
    home: NodeHome, world: World
) -> None:
    record = record_of(home, world, A)
    body = grant_body(record.pseudonym, A, record.terms)
    told = statement_to_sign(home.internal_log.origin, body)
    kind, payload = told.split(b" ", 4)[2], told.split(b" ", 4)[4]
    assert kind == b"hejin/authorisation/v1"
    assert decode(payload) == {"v": 1, "log": "hejin/test/node/node-1/internal", "grant": body}
    assert body["document"] == hashlib.sha256(record.raw).hexdigest()
    assert decode(record.raw)["principal"] == {"code": A, "pseudonym": record.pseudonym}


@pytest.mark.parametrize(
    "changes",
    [
        {"purposes": ("credit-approval",)},
        {"banks": ("*",)},
        {"categories": ("trade",)},
        {"features": ("staff",)},
        {"valid_to": None},
        {"document": "ab" * 32},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_terms_other_than_the_signed_ones_are_not_granted(
    home: NodeHome, world: World, changes: dict[str, object]
) -> None:
    record = record_of(home, world, A)
    signed = sign(home, record, SigningKey.generate())
    if "valid_to" in changes:
        changes = {"valid_to": record.terms.valid_to + timedelta(days=1)}
    widened = replace(record.terms, **changes)  # type: ignore[arg-type]
    with pytest.raises(ConsentError, match="not what the signed record says"):
        give(home, Grant(A, widened, signed))
    with pytest.raises(ConsentError, match="not what the signed record says"):
        give(home, Grant(B, record.terms, signed))
    assert give(home, Grant(A, record.terms, signed))


def test_a_signature_of_another_record_key_or_node_is_refused(home: NodeHome, world: World) -> None:
    key = SigningKey.generate()
    record, other = record_of(home, world, A), record_of(home, world, A)
    assert record.terms.document != other.terms.document
    right = sign(home, record, key)
    body = grant_body(record.pseudonym, A, record.terms)
    elsewhere = key.sign(statement_to_sign("hejin/test/node/node-2/internal", body))
    for wrong in (
        replace(right, signature=sign(home, other, key).signature),
        replace(right, signature=elsewhere),
        replace(right, signature=bytes(64)),
        replace(right, key=SigningKey.generate().public),
    ):
        with pytest.raises(ConsentError, match="does not fit"):
            give(home, Grant(A, record.terms, wrong))
    with reading(home.database) as connection:
        assert authorisations(connection) == []
        assert keys(connection, A) == []


def test_a_signature_grants_nothing_again_once_its_grant_was_revoked(
    home: NodeHome, world: World
) -> None:
    """Else an operator could undo a revocation with the enterprise's own signature."""
    key = SigningKey.generate()
    record = record_of(home, world, A)
    signed = sign(home, record, key)
    assert give(home, Grant(A, record.terms, signed))
    with writing(home.database) as connection:
        revoke(connection, home.internal_log, "asked by letter", code=A)
    with pytest.raises(ConsentError, match="was revoked") as refused:
        give(home, Grant(A, record.terms, signed))
    assert refused.value.code == "bad-authorisation"
    other = record_of(home, world, A)
    assert give(home, Grant(A, other.terms, sign(home, other, key)))


def test_only_the_newest_key_of_an_enterprise_signs(home: NodeHome, world: World) -> None:
    old, new = SigningKey.generate(), SigningKey.generate()
    for key in (old, new):
        with writing(home.database) as connection:
            register_key(
                connection, home.internal_log, code=A,
                pseudonym=pseudonym(home.pseudonym_key, A), key=key.public, evidence="e" * 64,
            )  # fmt: skip
    record = record_of(home, world, A)
    with pytest.raises(ConsentError, match="not the one that is registered"):
        give(home, Grant(A, record.terms, sign(home, record, old, evidence="")))
    assert give(home, Grant(A, record.terms, sign(home, record, new, evidence="")))


def test_grade_a_needs_a_signature_and_grade_b_has_none(home: NodeHome, world: World) -> None:
    with pytest.raises(ConsentError, match="Grade A is the enterprise's own signature"):
        give(home, (A, replace(terms(world), grade="A")))
    record = record_of(home, world, A)
    signed = sign(home, record, SigningKey.generate())
    with pytest.raises(ConsentError, match="Grade A is the enterprise's own signature"):
        give(home, Grant(A, replace(record.terms, grade="B"), signed))


def exported(home: NodeHome, path: Path) -> list[tuple[Authorisation, Signed | None]]:
    with reading(home.database) as connection:
        found = [
            (one, find_signed(connection, one.seq, one.code, one.terms.document))
            for one in authorisations(connection)
        ]
    path.write_text(grants_csv(found))
    return found


def test_a_bulk_file_of_both_grades_stands_already_and_brings_back_nothing_revoked(
    home: NodeHome, world: World, tmp_path: Path
) -> None:
    record = record_of(home, world, A)
    signed = sign(home, record, SigningKey.generate())
    give(home, Grant(A, record.terms, signed), (B, terms(world)))
    found = exported(home, tmp_path / "all.csv")
    assert [one.terms.grade for one, _ in found] == ["A", "B"]
    read = read_grants(tmp_path / "all.csv")
    assert read == [Grant(one.code, one.terms, signed) for one, signed in found]
    args = (home.database, home.internal_log, home.pseudonym_key, read)
    assert grant_in_parts(*args) == (0, 2, 0)
    with writing(home.database) as connection:
        revoke(connection, home.internal_log, "", code=B)
    assert grant_in_parts(*args) == (0, 1, 1)


def test_export_and_import_are_one_anothers_reverse(tmp_path: Path) -> None:
    home = found_world(tmp_path).nodes["node-1"]
    rows = f"{B},{'ab' * 32},B,model-training,*,*,*,2026-01-01,2030-01-01\n"
    (tmp_path / "in.csv").write_text(",".join(CSV_COLUMNS) + "\n" + rows)
    answer(home, "authorisation", "import", str(tmp_path / "in.csv"))
    out = str(tmp_path / "out.csv")
    assert answer(home, "authorisation", "export", out) == {"exported": 1}
    assert answer(home, "authorisation", "import", out) == {
        "granted": 0, "already": 1, "revoked": 0,
    }  # fmt: skip
    assert (tmp_path / "out.csv").stat().st_mode & 0o777 == 0o600


def bulk_row(home: NodeHome, signed: Signed, **changes: str) -> dict[str, str]:
    terms = signed.record.terms
    listed = {name: ";".join(getattr(terms, name)) for name in CSV_COLUMNS[3:7]}
    return {
        "enterprise": signed.record.code,
        "document": terms.document,
        "grade": "A",
        **listed,
        "valid_from": f"{terms.valid_from:%Y-%m-%dT%H:%M:%SZ}",
        "valid_to": f"{terms.valid_to:%Y-%m-%dT%H:%M:%SZ}",
        "key": signed.key.hex(),
        "key_evidence": signed.evidence,
        "signature": base64.b64encode(signed.signature).decode(),
        "record": signed.record.raw.decode(),
        **changes,
    }


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"signature": "AAAA"}, "no signature of 64 bytes"),
        ({"key": "AB" * 32}, "`key` must be"),
        ({"key_evidence": "x"}, "`key_evidence` must be"),
        ({"record": "{}"}, "no authorisation record"),
        ({"record": ""}, "`document` must be the hash"),
        ({"document": "ab" * 32}, "`document` must be the hash"),
        ({"grade": "B"}, "fills none of the columns"),
        ({"purposes": "credit-approval"}, "Row 2: What is to be granted is not"),
        ({"key": "11" * 32}, "Row 2: The signature does not fit"),
        ({"key_evidence": ""}, "Row 2: The key is not the one"),
    ],
)
def test_one_bad_signed_row_and_nothing_of_the_file_is_recorded(
    home: NodeHome, world: World, tmp_path: Path, changes: dict[str, str], said: str
) -> None:
    key = SigningKey.generate()
    path = tmp_path / "bulk.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, (*CSV_COLUMNS, *SIGNED_COLUMNS))
        writer.writeheader()
        writer.writerow(bulk_row(home, sign(home, record_of(home, world, B), key)))
        writer.writerow(bulk_row(home, sign(home, record_of(home, world, A), key), **changes))
    with pytest.raises(ConsentError, match=said):
        grant_in_parts(home.database, home.internal_log, home.pseudonym_key, read_grants(path))
    with reading(home.database) as connection:
        assert authorisations(connection) == []


def test_a_form_tells_in_both_languages_that_released_models_stay(
    home: NodeHome, world: World
) -> None:
    record = record_of(home, world, A)
    page = render_form(record, "zh")
    for told in (A, record.pseudonym, record.terms.document, "stay in use", "继续有效", "银行"):
        assert told in page
    assert "<script" not in page


def test_the_operators_own_notice_goes_into_the_record(home: NodeHome, world: World) -> None:
    shipped = Path(__file__).parents[2] / "node/hejin_node/notice.toml"
    own = home.path / "notice.toml"
    own.write_text(shipped.read_text().replace("The platform operator's office", "Room 7"))
    assert record_of(home, world, A).notice.contact.en.startswith("Room 7")
    own.write_text(shipped.read_text().replace("[retention]", "[until]"))
    with pytest.raises(SettingsError, match="field until: there is no such field"):
        read_notice(home.path)


def test_a_record_names_only_banks_that_are_admitted(home: NodeHome, world: World) -> None:
    record = record_of(home, world, A, banks=("*",))
    assert [bank.member for bank in record.recipients] == [BANK]
    with pytest.raises(HejinError, match="no bank of that name"):
        record_of(home, world, A, banks=("nobody",))


@pytest.mark.parametrize(
    "change",
    [
        {"schema": "other"},
        {"basis": "contract"},
        {"more": 1},
        {"scope": {}},
        {"notice": {}},
        {"record": "x"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_is_no_record_is_refused(
    home: NodeHome, world: World, change: dict[str, object]
) -> None:
    body = decode(record_of(home, world, A).raw)
    with pytest.raises(ConsentError):
        parse_record(encode({**body, **change}))


def test_what_is_no_key_or_signature_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content in (b"", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"):
        path.write_bytes(content)
        with pytest.raises(ConsentError, match="no usable Ed25519"):
            read_public_key(path)
    openssl("genpkey", "-algorithm", "RSA", "-out", str(path))
    openssl("pkey", "-in", str(path), "-pubout", "-out", str(tmp_path / "rsa.pem"))
    with pytest.raises(ConsentError, match="no usable Ed25519"):
        read_public_key(tmp_path / "rsa.pem")
    for content in (b"x" * 63, b"no base64!", base64.b64encode(b"x" * 63)):
        path.write_bytes(content)
        with pytest.raises(ConsentError, match="no signature"):
            read_signature(path)
    path.write_bytes(base64.encodebytes(b"x" * 64))
    assert read_signature(path) == b"x" * 64


def test_a_single_grant_of_grade_a_can_be_given_by_hand(home: NodeHome, world: World) -> None:
    record = record_of(home, world, A)
    signed = sign(home, record, SigningKey.generate())
    with writing(home.database) as connection:
        seq = grant(connection, home.internal_log, home.pseudonym_key, A, record.terms, signed)
    with reading(home.database) as connection:
        assert find_signed(connection, seq, A, record.terms.document) == signed
