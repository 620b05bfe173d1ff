"""The signed papers of a small consortium: charters, certificates, view, plan, keys and votes."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from hejin_models.plan import Deadlines, LabelReference, Plan, PricedSum, ViewReference
from hejin_privacy.secure_sum.documents import KeyAd
from hejin_privacy.secure_sum.keys import Advertised, Invitation, Roster, open_roster
from hejin_regulator.certificate_status import status_of
from hejin_trust import certificates
from hejin_trust.canonical import encode, time_text
from hejin_trust.charter import Charter
from hejin_trust.envelope import SUM_KEYAD, seal
from hejin_trust.export import CHARTER_FILE, CHARTERS_FOLDER, STATUS_FILE, WITNESS_FOLDER
from hejin_trust.keys import SigningKey, load_tls_key, new_tls_key
from hejin_trust.members import Member, Role
from hejin_trust.text import Text

FOUNDED = datetime(2026, 10, 1, tzinfo=UTC)
ADMITTED = datetime(2026, 11, 1, tzinfo=UTC)
AT = datetime(2026, 11, 22, 20, 0, 0, tzinfo=UTC)
EXPORTED = AT + timedelta(days=60)
CONSORTIUM = "hebei"
NODES = ("anping", "jing", "yongnian")
RUN = "0f" * 16
CAP = Fraction(1, 10)
SUMS = (
    PricedSum("histogram", 1, "train", Fraction(1, 100)),
    PricedSum("gram", 1, "train", Fraction(2, 100)),
    PricedSum("score_histogram", 1, "holdout", Fraction(1, 100)),
    PricedSum("score_histogram", 1, "holdout", Fraction(4, 100)),
)
#: What the sums of SUMS are like over VIEW: dimension, C^2, non-zeros, counts.
SHAPES = {
    "histogram": (40, Fraction(3), 3, True),
    "gram": (10, Fraction(1, 2), 10, False),
    "score_histogram": (128, Fraction(1), 1, True),
}
_FEATURE = """
[[features]]
name = "{name}"
en = "{name}"
zh = "{name}"
unit = {{ en = "1", zh = "1" }}
grid = {{ kind = "linear", low = 0.0, high = 1.0, cells = {cells} }}
"""
# Each grid has three cells more: below, above and missing.
VIEW = (
    """
name = "trade"
version = 1
source = "SELECT * FROM deals"

[label]
en = "Trade"
zh = "贸易"

[datasets.deals]
category = "trade"
[datasets.deals.columns]
amount = "number"
"""
    + "".join(
        _FEATURE.format(name=name, cells=cells)
        for name, cells in (("amount", 14), ("year", 9), ("margin", 8))
    )
).encode()


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Keys:
    """What a member keeps to itself, and its certificate."""

    identity: SigningKey
    log: SigningKey
    certificate: str


def make_keys(names: Iterable[str]) -> tuple[str, dict[str, Keys]]:
    """Return the authority's certificate and the keys of all members and of the regulator."""
    authority_key = new_tls_key()
    authority = certificates.new_authority(CONSORTIUM, authority_key, FOUNDED)

    def certificate(name: str) -> str:
        role: Role = "bank" if name.startswith("bank") else "node"
        return certificates.issue(
            authority,
            authority_key,
            load_tls_key(new_tls_key()).public_key(),
            member_id=name,
            role=role,
            consortium=CONSORTIUM,
            at=ADMITTED,
        )

    return authority, {
        name: Keys(SigningKey.generate(), SigningKey.generate(), certificate(name))
        for name in names
    }


def make_charter(authority: str, keys: Mapping[str, Keys]) -> Charter:
    """Return the second charter: the one that admits all members."""

    def member(name: str, role: Role) -> Member:
        mine = keys[name]
        return Member(
            name,
            role,
            Text(name, "成员"),
            mine.identity.public,
            mine.log.public,
            certificates.fingerprint(mine.certificate),
            size_band=(100, 5000) if role == "node" else None,
        )

    return Charter(
        consortium=CONSORTIUM,
        serial=2,
        issued=time_text(ADMITTED),
        regulator=member("regulator", "regulator"),
        ca_certificate=authority,
        members=tuple(
            member(name, "bank" if name.startswith("bank") else "node")
            for name in keys
            if name != "regulator"
        ),
        rho_cap=CAP,
        rho_alone_cap=CAP,
        delta=Fraction(1, 10**6),
        period_from="2026-01-01T00:00:00Z",
        period_to="2027-01-01T00:00:00Z",
        minimum_nodes=2,
        minimum_enterprises=100,
        r=1,
        nonce=b"n" * 32,
    )


