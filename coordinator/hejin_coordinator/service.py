"""The coordinator's process: one mTLS port for nodes, and one worker that carries out plans.

Before anything else the regulator's mirror is asked whether the bank's ledgers are the newest there
are (LEDGER section 4); while it does not answer, the bank waits and serves nobody.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import structlog
from sqlalchemy import Connection

from hejin.v1 import coordinator_pb2 as pb
from hejin.v1 import coordinator_pb2_grpc as pb_grpc
from hejin.v1 import labels_pb2_grpc
from hejin_coordinator import store
from hejin_coordinator.desk import drop_expired, start_answered
from hejin_coordinator.engine import Engine
from hejin_coordinator.errors import (
    PlanLostError,
    RunPausedError,
    UnknownPlanError,
    UnknownViewError,
)
from hejin_coordinator.home import CoordinatorHome, open_home
from hejin_coordinator.label_desk import LabelDesk
from hejin_coordinator.label_service import LabelServicer
from hejin_coordinator.receipts import witnessed_word
from hejin_coordinator.registry import register
from hejin_coordinator.rounds import PlanRun
from hejin_coordinator.witnessing import (
    NOT_WITNESSED,
    OWN_TROUBLE,
    EarlyMirror,
    await_witness,
    dialled,
    pause_plans,
    regulator_address,
)
from hejin_models.published import publish
from hejin_trust.canonical import text
from hejin_trust.certificates import check_certificate
from hejin_trust.channels import (
    PeerInterceptor,
    bind,
    peer_of,
    refusals,
    server,
    server_credentials,
)
from hejin_trust.database import reading, writing
from hejin_trust.envelope import (
    APPROVAL,
    REFUSAL,
    EnvelopeError,
    open_envelope,
)
from hejin_trust.errors import HejinError
from hejin_trust.files import held
from hejin_trust.home import keep_charter
from hejin_trust.members import Role
from hejin_trust.one_history import FrozenError
from hejin_trust.process import Threads, threads
from hejin_trust.witness import Witness, keep_witness

ROLES: dict[str, frozenset[Role]] = {
    "/hejin.v1.PlanService/": frozenset({"node"}),
    "/hejin.v1.ReceiptService/": frozenset({"node"}),
    "/hejin.v1.LabelService/": frozenset({"node"}),
    "/flwr.proto.Fleet/": frozenset({"node"}),
}
"""Who may call what at a bank."""

THREADS = 64
GRACE_SECONDS = 2.0
LOOK_SECONDS = 0.2
PAUSED_SECONDS = 5.0
"""Between looks whether the nodes of a paused plan are back."""

_log = structlog.get_logger(__name__)


class PlanServicer(pb_grpc.PlanServiceServicer):
    """Offers plans to the nodes they invite, and takes their answers."""

    def __init__(self, home: CoordinatorHome) -> None:
        self._home = home

    def ListOffers(  # noqa: N802 - name fixed by coordinator.proto
        self,
        request: pb.ListOffersRequest,  # noqa: ARG002 - it has no fields
        context: grpc.ServicerContext,
    ) -> pb.ListOffersResponse:
        """Return the plans that wait for this node's answer."""
        with refusals(context):
            node, now = peer_of(context).id, self._home.now()
            with reading(self._home.database) as connection:
                waiting = [
                    stored.envelope
                    for stored in store.plans(connection, "offered")
                    if node in stored.plan.nodes
                    and now < stored.plan.expires
                    and node not in store.answers(connection, stored.digest)
                ]
        return pb.ListOffersResponse(plans=waiting)

    def AnswerOffer(  # noqa: N802 - name fixed by coordinator.proto
        self, request: pb.AnswerOfferRequest, context: grpc.ServicerContext
    ) -> pb.AnswerOfferResponse:
        """Store a node's signed approval or refusal."""
        with refusals(context):
            peer = peer_of(context)
            try:
                opened = open_envelope(request.answer, APPROVAL, peer.identity_key, peer.id)
                digest, approved = text(opened.body, "plan"), True
            except EnvelopeError:
                opened = open_envelope(request.answer, REFUSAL, peer.identity_key, peer.id)
                digest, approved = text(opened.body, "request"), False
            with writing(self._home.database) as connection:
                try:
                    stored = store.find_plan(connection, digest)
                except UnknownPlanError:
                    if self._is_lost(connection, digest):
                        return pb.AnswerOfferResponse()
                    raise
                if stored.digest != digest or peer.id not in stored.plan.nodes:
                    raise UnknownPlanError(
                        "that plan does not invite this node", "该计划未邀请此节点"
                    )
                store.store_answer(connection, digest, peer.id, approved, request.answer)
            _log.info("answered", node=peer.id, plan=digest[:16], approved=approved)
        return pb.AnswerOfferResponse()

    def GetView(  # noqa: N802 - name fixed by coordinator.proto
        self, request: pb.GetViewRequest, context: grpc.ServicerContext
    ) -> pb.GetViewResponse:
        """Return the view of a plan that invites this node, as the bank signs it."""
        home = self._home
        with refusals(context):
            node = peer_of(context).id
            with reading(home.database) as connection:
                for stored in store.plans(connection):
                    if stored.plan.view.sha256 == request.sha256 and node in stored.plan.nodes:
                        view = publish(stored.view, home.identity, home.member_id)
                        return pb.GetViewResponse(view=view)
            raise UnknownViewError(
                "no plan that invites this node names that feature view: ask for one that is on"
                " offer",
                "邀请此节点的计划均未引用该特征视图：请索取所提计划的视图",
            )

    def _is_lost(self, connection: Connection, digest: str) -> bool:
        """Return whether the ledger names a plan that was lost with the database.

        Its answers are taken and forgotten: refused ones would be sent for ever.
        """
        known = self._home.release_log.of_type(connection, "plan")
        return any(entry.body["plan"] == digest for entry in known)


