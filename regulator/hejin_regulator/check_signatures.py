"""V7, grade A: behind every such grant stands the signature of the enterprise itself, once.

A signature names no moment: one that could be used again would let an operator undo a revocation.
Only a grant that a recovery revoked, with its database lost, may be given again as it was signed.
"""

from __future__ import annotations

from hejin_regulator.evidence import Evidence
from hejin_regulator.fields import number, text
from hejin_regulator.witnessed import origin_of
from hejin_regulator.workbook import Shelf
from hejin_trust.authorisation import LOST, check_signature
from hejin_trust.charter import Member
from hejin_trust.entries import Entry
from hejin_trust.errors import HejinError


class SignatureCheck:
    """The enterprises' keys in one node's internal log, and what was signed by them."""

    def __init__(self, evidence: Evidence, node: Member) -> None:
        self._evidence, self._node = evidence, node
        self._origin = origin_of(evidence.charter, node, "internal")
        self._keys: Shelf[str] = Shelf(evidence.workbook, "keys", str, str)
        self._used: Shelf[str] = Shelf(evidence.workbook, "signatures", str, str)
        self._lost: Shelf[str] = Shelf(evidence.workbook, "lost", str, str)
        self._revoked: list[Entry] = []  # one right behind the other, as lost
        self._unsigned: Entry | None = None

    def see(self, entry: Entry) -> None:
        """Take an entry of the internal log that is about authorisations, or a recovery's."""
        self._see_lost(entry)
        signed = entry.type == "authorisation.signature"
        waiting = self._unsigned
        if not signed or waiting is None or waiting.seq + 1 != entry.seq:
            self.finish()
            waiting = None
        if signed:
            self._check(waiting, entry)
        elif entry.type == "authorisation.key":
            self._keys.put(text(entry.body, "enterprise"), text(entry.body, "key"))
        elif entry.type == "authorisation.grant" and text(entry.body, "grade") == "A":
            self._unsigned = entry

    def finish(self) -> None:
        """Note the grant that still waits for its signature: it is to be the very next entry."""
        if self._unsigned is not None:
            self._note(
                self._unsigned.seq,
                "this grant claims grade A without the enterprise's signature behind it",
                "该授权自称 A 级，其后却没有企业签名",
            )
        self._unsigned = None

    def _see_lost(self, entry: Entry) -> None:
        """Take note of grants that a recovery revoked: those right before its entry."""
        if self._revoked and self._revoked[-1].seq + 1 != entry.seq:
            self._revoked.clear()
        if entry.type == "authorisation.revoke" and text(entry.body, "reason") == LOST:
            self._revoked.append(entry)
        elif entry.type == "recover":
            for revoked in self._revoked:
                self._lost.put(str(number(revoked.body, "grant")), "")
            self._revoked.clear()

    def _check(self, grant: Entry | None, entry: Entry) -> None:
        self._unsigned = None
        if grant is None or grant.seq != number(entry.body, "grant"):
            self._note(
                entry.seq,
                "this signature does not stand behind the grant of grade A that it names",
                "该签名未紧随其所指的 A 级授权",
            )
            return
        key = text(entry.body, "key")
        if self._keys.get(text(grant.body, "enterprise")) != key:
            self._note(
                entry.seq,
                "this grant is signed by a key that is not the enterprise's registered one",
                "签署该授权的公钥不是该企业登记的公钥",
            )
            return
        try:
            check_signature(
                self._origin,
                grant.body,
                bytes.fromhex(key),
                bytes.fromhex(text(entry.body, "signature")),
            )
        except HejinError:
            self._note(
                entry.seq,
                "the enterprise's signature does not fit the grant before it",
                "企业签名与其前的授权不符",
            )
            return
        before = self._used.get(text(entry.body, "signature"))
        if before is not None and self._lost.get(before) is None:
            self._note(
                entry.seq,
                f"this signature was used before, for grant {before}: what was revoked needs a new"
                " one",
                f"该签名此前已用于授权 {before}：撤销后须由企业重新签署",
            )
        self._used.put(text(entry.body, "signature"), str(grant.seq))

    def _note(self, seq: int, en: str, zh: str) -> None:
        self._evidence.notes.add("V7", self._node.id, seq, en, zh, log="internal")
