"""Whether a bank answers this node: one harmless call at its port."""

from __future__ import annotations

from hejin.v1 import coordinator_pb2 as pb
from hejin.v1 import coordinator_pb2_grpc as pb_grpc
from hejin_node.home import NodeHome
from hejin_trust.channels import asking

_SECONDS = 5.0


def reach(home: NodeHome, bank: str, address: str) -> None:
    """Ask a bank for its offers at HOST:PORT and let go of them.

    raises   NotAMemberError, PeerUnreachable, PeerRefused
    """
    with home.dial(bank, address) as channel, asking(bank):
        plans = pb_grpc.PlanServiceStub(channel)  # type: ignore[no-untyped-call]
        plans.ListOffers(pb.ListOffersRequest(), timeout=_SECONDS)
