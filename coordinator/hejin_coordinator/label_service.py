"""The bank's outcomes over gRPC: decode, ask the desk, encode."""

from __future__ import annotations

import grpc

from hejin.v1 import labels_pb2 as pb
from hejin.v1 import labels_pb2_grpc as pb_grpc
from hejin_coordinator.label_desk import Asked, LabelDesk
from hejin_trust.channels import peer_of, refusals


class LabelServicer(pb_grpc.LabelServiceServicer):
    """Answers each node by the certificate that it calls with."""

    def __init__(self, desk: LabelDesk) -> None:
        self._desk = desk

    def Describe(  # noqa: N802 - name fixed by labels.proto
        self, request: pb.DescribeRequest, context: grpc.ServicerContext
    ) -> pb.DescribeResponse:
        """Return a label definition and the periods that there are."""
        with refusals(context):
            peer_of(context)
            definition, periods = self._desk.describe(request.definition)
        return pb.DescribeResponse(definition=definition, periods=periods)

    def Match(  # noqa: N802 - name fixed by labels.proto
        self, request: pb.MatchRequest, context: grpc.ServicerContext
    ) -> pb.MatchResponse:
        """Answer one private set intersection."""
        asked = Asked(request.question, request.points, request.entry, request.proof)
        with refusals(context):
            given = self._desk.answer(peer_of(context), asked)
        return pb.MatchResponse(answer=given.answer, points=given.points, items=given.items)
