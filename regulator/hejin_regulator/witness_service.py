"""The mirror over gRPC: decode, ask the mirror, encode; what was stored or refused is logged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import structlog

from hejin.v1 import witness_pb2 as pb
from hejin.v1 import witness_pb2_grpc as pb_grpc
from hejin_regulator.fair_use import NotNowError
from hejin_regulator.mirror import LogMirror
from hejin_regulator.stamps import WitnessClockError
from hejin_regulator.witness_rules import WitnessRefusedError
from hejin_trust.channels import abort, peer_of, refusals
from hejin_trust.database import StorageError
from hejin_trust.members import Member
from hejin_trust.mirroring import LogUpdate

_log = structlog.get_logger(__name__)


class WitnessServicer(pb_grpc.WitnessServiceServicer):
    """Serves each member its own two logs, by the certificate that it calls with."""

    def __init__(self, mirror: LogMirror) -> None:
        self._mirror = mirror

    def GetStanding(  # noqa: N802 - name fixed by witness.proto
        self,
        request: pb.GetStandingRequest,  # noqa: ARG002 - it has no fields
        context: grpc.ServicerContext,
    ) -> pb.GetStandingResponse:
        """Return what the mirror holds of the caller's logs."""
        with _answering(context) as member:
            door = self._mirror.door(member.id)
            return pb.GetStandingResponse(
                logs=[
                    pb.LogStanding(origin=log.origin, size=log.size, root=log.root)
                    for log in door.standing()
                ],
                charter_serial=door.charter_serial(),
            )

    def AddEntries(  # noqa: N802 - name fixed by witness.proto
        self, request: pb.AddEntriesRequest, context: grpc.ServicerContext
    ) -> pb.AddEntriesResponse:
        """Store entries, all or none; return the cosignatures over them."""
        updates = [
            LogUpdate(
                origin=update.origin,
                old_size=update.old_size,
                entries=update.entries,
                proof=update.proof,
                checkpoint=update.checkpoint,
            )
            # A member has two logs: with a third update the message is refused, whatever follows.
            for update in request.updates[:3]
        ]
        with _answering(context) as member:
            door = self._mirror.door(member.id)
            lines = door.add(updates)
            for update in updates:
                if update.entries:
                    size = update.old_size + len(update.entries)
                    _log.info("entries stored", member=member.id, log=update.origin, size=size)
            return pb.AddEntriesResponse(cosignatures=lines, charter_serial=door.charter_serial())

    def GetEntries(  # noqa: N802 - name fixed by witness.proto
        self, request: pb.GetEntriesRequest, context: grpc.ServicerContext
    ) -> pb.GetEntriesResponse:
        """Return entries to the member that they are of."""
        with _answering(context) as member:
            entries = self._mirror.door(member.id).entries(request.origin, request.start)
            _log.info("entries given back", member=member.id, count=len(entries))
            return pb.GetEntriesResponse(entries=entries)


@contextmanager
def _answering(context: grpc.ServicerContext) -> Iterator[Member]:
    """Give the caller; tell it about refusals, and log them for the regulator's operator."""
    member = peer_of(context)
    with refusals(context):
        try:
            yield member
        except WitnessRefusedError as refused:
            _log.warning("refused", member=member.id, code=refused.code, reason=refused.text.en)
            raise
        except NotNowError as later:
            _log.warning("not now", member=member.id, code=later.code, reason=later.text.en)
            abort(context, grpc.StatusCode.RESOURCE_EXHAUSTED, later)
        except WitnessClockError as wrong:
            _log.error("clock was set", reason=wrong.text.en)
            raise
        except StorageError as failed:
            # Not the member's fault, and nothing that it could mend: as if there were no answer.
            _log.error("nothing can be stored", reason=failed.text.en)
            context.abort(grpc.StatusCode.UNAVAILABLE, "the regulator cannot store anything now")
