"""The node's door to a bank's outcomes over gRPC."""

from __future__ import annotations

from typing import Final

import grpc

from hejin.v1 import labels_pb2 as pb
from hejin.v1 import labels_pb2_grpc as pb_grpc
from hejin_node.errors import MatchingError
from hejin_node.matching import Asked, Described, Given
from hejin_trust.channels import asking

CALL_SECONDS: Final = 10.0
MATCH_SECONDS: Final = 80.0
"""Two sets of the largest size take a bank 40 seconds; a connection outlives a call by 90."""

MOST_PERIODS: Final = 1000
LONGEST_DEFINITION: Final = 1 << 18


class LabelChannel:
    """The LabelService at the other end of a channel; see `matching.BankDoor`."""

    def __init__(self, channel: grpc.Channel, bank: str) -> None:
        """Use a channel that was dialled to the member `bank`."""
        self._stub = pb_grpc.LabelServiceStub(channel)  # type: ignore[no-untyped-call]
        self._bank = bank

    def describe(self, definition: str) -> Described:
        """Return the bank's definition; raises PeerRefused, PeerUnreachable, MatchingError."""
        with asking(self._bank):
            reply = self._stub.Describe(
                pb.DescribeRequest(definition=definition), timeout=CALL_SECONDS
            )
        if len(reply.periods) > MOST_PERIODS or len(reply.definition) > LONGEST_DEFINITION:
            raise MatchingError(
                f"{self._bank} describes more than can be: ask its operator",
                f"{self._bank} 的说明超出应有范围：请联系其运维人员",
            )
        return Described(bytes(reply.definition), tuple(reply.periods))

    def match(self, asked: Asked) -> Given:
        """Return the bank's answer; raises PeerRefused, PeerUnreachable."""
        request = pb.MatchRequest(
            question=asked.question, points=asked.points, entry=asked.entry, proof=asked.proof
        )
        with asking(self._bank):
            reply = self._stub.Match(request, timeout=MATCH_SECONDS)
        return Given(bytes(reply.answer), bytes(reply.points), bytes(reply.items))
