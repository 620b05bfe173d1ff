"""How the node's commands show an authorisation: as a row, as a table, as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict

from hejin_node import consent_words as words
from hejin_node.consent import Authorisation
from hejin_node.signed import Signed
from hejin_node.terms import Terms
from hejin_trust.canonical import time_text
from hejin_trust.text import Text


def table_row(one: Authorisation) -> tuple[str, ...]:
    """Return the cells of one row among many."""
    terms = one.terms
    return (
        str(one.seq),
        one.code,
        terms.grade,
        ", ".join(terms.purposes),
        ", ".join(terms.banks),
        ", ".join(terms.categories),
        f"{terms.valid_from:%Y-%m-%d} - {terms.valid_to:%Y-%m-%d}",
        one.revoked_at or "",
    )


def facts(one: Authorisation) -> Mapping[str, object]:
    """Return what --json says of one among many."""
    return {
        "seq": one.seq,
        "enterprise": one.code,
        "pseudonym": one.pseudonym,
        **_terms(one.terms),
        "revoked_seq": one.revoked_seq,
        "revoked_at": one.revoked_at,
    }


def whole(one: Authorisation, signed: Signed | None) -> Mapping[str, object]:
    """Return what --json says of one alone, its signature and record with it."""
    signature = None
    if signed is not None:
        signature = {
            "key": signed.key.hex(),
            "key_evidence": signed.evidence,
            "signature": signed.signature.hex(),
            "record": json.loads(signed.record.raw),
        }
    return {**facts(one), "signed": signature}


def table_lines(one: Authorisation, signed: Signed | None) -> list[tuple[Text, str]]:
    """Return headings and values of one alone."""
    terms = one.terms
    rows = [
        (Text("enterprise", "企业"), one.code),
        (Text("in the ledger", "账本化名"), one.pseudonym),
        (Text("grade", "等级"), str(words.GRADES[terms.grade])),
        (Text("document", "文件哈希"), terms.document),
        (Text("purposes", "用途"), "\n".join(map(str, words.purposes(terms.purposes)))),
        (Text("banks", "银行"), ", ".join(terms.banks)),
        (Text("categories", "数据类别"), "\n".join(map(str, words.categories(terms.categories)))),
        (Text("features", "特征"), ", ".join(map(str, words.features(terms.features)))),
        (Text("valid from", "生效"), time_text(terms.valid_from)),
        (Text("until before", "失效"), time_text(terms.valid_to)),
        (Text("revoked", "撤销"), one.revoked_at or "-"),
    ]
    if signed is not None:
        notice = signed.record.notice
        rows += [
            (Text("key", "公钥"), signed.key.hex()),
            (Text("signature", "签名"), signed.signature.hex()),
            (Text("controller", "数据处理者"), str(signed.record.controller.name)),
            (Text("contact", "联系方式"), str(notice.contact.text)),
            (Text("responsibility", "责任主体"), str(notice.responsibility.text)),
            (Text("where data go", "数据流向"), str(notice.flow.text)),
            (Text("storage", "存储"), str(notice.storage.text)),
            (Text("kept until", "保存期限"), str(notice.retention.text)),
            (Text("withdrawal", "撤回方式"), str(notice.withdrawal.text)),
            (Text("after a withdrawal", "撤回之后"), str(notice.afterwards.text)),
        ]
    return rows


def _terms(terms: Terms) -> dict[str, object]:
    return {
        **asdict(terms),
        "valid_from": time_text(terms.valid_from),
        "valid_to": time_text(terms.valid_to),
    }