class ReceiptServicer(pb_grpc.ReceiptServiceServicer):
    """Gives nodes the bank's word on what it holds of them."""

    def __init__(self, home: CoordinatorHome, witness: Witness) -> None:
        self._home, self._witness = home, witness

    def GetReceipt(  # noqa: N802 - name fixed by coordinator.proto
        self, request: pb.GetReceiptRequest, context: grpc.ServicerContext
    ) -> pb.GetReceiptResponse:
        """Return the receipt, or once the round is closed a signed `not-received`."""
        with refusals(context):
            word = witnessed_word(
                self._home, self._witness, request.run, request.round, peer_of(context).id
            )
        return pb.GetReceiptResponse(receipt=word)


class Worker:
    """Carries out started plans, one at a time."""

    def __init__(
        self,
        home: CoordinatorHome,
        engine: Engine,
        witness: Witness,
        accepted: Callable[[], None] = lambda: None,
    ) -> None:
        """Work with an engine; `accepted` is called whenever answers were taken and logged."""
        self._home, self._engine, self._witness = home, engine, witness
        self._accepted = accepted
        # Plan -> when it last had its turn: the paused plan that waited longest is next.
        self._turns: dict[str, float] = {}

    def work(self, stop: threading.Event) -> None:
        """Look for a plan to carry out until `stop`; raises FrozenError, LogError."""
        looked, trouble = time.monotonic(), ""
        while not stop.wait(LOOK_SECONDS):
            states: list[store.PlanState] = ["started", "running"]
            if time.monotonic() - looked > PAUSED_SECONDS:
                states.append("paused")
                looked = time.monotonic()
            try:
                start_answered(self._home)
                if "paused" in states:
                    drop_expired(self._home)
                self._look(states)
                trouble = ""
            except OWN_TROUBLE as reason:
                if reason.code != trouble:
                    _log.error("will-try-again", code=reason.code, reason=reason.text.en)
                trouble = reason.code

    def _look(self, states: list[store.PlanState]) -> None:
        """Carry out the first plan in one of `states`; a paused one when its nodes are back."""
        with reading(self._home.database) as connection:
            found = store.plans(connection, *states)
            answered = {s.digest: store.answers(connection, s.digest) for s in found}
        if not found or not self._is_witnessed():
            return
        for stored in sorted(found, key=self._order):
            nodes = tuple(sorted(n for n, yes in answered[stored.digest].items() if yes))
            if stored.state == "paused" and not self._are_back(stored, nodes):
                continue
            self._turns[stored.digest] = time.monotonic()
            self._carry_out(stored, nodes)
            return

    def _is_witnessed(self) -> bool:
        """Return whether rounds may be asked; else every plan that is due pauses and says why."""
        try:
            self._witness.ready()
        except HejinError as reason:
            pause_plans(self._home, reason)
            if isinstance(reason, FrozenError):
                raise
            return False
        return True

    def _order(self, stored: store.StoredPlan) -> tuple[bool, float]:
        return stored.state == "paused", self._turns.get(stored.digest, 0.0)

    def _are_back(self, stored: store.StoredPlan, nodes: tuple[str, ...]) -> bool:
        return len(self._engine.online() & set(nodes)) >= stored.plan.minimum_nodes

    def _carry_out(self, stored: store.StoredPlan, nodes: tuple[str, ...]) -> None:
        home = self._home
        with writing(home.database) as connection:
            if store.find_plan(connection, stored.digest).state == "dropped":
                return
            store.set_state(connection, stored.digest, "running")
        try:
            with self._engine.open_run() as transport:
                run = PlanRun(
                    home, stored, nodes, transport, self._progress, self._witness, self._accepted
                )
                result = run.carry_out()
            register(home, stored, run.run, result)
        except HejinError as reason:
            state, plan, why = _stopped(reason), stored.digest[:16], reason.text.en
            if state == "paused":
                _log.warning("run-paused", plan=plan, reason=why)
            else:
                _log.error("run-failed", plan=plan, reason=why)
            with writing(home.database) as connection:
                store.set_state(connection, stored.digest, state, str(reason.text))
            return
        _log.info("run-done", plan=stored.digest[:16], run=run.run)

    def _progress(self, index: int, sums: int, statistic: str) -> None:
        _log.info("round", sum=index + 1, of=sums, statistic=statistic)


