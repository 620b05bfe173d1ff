"""The regulator's word that a member may go on from the mirror's copy of its logs."""

from __future__ import annotations

from dataclasses import dataclass, field

from hejin_trust import canonical
from hejin_trust.charter import Charter
from hejin_trust.envelope import RECOVERY, open_envelope, seal
from hejin_trust.keys import SigningKey
from hejin_trust.merkle import HASH_SIZE
from hejin_trust.mirroring import LogStanding


@dataclass(frozen=True, slots=True)
class Recovery:
    """What the regulator approves: these logs, of this member, as the mirror holds them.

    reason   one sentence; issued: RFC 3339 UTC
    digest   SHA-256 of the signed body, hex; "" before it is signed
    """

    consortium: str
    member: str
    reason: str
    issued: str
    logs: tuple[LogStanding, ...]
    digest: str = field(default="", compare=False)

    def seal(self, key: SigningKey, regulator: str) -> bytes:
        """Return the approval signed by the regulator's identity key."""
        body = {
            "v": 1,
            "consortium": self.consortium,
            "member": self.member,
            "reason": self.reason,
            "issued": self.issued,
            "logs": [
                {"origin": log.origin, "size": log.size, "root": log.root.hex()}
                for log in self.logs
            ],
        }
        return seal(RECOVERY, body, key, regulator)

    @classmethod
    def parse(cls, data: bytes, charter: Charter) -> Recovery:
        """Return the approval in an envelope that the charter's regulator signed.

        raises   EnvelopeError, DocumentError
        """
        regulator = charter.regulator
        opened = open_envelope(data, RECOVERY, regulator.identity_key, regulator.id)
        body = opened.body
        canonical.closed(body, "v", "consortium", "member", "reason", "issued", "logs")
        canonical.integer(body, "v", 1, 1)
        return cls(
            consortium=canonical.text(body, "consortium", longest=63),
            member=canonical.text(body, "member", longest=63),
            reason=canonical.text(body, "reason", longest=4096),
            issued=canonical.time_field(body, "issued"),
            logs=tuple(_log(item) for item in canonical.objects(body, "logs")),
            digest=opened.digest,
        )


def _log(item: dict[str, object]) -> LogStanding:
    canonical.closed(item, "origin", "size", "root")
    size = canonical.integer(item, "size", 0)
    root = canonical.hexbytes(item, "root", HASH_SIZE) if item["root"] != "" else b""
    return LogStanding(canonical.text(item, "origin", longest=256), size, root)
