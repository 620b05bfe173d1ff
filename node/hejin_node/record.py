"""The record of an authorisation that an enterprise signs: its terms with all that belongs to them.

Fields follow ISO/IEC TS 27560: record and its event, principal, controller, recipients, purposes
and data, storage, retention, withdrawal, notice. `document` of the terms is its SHA-256.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pydantic import ValidationError

from hejin_models.uscc import check_code
from hejin_node.errors import ConsentError
from hejin_node.notice import Notice
from hejin_node.terms import Terms, read_terms
from hejin_trust import canonical
from hejin_trust.authorisation import ANY, SCOPES
from hejin_trust.canonical import DocumentError
from hejin_trust.charter import Charter
from hejin_trust.members import Member
from hejin_trust.text import Text

SCHEMA: Final = "hejin/authorisation-record/v1"
MOST_BYTES: Final = 1 << 17

_FIELDS: Final = (
    "schema", "record", "made", "consortium", "charter", "principal", "controller", "recipients",
    "scope", "basis", "notice",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Party:
    """A member as the charter named it when the record was made."""

    member: str
    name: Text


@dataclass(frozen=True, slots=True)
class Record:
    """One record, parsed. `raw` are the exact bytes whose SHA-256 is the terms' `document`.

    code        the enterprise (TS 27560's principal); pseudonym: how the ledger names it
    controller  the node that answers for the data; the enterprise's home node
    recipients  the banks that the terms name, or all that were admitted for "*"
    terms       of grade A
    """

    raw: bytes
    made: str
    consortium: str
    code: str
    pseudonym: str
    controller: Party
    recipients: tuple[Party, ...]
    terms: Terms
    notice: Notice


def new_record(
    charter: Charter,
    node: Member,
    notice: Notice,
    *,
    code: str,
    pseudonym: str,
    terms: Terms,
    made: datetime,
) -> Record:
    """Return a new record for the terms; their `document` and `grade` do not matter.

    raises   CodeError; ConsentError where a bank is not admitted
    """
    check_code(code)
    scope: dict[str, object] = {name: sorted(getattr(terms, name)) for name in SCOPES}
    body = {
        "schema": SCHEMA,
        "record": secrets.token_hex(16),
        "made": canonical.time_text(made),
        "consortium": charter.consortium,
        "charter": charter.digest,
        "principal": {"code": code, "pseudonym": pseudonym},
        "controller": _party(node),
        "recipients": [_party(bank) for bank in _banks(charter, terms)],
        "scope": {
            **scope,
            "valid_from": canonical.time_text(terms.valid_from),
            "valid_to": canonical.time_text(terms.valid_to),
        },
        "basis": "consent",
        "notice": notice.model_dump(),
    }
    return parse_record(canonical.encode(body))


def parse_record(raw: bytes) -> Record:
    """Return the record in its canonical bytes; raises ConsentError."""
    try:
        body = canonical.decode(raw, max_bytes=MOST_BYTES)
        canonical.closed(body, *_FIELDS)
        if body["schema"] != SCHEMA or body["basis"] != "consent":
            canonical.refuse("it is no authorisation record of this version", "不是本版本授权记录")
        canonical.hexbytes(body, "record", 16)
        canonical.hexbytes(body, "charter", 32)
        principal, scope = canonical.child(body, "principal"), canonical.child(body, "scope")
        canonical.closed(principal, "code", "pseudonym")
        canonical.closed(scope, *SCOPES, "valid_from", "valid_to")
        lists = {name: canonical.texts(scope, name, longest=256) for name in SCOPES}
        record = Record(
            raw=raw,
            made=canonical.time_field(body, "made"),
            consortium=canonical.text(body, "consortium", longest=63),
            code=canonical.text(principal, "code", longest=64),
            pseudonym=canonical.hexbytes(principal, "pseudonym", 16).hex(),
            controller=_named(canonical.child(body, "controller")),
            recipients=tuple(map(_named, canonical.objects(body, "recipients"))),
            terms=read_terms(
                document=hashlib.sha256(raw).hexdigest(),
                grade="A",
                valid_from=canonical.time_field(scope, "valid_from"),
                valid_to=canonical.time_field(scope, "valid_to"),
                **lists,
            ),
            notice=Notice.model_validate(canonical.child(body, "notice")),
        )
        check_code(record.code)
    except (DocumentError, ValidationError) as reason:
        raise ConsentError(
            "This is no authorisation record: give the file record.json that `hejin node "
            "authorisation form` wrote, unchanged.",
            "这不是授权记录：请原样提供 `hejin node authorisation form` 所写的 record.json。",
        ) from reason
    return record


def _banks(charter: Charter, terms: Terms) -> list[Member]:
    if terms.banks == (ANY,):
        return [one for one in charter.members if one.role == "bank" and one.admitted]
    return [charter.admitted(bank, "bank") for bank in sorted(terms.banks)]


def _party(member: Member) -> dict[str, str]:
    return {"member": member.id, **member.name.body()}


def _named(body: dict[str, object]) -> Party:
    canonical.closed(body, "member", "en", "zh")
    member, en, zh = (canonical.text(body, key, longest=256) for key in ("member", "en", "zh"))
    return Party(member, Text(en, zh))
