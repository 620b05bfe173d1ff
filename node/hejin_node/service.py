"""The node's process: one channel a bank, dialled out; it listens nowhere."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import grpc
import structlog

from hejin.v1 import coordinator_pb2 as pb
from hejin.v1 import coordinator_pb2_grpc as pb_grpc
from hejin_node import inbox, offers
from hejin_node.engine import FleetLoop
from hejin_node.home import NodeHome, open_home
from hejin_node.pinned import SnapshotStore
from hejin_node.session import Session, void_interrupted
from hejin_trust.channels import asking, dial, fetch_charter
from hejin_trust.database import reading, writing
from hejin_trust.errors import HejinError
from hejin_trust.files import held

CALL_SECONDS = 10.0
WAKE_SECONDS = 0.5
OFFER_SECONDS = 1.0
RECEIPT_SECONDS = 5.0
CHARTER_SECONDS = 30.0

_log = structlog.get_logger(__name__)


class BankChannel:
    """The `hejin.v1` services of one bank."""

    def __init__(self, home: NodeHome, bank: str, channel: grpc.Channel) -> None:
        self._home, self._bank = home, bank
        self._plans = pb_grpc.PlanServiceStub(channel)  # type: ignore[no-untyped-call]
        self._receipts = pb_grpc.ReceiptServiceStub(channel)  # type: ignore[no-untyped-call]

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
        for envelope in offered.plans:
            try:
                digest = offers.receive(home, envelope)
                offers.decide(home, digest)
            except HejinError as reason:
                _log.warning("offer-refused", bank=self._bank, code=reason.code)
        with reading(home.database) as connection:
            due = inbox.unsent(connection, self._bank)
        for digest, document in due:
            with asking(self._bank):
                self._plans.AnswerOffer(
                    pb.AnswerOfferRequest(answer=document), timeout=CALL_SECONDS
                )
            with writing(home.database) as connection:
                inbox.mark_sent(connection, digest)


def serve(path: Path, ready: Callable[[], None], stop: threading.Event) -> None:
    """Run the node in `path` until `stop` is set; `ready` is called once all channels started.

    Raises HejinError where the node cannot start: damaged log, missing key, refused charter,
    or another process that serves from `path`.
    """
    with held(path), open_home(path) as home:
        with reading(home.database) as connection:
            home.release_log.verify(connection)
            home.internal_log.verify(connection)
        voided = void_interrupted(home)
        if voided:
            _log.warning("voided", reservations=voided)
        home.warehouse.sweep()
        SnapshotStore(home).sweep()
        channels: list[grpc.Channel] = []
        threads: list[threading.Thread] = []
        try:
            _start(home, channels, threads, stop)
            ready()
            while not stop.wait(WAKE_SECONDS):
                pass  # a signal that comes just before an endless wait would be slept through
        finally:
            stop.set()
            for thread in threads:
                thread.join()
            for channel in channels:
                channel.close()


def _start(
    home: NodeHome,
    channels: list[grpc.Channel],
    threads: list[threading.Thread],
    stop: threading.Event,
) -> None:
    def dial_member(member: str, address: str) -> grpc.Channel:
        membership = home.membership
        channel = dial(
            address,
            home.charter.admitted(member),
            home.charters,
            membership.tls_key_pem,
            membership.certificate_pem,
        )
        channels.append(channel)
        return channel

    def start(name: str, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, name=name)
        threads.append(thread)
        thread.start()

    for bank, address in home.settings.banks.items():
        channel = dial_member(bank, address)
        peer = BankChannel(home, bank, channel)
        session = Session(home, bank, peer.fetch_receipt)
        loop = FleetLoop(channel, session.answer)
        start(f"fleet-{bank}", lambda loop=loop: loop.run(stop))  # type: ignore[misc]
        start(
            f"offers-{bank}",
            lambda peer=peer: _repeat(peer.exchange_offers, OFFER_SECONDS, stop),  # type: ignore[misc]
        )
        start(
            f"receipts-{bank}",
            lambda session=session: _repeat(session.fetch_receipts, RECEIPT_SECONDS, stop),  # type: ignore[misc]
        )
    regulator = home.charter.regulator.id
    if home.settings.regulator is not None:
        channel = dial_member(regulator, home.settings.regulator)

        def refresh() -> None:
            home.charters.update(fetch_charter(channel, regulator, CALL_SECONDS))

        start("charter", lambda: _repeat(refresh, CHARTER_SECONDS, stop))


def _repeat(work: Callable[[], None], seconds: float, stop: threading.Event) -> None:
    """Do `work` every `seconds` until `stop`; a peer's failure is logged once and tried again."""
    last = ""
    while True:
        try:
            work()
            last = ""
        except HejinError as reason:
            if reason.code != last:
                _log.warning("channel", code=reason.code, reason=reason.text.en)
            last = reason.code
        if stop.wait(seconds):
            return
