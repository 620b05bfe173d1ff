"""The node's process: one channel a bank, dialled out; it listens nowhere."""

from __future__ import annotations

import hashlib
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path

import grpc
import structlog

from hejin.v1 import coordinator_pb2 as pb
from hejin.v1 import coordinator_pb2_grpc as pb_grpc
from hejin_node import inbox, offers
from hejin_node.engine import FleetLoop
from hejin_node.erasing import erase_again
from hejin_node.home import NodeHome, open_home
from hejin_node.pinned import SnapshotStore
from hejin_node.results import void_interrupted
from hejin_node.session import Session
from hejin_node.withdrawing import withdraw_again
from hejin_trust.certificates import check_certificate
from hejin_trust.channels import asking
from hejin_trust.database import reading, writing
from hejin_trust.errors import HejinError
from hejin_trust.files import held
from hejin_trust.home import keep_charter
from hejin_trust.process import Threads, repeat, threads
from hejin_trust.witness import Witness, keep_witness, start_witness
from hejin_trust.witness_channel import WitnessChannel

CALL_SECONDS = 10.0
OFFER_SECONDS = 1.0
RECEIPT_SECONDS = 5.0

MOST_OFFERS = 1000
"""Plans in one listing: a bank lists only those that wait for this node's answer."""

DECIDE_SECONDS = 60.0
"""Between two looks at one offer: grants, labels and views that the policy asks for may come."""

MOST_AT_ONCE = 10
"""Offers in one look: each may take a dry run, and a bank can send many."""

_log = structlog.get_logger(__name__)


class BankChannel:
    """The `hejin.v1` services of one bank."""

    def __init__(self, home: NodeHome, bank: str, channel: grpc.Channel) -> None:
        self._home, self._bank = home, bank
        self._plans = pb_grpc.PlanServiceStub(channel)  # type: ignore[no-untyped-call]
        self._receipts = pb_grpc.ReceiptServiceStub(channel)  # type: ignore[no-untyped-call]
        self._refused: Counter[str] = Counter()
        # SHA-256 of an offer -> when it was looked at last (monotonic), and the refusal's code.
        self._looked: dict[bytes, tuple[float, str]] = {}

    def fetch_receipt(self, run: str, round_number: int) -> bytes:
        """Return the bank's receipt or not-received; raises PeerRefused, PeerUnreachable."""
        with asking(self._bank):
            reply = self._receipts.GetReceipt(
                pb.GetReceiptRequest(run=run, round=round_number), timeout=CALL_SECONDS
            )
        return bytes(reply.receipt)

    def exchange_offers(self) -> None:
        """Take in new plans, let the policy decide, and send the answers that are due."""
        home = self._home
        with asking(self._bank):
            offered = self._plans.ListOffers(pb.ListOffersRequest(), timeout=CALL_SECONDS)
        if len(offered.plans) > MOST_OFFERS:
            raise offers.OffersTooManyError(
                f"{self._bank} offers {len(offered.plans)} plans at once, at most {MOST_OFFERS} are"
                " looked at: the bank has to withdraw some",
                f"{self._bank} 一次提出 {len(offered.plans)} 个计划，最多处理 {MOST_OFFERS} 个："
                "请银行撤回部分计划",
            )
        self._look_at(offered.plans)
        refused = Counter(code for _, code in self._looked.values() if code)
        # Each look brings the same offers again: what is known is not worth another line.
        if refused != self._refused:
            for code, plans in sorted(refused.items()):
                _log.warning("offers-refused", bank=self._bank, code=code, plans=plans)
        self._refused = refused
        with reading(home.database) as connection:
            due = inbox.unsent(connection, self._bank)
        for digest, document in due:
            with asking(self._bank):
                self._plans.AnswerOffer(
                    pb.AnswerOfferRequest(answer=document), timeout=CALL_SECONDS
                )
            with writing(home.database) as connection:
                inbox.mark_sent(connection, digest)

    def _look_at(self, envelopes: Iterable[bytes]) -> None:
        """Take in and decide a few of the offers that are new or were not looked at for long."""
        now = time.monotonic()
        listed = {hashlib.sha256(envelope).digest(): envelope for envelope in envelopes}
        self._looked = {key: at for key, at in self._looked.items() if key in listed}
        never = (-math.inf, "")
        due = [key for key in listed if now - self._looked.get(key, never)[0] >= DECIDE_SECONDS]
        for key in due[:MOST_AT_ONCE]:
            code = ""
            try:
                offers.decide(self._home, offers.receive(self._home, listed[key]))
            except HejinError as reason:
                code = reason.code
            self._looked[key] = (now, code)


def serve(path: Path, ready: Callable[[], None], stop: threading.Event) -> None:
    """Run the node in `path` until `stop` is set; `ready` is called once all channels started.

    Before anything is done the regulator's mirror is asked whether the logs are the newest there
    are; while it does not answer, the node waits.
    raises   FrozenError if they are not; HejinError where the node cannot start: no regulator
             named, expired certificate, damaged log, missing key, refused charter, another
             process serving from `path`
    """
    with held(path), open_home(path) as home:
        # Nobody would let it in, and it would wait for a regulator that seems to be away.
        check_certificate(home.membership.certificate_pem, home.now())
        home.verify_logs()
        address = home.regulator_address
        with ExitStack() as channels, threads(stop) as running:
            regulator = home.charter.regulator.id
            channel = channels.enter_context(home.dial(regulator, address))
            witness = Witness(home, WitnessChannel(channel, regulator))
            running.start("charter", lambda stop: keep_charter(home, address, stop))
            if not start_witness(witness, stop):
                return
            _tidy(home)
            running.start("witness", lambda stop: keep_witness(witness, stop))
            for bank, where in home.settings.banks.items():
                bank_channel = channels.enter_context(home.dial(bank, where))
                _work_with(home, bank, witness, bank_channel, running)
            ready()
            running.wait()


def _tidy(home: NodeHome) -> None:
    """End what an earlier process left unfinished."""
    voided = void_interrupted(home)
    if voided:
        _log.warning("voided", reservations=voided)
    home.warehouse.sweep()
    snapshots = SnapshotStore(home)
    snapshots.sweep()
    erase_again(home)
    withdraw_again(home)
    snapshots.leave_out_erased()


def _work_with(
    home: NodeHome, bank: str, witness: Witness, channel: grpc.Channel, running: Threads
) -> None:
    """Answer one bank's queries, take its offers and fetch its receipts."""
    peer = BankChannel(home, bank, channel)
    session = Session(home, bank, witness, peer.fetch_receipt)

    def look() -> None:
        witness.check_clock()
        peer.exchange_offers()

    running.start(f"fleet-{bank}", FleetLoop(channel, session.answer).run)
    running.start(f"offers-{bank}", lambda stop: repeat(look, OFFER_SECONDS, stop))
    running.start(
        f"receipts-{bank}", lambda stop: repeat(session.fetch_receipts, RECEIPT_SECONDS, stop)
    )
