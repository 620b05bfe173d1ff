"""The entries of a ledger: one JCS object a leaf, its types, and what each must hold."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from hejin_trust import canonical
from hejin_trust.canonical import DocumentError
from hejin_trust.errors import HejinError

MAX_ENTRY_BYTES = 65_535  # the length prefix of a C2SP tlog-tiles entry is 16 bits
SALT_BYTES = 16
_FIELDS = ("v", "type", "seq", "time", "by", "salt", "body")

Body = Mapping[str, object]
Check = Callable[[Body, str], object]


class EntryError(HejinError):
    """A ledger entry is malformed or of an unknown type."""

    code = "entry-malformed"


@dataclass(frozen=True, slots=True)
class Entry:
    """One leaf of a log.

    seq   leaf index, from 0
    time  RFC 3339 UTC seconds; never goes back within a log
    by    id of the member who keeps the log
    raw   the leaf's exact bytes
    """

    seq: int
    type: str
    time: str
    by: str
    body: Body
    raw: bytes


def _hash(body: Body, key: str) -> bytes:
    return canonical.hexbytes(body, key, 32)


def _half(body: Body, key: str) -> bytes:
    """16 bytes: run ids, salts and enterprise pseudonyms."""
    return canonical.hexbytes(body, key, 16)


def _signature(body: Body, key: str) -> bytes:
    return canonical.hexbytes(body, key, 64)


def _count(body: Body, key: str) -> int:
    return canonical.integer(body, key, 0)


def _label(body: Body, key: str) -> str:
    return canonical.text(body, key, longest=256)


def _sentence(body: Body, key: str) -> str:
    return canonical.text(body, key, longest=4096)


def _labels(body: Body, key: str) -> list[object]:
    """Short texts; checked in one go, because an authorisation names dozens of features."""
    found = canonical.items(body, key)
    if not all(isinstance(item, str) and len(item) <= 256 for item in found):
        raise DocumentError(
            f"field {key} is not a list of short texts; ask its sender for a correct one",
            f"字段 {key} 不是短文本列表；请发送方重新提供",
        )
    return found


@lru_cache(maxsize=4096)
def _check_time(value: str) -> None:
    """Raise DocumentError unless it is a time; bulk authorisations repeat the same few."""
    canonical.time_from(value)


def _time(body: Body, key: str) -> str:
    value = canonical.text(body, key, longest=20)
    _check_time(value)
    return value


def _not_negative(body: Body, key: str) -> object:
    value = canonical.fraction(body, key)
    if value < 0:
        raise DocumentError(
            f"field {key} is negative; ask its sender for a correct one",
            f"字段 {key} 为负；请发送方重新提供",
        )
    return value


def _integer_text(body: Body, key: str) -> int:
    """A whole number that may exceed 2^53, in decimal digits."""
    value = canonical.text(body, key, longest=canonical.MOST_DIGITS)
    if not re.fullmatch(r"0|[1-9][0-9]*", value):
        raise DocumentError(
            f"field {key} is not a whole number in digits; ask its sender for a correct one",
            f"字段 {key} 不是十进制整数；请发送方重新提供",
        )
    return int(value)


def _one_of(*allowed: str) -> Check:
    def check(body: Body, key: str) -> str:
        value = canonical.text(body, key, longest=64)
        if value not in allowed:
            raise DocumentError(
                f"field {key} is not one of {', '.join(allowed)}; ask for a correct document",
                f"字段 {key} 须为 {'、'.join(allowed)} 之一；请重新提供",
            )
        return value

    return check


def _hash_or_none(body: Body, key: str) -> object:
    """A hash, or "" where there is nothing to hash."""
    return b"" if body.get(key) == "" else _hash(body, key)


def _mechanism(body: Body, key: str) -> object:
    inner = canonical.child(body, key)
    _check(inner, MECHANISM)
    return inner


#: What a `reserve` says about the noise: enough to recompute the cost with no code of ours.
MECHANISM: Mapping[str, Check] = {
    "mode": _one_of("node", "shared"),
    "sigma": _not_negative,
    "delta_squared": _integer_text,
    "scale": _count,
    "nonzeros": _count,
    "dimension": _count,
    "bound_squared": _not_negative,
    "statistic": _label,
    "version": _count,
    "n": _count,
    "tau": _count,
    "m": _count,
    "t": _count,
    "r": _count,
}

_PLAN: Mapping[str, Check] = {"plan": _hash, "bank": _label}
#: Of one private set intersection: whose outcomes, by which definition (its file's hash), for how
#: many slots, under which commitment to what stands in them.
_MATCH: Mapping[str, Check] = {
    "session": _half,
    "bank": _label,
    "definition": _label,
    "definition_hash": _hash,
    "period": _label,
    "root": _hash,
    "slots": _count,
}
_ROUND: Mapping[str, Check] = {"run": _half, "round": _count}

#: Every entry type and the check of each of its fields (LEDGER section 2). The field set is
#: closed. Types are never changed or removed, only added.
ENTRY_TYPES: Mapping[str, Mapping[str, Check]] = {
    "genesis": {
        "charter": _hash,
        "certificate": _hash,
        "log_key": _hash,
        "rho_cap": _not_negative,
        "rho_alone_cap": _not_negative,
        "delta": _not_negative,
        "period_from": _time,
        "period_to": _time,
    },
    "snapshot": {
        "run": _half,
        "plan": _hash,
        "root": _hash,
        "schema": _hash,
        "authorisations": _hash,
        "internal_size": _count,
        "internal_root": _hash,
    },
    "authorisation.grant": {
        "enterprise": _half,
        "document": _hash,
        "grade": _label,
        "purposes": _labels,
        "banks": _labels,
        "categories": _labels,
        "features": _labels,
        "valid_from": _time,
        "valid_to": _time,
    },
    "authorisation.revoke": {"grant": _count, "reason": _sentence},
    # The key by which an enterprise signs from here on; evidence: the document that shows it.
    "authorisation.key": {"enterprise": _half, "key": _hash, "evidence": _hash},
    # Of grade A, directly behind the grant: the enterprise's own signature over it.
    "authorisation.signature": {"grant": _count, "key": _hash, "signature": _signature},
    # Of a released sum: the hash of the authorisations that it rests on, and how long this log was
    # when they were looked up.
    "authorisation.use": {
        "reservation": _count,
        "authorisations": _hash,
        "internal_size": _count,
    },
    # The rows of an enterprise left the disk; its grants ended just before.
    "erase": {"enterprise": _half, "reason": _sentence},
    # What one source brought left the data set, where runs could take it since `completed`.
    # `load` is its number, `source` the hash of its content, `rows` those that went, with what
    # corrected it and what was in quarantine.
    "withdraw": {
        "dataset": _label,
        "load": _count,
        "source": _hash,
        "completed": _time,
        "rows": _count,
        "reason": _sentence,
    },
    "plan.approve": {
        **_PLAN,
        "rho": _not_negative,
        "rho_train": _not_negative,
        "rho_holdout": _not_negative,
        "by": _label,
    },
    "plan.refuse": {**_PLAN, "code": _label, "reason": _sentence},
    "reserve": {
        **_ROUND,
        **_PLAN,
        "query": _hash,
        "part": _one_of("train", "holdout"),
        "split_key_hash": _hash,
        "round_ctx": _hash,
        "snapshot": _hash,
        "snapshot_seq": _count,
        "mechanism": _mechanism,
        "rho": _not_negative,
        "charge": _not_negative,
        # If all other nodes colluded with the bank: this sum, and the increase of that account.
        "rho_alone": _not_negative,
        "charge_alone": _not_negative,
    },
    "account": {
        "reservation": _count,
        "spent_before": _not_negative,
        "spent_after": _not_negative,
        "plan_spent_after": _not_negative,
        "bank_spent_after": _not_negative,
        "alone_before": _not_negative,
        "alone_after": _not_negative,
        "period": _label,
    },
    "release": {
        "reservation": _count,
        **_ROUND,
        "round_ctx": _hash,
        "vector": _hash,
        "header": _hash,
    },
    "void": {"reservation": _count, "reason": _sentence},
    # The regulator was out of reach after the reservation, and nothing was read meanwhile: it
    # stands again from here on.
    "renew": {"reservation": _count},
    "receipt": {
        "reservation": _count,
        **_ROUND,
        "receipt": lambda body, key: canonical.text(body, key, longest=60_000),
    },
    "result": {
        **_ROUND,
        "round_ctx": _hash,
        "survivors": _labels,
        "total": _hash,
        "votes": _hash_or_none,
    },
    "labels": {"bank": _label, "definition": _label, "period": _label, "source": _label},
    # Before a bank is asked for outcomes. `size`, how many slots hold an enterprise, is not for
    # the bank: what is proven to it is a `labels.ask` that names the `labels.request` by its leaf.
    "labels.request": {**_MATCH, "size": _count},
    "labels.ask": {**_MATCH, "query": _hash, "request": _hash},
    "refusal": {"request": _hash, "code": _label, "peer": _label},
    # Of every log: it goes on from the mirror's copy; `size` is where the restored backup ended.
    "recover": {"approval": _hash, "reason": _sentence, "size": _count},
    # A bank's log.
    "plan": {"plan": _hash, "purpose": _label, "family": _label},
    "accept": {
        **_ROUND,
        "node": _label,
        "plan": _hash,
        "round_ctx": _hash,
        "reservation": _count,
        "header": _hash,
        "vector": _hash,
        "proof_size": _count,
        "proof_root": _hash,
    },
    "burn": {**_ROUND, "giver": _label, "taker": _label},
    "labels.answer": {
        "session": _half,
        "node": _label,
        "definition": _label,
        "definition_hash": _hash,
        "period": _label,
        "slots": _count,
        "items": _count,
        "query": _hash,
        "transcript": _hash,
        "proof_size": _count,
        "proof_root": _hash,
    },
    "model": {"run": _half, "plan": _hash, "model": _hash, "card": _hash},
}

#: The types that only the internal log holds; `genesis` and `recover` stand in both, the rest is
#: released.
INTERNAL_TYPES = frozenset(
    {
        "authorisation.grant",
        "authorisation.revoke",
        "authorisation.key",
        "authorisation.signature",
        "authorisation.use",
        "erase",
        "withdraw",
        "account",
        "labels",
        "labels.request",
        "refusal",
    }
)


def _check(body: Body, fields: Mapping[str, Check]) -> None:
    if body.keys() != fields.keys():
        canonical.closed(body, *fields)
    for key, check in fields.items():
        check(body, key)


def check_body(entry_type: str, body: Body) -> None:
    """Raise EntryError unless `body` has exactly the fields of `entry_type`, each in range."""
    fields = ENTRY_TYPES.get(entry_type)
    if fields is None:
        raise EntryError(
            "A ledger entry has a type that this version does not know: install a newer Hejin.",
            "账本条目的类型未知：请安装更新的 Hejin。",
        )
    try:
        _check(body, fields)
    except DocumentError as reason:
        raise EntryError(
            f"{entry_type}: {reason.text.en}", f"{entry_type}：{reason.text.zh}"
        ) from reason


def build(entry_type: str, seq: int, time: datetime, by: str, body: Body, salt: bytes) -> Entry:
    """Make the entry at leaf `seq`; `salt` is 16 random bytes, so that no leaf can be guessed.

    raises  EntryError: unknown type, wrong fields, or longer than 65,535 bytes
    """
    if len(salt) != SALT_BYTES:
        raise ValueError(f"a salt has {SALT_BYTES} bytes, got {len(salt)}")
    check_body(entry_type, body)
    moment = canonical.time_text(time)
    try:
        raw = canonical.encode(
            {
                "v": 1,
                "type": entry_type,
                "seq": seq,
                "time": moment,
                "by": by,
                "salt": salt.hex(),
                "body": body,
            }
        )
    except DocumentError as reason:
        raise EntryError(reason.text.en, reason.text.zh) from reason
    if len(raw) > MAX_ENTRY_BYTES:
        raise EntryError(
            f"A {entry_type} entry of {len(raw)} bytes exceeds {MAX_ENTRY_BYTES}: "
            "store the document and log its hash.",
            f"{entry_type} 条目 {len(raw)} 字节，超过 {MAX_ENTRY_BYTES}：请存文件并只记哈希。",
        )
    return Entry(seq, entry_type, moment, by, body, raw)


def parse(raw: bytes) -> Entry:
    """Return the entry in a leaf's bytes; EntryError unless they are exactly what `build` makes."""
    try:
        document = canonical.decode(raw, max_bytes=MAX_ENTRY_BYTES)
        canonical.closed(document, *_FIELDS)
        canonical.integer(document, "v", 1, 1)
        canonical.hexbytes(document, "salt", SALT_BYTES)
        entry = Entry(
            seq=canonical.integer(document, "seq", 0),
            type=canonical.text(document, "type", longest=64),
            time=_time(document, "time"),
            by=canonical.text(document, "by", longest=63),
            body=canonical.child(document, "body"),
            raw=raw,
        )
    except DocumentError as reason:
        raise EntryError(reason.text.en, reason.text.zh) from reason
    check_body(entry.type, entry.body)
    return entry
