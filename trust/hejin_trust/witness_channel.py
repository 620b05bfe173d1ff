"""A member's door to the regulator's mirror over gRPC."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import grpc

from hejin.v1 import witness_pb2 as pb
from hejin.v1 import witness_pb2_grpc as pb_grpc
from hejin_trust.channels import asking, fetch_charter
from hejin_trust.mirroring import LogStanding, LogUpdate

CALL_SECONDS: Final = 10.0
SLOWEST_BYTES_A_SECOND: Final = 32_768
"""A line so slow still gets a backlog through: what carries entries may take longer."""


class WitnessChannel:
    """The mirror at the other end of a channel; see `mirroring.Mirror`."""

    def __init__(self, channel: grpc.Channel, regulator: str) -> None:
        """Use a channel that was dialled to the member `regulator`."""
        self._channel, self._regulator = channel, regulator
        self._stub = pb_grpc.WitnessServiceStub(channel)  # type: ignore[no-untyped-call]
        self._serial = 0

    def standing(self) -> tuple[LogStanding, ...]:
        """Return what is held of both logs; raises PeerRefused, PeerUnreachable."""
        with asking(self._regulator):
            reply = self._stub.GetStanding(pb.GetStandingRequest(), timeout=CALL_SECONDS)
        self._serial = int(reply.charter_serial)
        return tuple(LogStanding(log.origin, log.size, log.root) for log in reply.logs)

    def add(self, updates: Sequence[LogUpdate]) -> tuple[str, ...]:
        """Store and cosign; raises PeerRefused, PeerUnreachable."""
        request = pb.AddEntriesRequest(
            updates=[
                pb.LogUpdate(
                    origin=update.origin,
                    old_size=update.old_size,
                    entries=update.entries,
                    proof=update.proof,
                    checkpoint=update.checkpoint,
                )
                for update in updates
            ]
        )
        seconds = CALL_SECONDS + request.ByteSize() / SLOWEST_BYTES_A_SECOND
        with asking(self._regulator):
            reply = self._stub.AddEntries(request, timeout=seconds)
        self._serial = int(reply.charter_serial)
        return tuple(reply.cosignatures)

    def entries(self, origin: str, start: int) -> tuple[bytes, ...]:
        """Return leaves from `start` on; raises PeerRefused, PeerUnreachable."""
        with asking(self._regulator):
            reply = self._stub.GetEntries(
                pb.GetEntriesRequest(origin=origin, start=start), timeout=CALL_SECONDS
            )
        return tuple(reply.entries)

    def charter_serial(self) -> int:
        """Return the serial that the last answer named; 0 before the first."""
        return self._serial

    def charter(self) -> bytes:
        """Return the charter's envelope; raises PeerRefused, PeerUnreachable."""
        return fetch_charter(self._channel, self._regulator, CALL_SECONDS)