def _stopped(reason: HejinError) -> store.PlanState:
    """Return the state in which `reason` leaves a plan."""
    if isinstance(reason, PlanLostError):
        return "dropped"
    waits = (RunPausedError, *NOT_WITNESSED, *OWN_TROUBLE)
    return "paused" if isinstance(reason, waits) else "failed"


def serve(
    path: Path, address: str, listening: Callable[[int], None], stop: threading.Event
) -> None:
    """Run the coordinator in `path` until `stop` is set.

    address     HOST:PORT, port 0 for any free one
    listening   called with the bound port as soon as calls are answered
    raises      FrozenError if the regulator holds other ledgers of this bank; PortTakenError,
                LogError, RegulatorMissingError, CertificateError if the own certificate has
                expired, HeldError if another process serves from `path`
    """
    with held(path), open_home(path) as home, dialled(home) as mirror:
        check_certificate(home.membership.certificate_pem, home.now())
        home.verify_logs()
        regulator, witness = regulator_address(home), Witness(home, mirror)
        with threads(stop) as running:
            running.start("charter", lambda stop: keep_charter(home, regulator, stop))
            if not await_witness(home, witness, stop):
                return
            running.start("witness", lambda stop: keep_witness(witness, stop))
            _serve(home, witness, address, listening, running)


def _serve(
    home: CoordinatorHome,
    witness: Witness,
    address: str,
    listening: Callable[[int], None],
    running: Threads,
) -> None:
    membership, engine = home.membership, Engine(home.charters)
    grpc_server = server([PeerInterceptor(home.charters, ROLES), *engine.interceptors()], THREADS)
    engine.add_to(grpc_server)
    pb_grpc.add_PlanServiceServicer_to_server(PlanServicer(home), grpc_server)  # type: ignore[no-untyped-call]
    pb_grpc.add_ReceiptServiceServicer_to_server(ReceiptServicer(home, witness), grpc_server)  # type: ignore[no-untyped-call]
    labels = LabelServicer(LabelDesk(home, witness))
    labels_pb2_grpc.add_LabelServiceServicer_to_server(labels, grpc_server)  # type: ignore[no-untyped-call]
    credentials = server_credentials(
        membership.tls_key_pem, membership.certificate_pem, home.charter.ca_certificate
    )
    port = bind(grpc_server, address, credentials)
    grpc_server.start()
    try:
        early = EarlyMirror(home, witness)
        running.start("mirror", early.work)
        running.start("worker", Worker(home, engine, witness, early.wake).work)
        listening(port)
        running.wait()
    finally:
        # The worker first: its run must not see its server go.
        running.join()
        grpc_server.stop(GRACE_SECONDS).wait()
