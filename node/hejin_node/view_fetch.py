"""Ask a bank for the feature view of a plan that it offers."""

from __future__ import annotations

from typing import Final

from hejin.v1 import coordinator_pb2 as pb
from hejin.v1 import coordinator_pb2_grpc as pb_grpc
from hejin_models.features import FeatureView
from hejin_models.published import open_published
from hejin_node.errors import NodeError
from hejin_node.home import NodeHome
from hejin_node.inbox import Offer
from hejin_trust.channels import asking

_SECONDS: Final = 15.0


class BankUnknownError(NodeError):
    """The address of a bank is not set here."""

    code = "bank-address-unknown"


class NotAsPlannedError(NodeError):
    """A bank sent another view than its plan names."""

    code = "view-not-as-planned"


def fetch_view(home: NodeHome, offer: Offer) -> bytes:
    """Return the file of the view that a plan names, its bank's signature and hash checked.

    raises   BankUnknownError, NotAsPlannedError; NotAMemberError, PeerUnreachable, PeerRefused;
             EnvelopeError, ViewError
    """
    bank, wanted = offer.plan.bank, offer.plan.view
    address = home.settings.banks.get(bank)
    if address is None:
        raise BankUnknownError(
            f"the address of {bank} is not set: run"
            f" `hejin node join ADMISSION --bank {bank}=HOST:PORT`",
            f"尚未设置 {bank} 的地址：请执行 `hejin node join ADMISSION --bank {bank}=HOST:PORT`",
        )
    with home.dial(bank, address) as channel, asking(bank):
        plans = pb_grpc.PlanServiceStub(channel)  # type: ignore[no-untyped-call]
        reply = plans.GetView(pb.GetViewRequest(sha256=wanted.sha256), timeout=_SECONDS)
    member = home.charter.admitted(bank, "bank")
    data = open_published(bytes(reply.view), member.identity_key, bank)
    view = FeatureView.parse(data)
    if (view.name, view.version, view.digest) != (wanted.name, wanted.version, wanted.sha256):
        raise NotAsPlannedError(
            f"{bank} sent view {view.id} (hash {view.digest[:12]}), and its plan names"
            f" {wanted.name}-v{wanted.version} (hash {wanted.sha256[:12]}): do not install it",
            f"{bank} 发来视图 {view.id}（哈希 {view.digest[:12]}），而其计划指定"
            f" {wanted.name}-v{wanted.version}（哈希 {wanted.sha256[:12]}）：请勿安装",
        )
    return data
