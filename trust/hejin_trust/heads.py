"""Tree heads as a third party judges them: by the charter alone."""

from __future__ import annotations

from dataclasses import dataclass

from hejin_trust.charter import Charter
from hejin_trust.checkpoint import CheckpointError, split_note
from hejin_trust.cosignature import Cosigned, open_cosigned, witness_name
from hejin_trust.members import Member
from hejin_trust.origins import internal_origin, release_origin


@dataclass(frozen=True, slots=True)
class Head:
    """A cosigned tree head, and whose log it is of."""

    member: Member
    cosigned: Cosigned


def open_head(note: str, charter: Charter) -> Head:
    """Return the tree head that a member of the charter has signed and its regulator cosigned.

    raises   CheckpointError: of no member's log, not signed by its log key, or not cosigned
    """
    origin = split_note(note)[0].partition("\n")[0]
    for member in charter.members:
        for named in (release_origin, internal_origin):
            if named(charter.consortium, member.role, member.id) == origin:
                witness = witness_name(charter.consortium, charter.regulator.id)
                key = charter.regulator.log_key
                return Head(member, open_cosigned(note, origin, member.log_key, witness, key))
    raise CheckpointError(
        f"The checkpoint is refused: it is of no log of a member in charter {charter.serial} of"
        f" {charter.consortium}. Ask for the charter of its time.",
        f"检查点被拒绝：不属于 {charter.consortium} 第 {charter.serial} 号章程中任何成员的日志。"
        "请索取当时的章程。",
    )