def founding(charter: Charter) -> Charter:
    """Return the charter before the second one: without members."""
    return replace(charter, serial=1, issued=time_text(FOUNDED), members=())


def make_plan(charter: Charter) -> Plan:
    return Plan(
        bank="bank",
        consortium=CONSORTIUM,
        charter=charter.digest,
        purpose="model-training",
        product="loan",
        view=ViewReference("trade", 1, hashlib.sha256(VIEW).hexdigest()),
        grade="core",
        as_of=None,
        label=LabelReference("bad", "90 days", "bank"),
        family="scorecard",
        mode="node",
        nodes=NODES,
        minimum_nodes=2,
        quorum=0,
        colluders=0,
        deadlines=Deadlines(),
        holdout=Fraction(1, 5),
        rho_train=Fraction(3, 100),
        rho_holdout=Fraction(5, 100),
        sums=SUMS,
        created=AT.replace(day=2),
        expires=AT.replace(month=12),
        nonce="00" * 16,
    )


def make_keyad(plan: str, expires: datetime, node: str, keys: Keys, checkpoint: str) -> KeyAd:
    return KeyAd(
        run=RUN,
        plan=plan,
        node=node,
        certificate=certificates.fingerprint(keys.certificate),
        key=X25519PrivateKey.generate().public_key().public_bytes_raw().hex(),
        checkpoint=checkpoint,
        expires=time_text(expires),
    )


def seal_keyad(keyad: Mapping[str, object], node: str, keys: Keys) -> Advertised:
    envelope = seal(SUM_KEYAD, keyad, keys.identity, node)
    return Advertised(envelope, keys.certificate.encode())


def make_roster(
    advertised: Sequence[Advertised], plan: Plan, digest: str, charter: Charter
) -> Roster:
    invitation = Invitation(
        RUN,
        digest,
        frozenset(plan.nodes),
        plan.quorum,
        plan.minimum_nodes,
        plan.colluders,
        charter,
    )
    return open_roster(advertised, invitation, AT)


# -- the export --------------------------------------------------------------------------


def write_charters(
    folder: Path, charters: Sequence[Charter], identity: SigningKey, at: datetime = EXPORTED
) -> None:
    """Write the regulator's charters and the list of certificates that follows from them."""
    (folder / CHARTERS_FOLDER).mkdir(parents=True, exist_ok=True)
    for charter in charters:
        sealed = charter.seal(identity)
        (folder / CHARTERS_FOLDER / f"{charter.serial}.json").write_bytes(sealed)
        (folder / CHARTER_FILE).write_bytes(sealed)
    status = status_of(charters, at)
    (folder / STATUS_FILE).write_bytes(status.seal(identity, charters[-1].regulator.id))


def write_witness(folder: Path, member: str, notes: Mapping[str, Sequence[str]]) -> None:
    (folder / WITNESS_FOLDER).mkdir(exist_ok=True)
    for log, found in notes.items():
        path = folder / WITNESS_FOLDER / f"{member}.{log}.jsonl"
        path.write_bytes(b"".join(encode(note) + b"\n" for note in found))


def write_lines(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    path.write_bytes(b"".join(encode(dict(row)) + b"\n" for row in rows))


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def roster_line(digest: str, advertised: Sequence[Advertised]) -> dict[str, object]:
    return {
        "run": RUN,
        "plan": digest,
        "keyads": [base64_of(item.envelope) for item in advertised],
        "certificates": [base64_of(item.certificate) for item in advertised],
    }


def round_line(
    number: int, query: bytes, survivors: bytes, votes: Sequence[bytes]
) -> dict[str, object]:
    return {
        "run": RUN,
        "round": number,
        "query": base64_of(query),
        "survivors": base64_of(survivors),
        "votes": [base64_of(vote) for vote in votes],
    }
