"""Answer a bank's query, in the one order in which nothing leaves before it is charged.

    1. check the plan, the query and the account
    2. one transaction: recompute what was spent, check the caps, log `reserve`; fsync
    3. the regulator mirrors the log up to there and cosigns its checkpoint
    4. read the data, contribute, quantise, add noise
    5. one transaction: log `release`, if plan, period and charter still hold, and keep the exact
       outgoing bytes; fsync
    6. send them, with the cosigned proof of the reservation beside them
    7. log the bank's receipt (before the next query of that bank is answered)

LEDGER section 3. A crash between any two steps leaves a charge without a release, never a
release without a charge. A reservation that the regulator could not cosign waits: asked again,
the node goes on with it, and charges nothing twice.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import structlog

from hejin_node import account, inbox, receipts, usage
from hejin_node.checking import Checker, Context, check_repeat
from hejin_node.home import NodeHome
from hejin_node.masking import Masking
from hejin_node.pinned import Pinned, SnapshotLostError, SnapshotStore, Standing
from hejin_node.query import QueryOutOfOrderError, QueryRefusedError
from hejin_node.refusals import Refusals
from hejin_node.reserving import Reserved, reserve, stand_again
from hejin_node.results import (
    check_result,
    log_result,
    open_result,
    void,
    void_expired,
    void_waiting,
)
from hejin_node.snapshot import Snapshot
from hejin_privacy.contribution import quantised_sum
from hejin_privacy.messages import MaskedHeader, MessageError, Result
from hejin_privacy.noise import discrete_gaussian
from hejin_privacy.secure_sum.documents import SurvivorSet
from hejin_privacy.secure_sum.node import RoundSecret, mask
from hejin_trust.canonical import hexbytes
from hejin_trust.charter import Charter
from hejin_trust.checkpoint import format_proof
from hejin_trust.cosignature import Cosigned
from hejin_trust.database import erase_deleted, reading, writing
from hejin_trust.envelope import (
    SUM_MASKED,
    SUM_SURVIVORS,
    open_envelope,
    seal,
)
from hejin_trust.errors import HejinError, NotNowError, RefusedError
from hejin_trust.fleet import Payload, pack
from hejin_trust.witness import MOST_OFF, Witness, cosigned_late

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Answer:
    """What leaves (signed header, vector, packed ciphertexts), and the node's own share.

    left_out  grants of the run whose enterprises are not in its sums any more
    standing  the authorisations that it rests on
    """

    header: bytes
    vector: bytes
    ciphertexts: bytes
    own_share: bytes
    left_out: tuple[int, ...] | None
    standing: Standing


class Session:
    """One node's answers to one bank.

    witness        of the node's logs; all banks' sessions share it
    fetch_receipt  asks the bank for its receipt of (run, round); HejinError if it cannot
    """

    def __init__(
        self, home: NodeHome, bank: str, witness: Witness, fetch_receipt: receipts.Fetch
    ) -> None:
        self._home = home
        self._bank = bank
        self._witness = witness
        self._fetch = fetch_receipt
        self._snapshots = SnapshotStore(home)
        self._masking = Masking(home)
        self._checker = Checker(home, bank, self._masking)
        self._refusals = Refusals(home, bank)
        self._steps: dict[bytes, Callable[[Payload], Payload]] = {
            b"keys": self._give_key,
            b"query": self._answer_query,
            b"survivors": self._vote,
            b"votes": self._reveal,
            b"result": self._take_last_result,
        }
        # One query at a time a bank: the reservation and its release belong together.
        self._lock = threading.Lock()

    def answer(self, payload: Payload) -> Payload:
        """Return the answer to one message of the bank, or a signed refusal; never raises one."""
        with self._lock:
            try:
                self._witness.check_clock()
                step = self._steps.get(payload.get("kind", b""))
                if step is None:
                    raise MessageError(
                        "a message is none of the protocol's: use the node's version",
                        "消息不属于本协议：请使用与节点一致的版本",
                    )
                return step(payload)
            except HejinError as refusal:
                return self._refusals.refuse(payload, refusal)

    def fetch_receipts(self) -> None:
        """Log the bank's word on what it was sent, as far as it gives it.

        A query brings the receipts of earlier rounds with it; after the last one, or a crash,
        no query may ever come. Keys of runs that never got an end go when their plan expires.
        """
        with self._lock:
            home = self._home
            self._witness.check_clock()
            void_expired(home, self._bank)
            for run in self._masking.sweep(self._bank):
                self._snapshots.forget(run, erase=True)
            collected, _ = receipts.collect_all(home, self._bank, self._fetch)
            if not collected:
                return
            with writing(home.database) as connection:
                for receipt in collected:
                    receipts.log_receipt(home, connection, receipt)
                home.release_log.checkpoint(connection)

    def _answer_query(self, payload: Payload) -> Payload:
        context, previous = self._checker.check(payload)
        query = context.query
        with reading(self._home.database) as connection:
            known = account.find(connection, query.run, query.round)
        if known is not None:
            check_repeat(known, context)
        if known is not None and known.state == "released":
            return self._repeat(known)
        self._witness.ready()
        if self._home.charter.serial != context.charter.serial:
            # A newer charter came with the regulator's word: nothing is charged under the last one.
            context, previous = self._checker.check(payload)
        try:
            if known is None:
                pinned, reserved = self._charge(context, previous)
            else:
                pinned, reserved = self._take_up(known, context)
            return self._compute_and_send(context, pinned.snapshot, reserved)
        except BaseException:
            self._snapshots.forget(query.run)
            raise

    def _compute_and_send(
        self, context: Context, snapshot: Snapshot, reserved: Reserved
    ) -> Payload:
        seq = reserved.seq
        # Without a cosignature in time nothing is read; the reservation waits for the next try.
        cosigned = self._cosigned(reserved)
        try:
            # A newer charter may have come with it.
            self._home.charter.admitted(self._bank, "bank")
            self._home.charter.admitted(self._home.member_id, "node")
            answer = self._compute(context, snapshot, seq, cosigned)
            self._release(context, seq, answer)
        except Exception:
            self._give_up(seq)
            raise
        if answer.own_share:
            query = context.query
            self._masking.opened(
                query.run, query.round, context.round_ctx, answer.header, answer.own_share
            )
        return self._outgoing(seq, answer.header, answer.vector, answer.ciphertexts)

    def _cosigned(self, reserved: Reserved) -> Cosigned:
        """Step 3; raises WitnessUnreachableError, WitnessRefusedError, FrozenError."""
        cosigned = self._witness.cover(reserved.stands)
        apart = cosigned.time - reserved.since
        if abs(apart) > MOST_OFF:
            raise cosigned_late(apart)
        return cosigned

    def _charge(self, context: Context, previous: Result | None) -> tuple[Pinned, Reserved]:
        """Steps 1 and 2: the bank's receipts, the run's rows, and the reservation."""
        collected = receipts.collect_enough(self._home, self._bank, self._fetch)
        pinned = self._snapshots.pin(context.plan, context.view, context.query.run)
        reserved = reserve(
            self._home, self._checker, self._snapshots, context, previous, collected, pinned
        )
        return pinned, reserved

    def _take_up(self, known: account.Reservation, context: Context) -> tuple[Pinned, Reserved]:
        """Return a reservation that waited for the regulator and now stands again."""
        try:
            pinned = self._snapshots.pin(context.plan, context.view, known.run)
            return pinned, stand_again(self._home, self._checker, context, known)
        except NotNowError:
            raise  # it waits on
        except (RefusedError, SnapshotLostError):
            self._give_up(known.seq)
            raise

    # -- the masking protocol's own trips ------------------------------------------------

    def _give_key(self, payload: Payload) -> Payload:
        """Return this node's fresh key for a run of a plan that it approved."""
        run = payload.get("run", b"").decode(errors="replace")
        digest = payload.get("plan", b"").decode(errors="replace")
        hexbytes({"run": run}, "run", 16)
        hexbytes({"plan": digest}, "plan", 32)
        bank = self._home.charter.admitted(self._bank, "bank")
        plan = self._checker.approved(digest, bank)
        if plan.mode != "shared" or self._home.now() >= plan.expires:
            raise QueryRefusedError(
                "the plan asks for no masks, or has expired", "该计划不使用掩码或已过期"
            )
        with reading(self._home.database) as connection:
            self._checker.check_one_run(connection, run, digest)
            running = inbox.find_run(connection, run)
        if running is not None and running.closed:
            raise QueryOutOfOrderError("the run is over", "该次运行已结束")
        return self._masking.advertise(run, digest, plan)

    def _vote(self, payload: Payload) -> Payload:
        asked, charter = self._asked_set(payload)
        return self._masking.vote(asked, payload, charter)

    def _reveal(self, payload: Payload) -> Payload:
        asked, _ = self._asked_set(payload)
        return self._masking.reveal(asked, payload)

    def _asked_set(self, payload: Payload) -> tuple[SurvivorSet, Charter]:
        """Return the bank's signed survivor set of a run of its own that goes on here."""
        charter = self._home.charter
        bank = charter.admitted(self._bank, "bank")
        envelope = payload.get("survivors", b"")
        opened = open_envelope(envelope, SUM_SURVIVORS, bank.identity_key, bank.id)
        asked = SurvivorSet.parse(opened.body)
        with reading(self._home.database) as connection:
            running = inbox.find_run(connection, asked.run)
        if running is None or running.bank != bank.id or running.closed:
            raise QueryRefusedError("that run is not open here", "本节点没有该次进行中的运行")
        return asked, charter

    # -- step 4 --------------------------------------------------------------------------

    def _compute(
        self, context: Context, snapshot: Snapshot, seq: int, cosigned: Cosigned
    ) -> _Answer:
        """Return this node's noisy sum, masked if the plan's noise is shared."""
        home, query, mechanism = self._home, context.query, context.query.mechanism
        standing = self._snapshots.still_entitled(snapshot, context.plan, context.view)
        left_out = self._snapshots.left_out(query.run, snapshot, standing.rows)
        held_out = self._snapshots.held_out(
            query.run, snapshot, context.split_key, context.plan.holdout
        )
        chosen = standing.rows & (held_out if query.part == "holdout" else ~held_out)
        total = quantised_sum(
            context.checked.statistic.contribute(
                context.view, snapshot.cells[chosen], snapshot.labels[chosen], context.checked.state
            ),
            mechanism.delta_squared,
            mechanism.scale,
            mechanism.dimension,
        )
        # int64 wraps around mod 2^64, as the protocol's sums do.
        noisy = total + discrete_gaussian(mechanism.sigma, mechanism.dimension)
        commitments, ciphertexts, own_share = None, b"", b""
        if mechanism.mode == "shared":
            party = self._masking.party(query.run)
            secret = RoundSecret.draw(party.roster.tau)
            masked = mask(party, context.round_ctx, noisy, secret)
            vector, commitments = masked.vector, masked.commitments
            ciphertexts, own_share = pack(masked.ciphertexts), masked.own_share
        else:
            vector = np.ascontiguousarray(noisy, dtype="<i8").tobytes()
        header = MaskedHeader(
            run=query.run,
            round=query.round,
            round_ctx=context.round_ctx.hex(),
            node=home.member_id,
            vector=hashlib.sha256(vector).hexdigest(),
            dimension=mechanism.dimension,
            reservation=seq,
            checkpoint=cosigned.note,
            masking=commitments,
        )
        signed = seal(SUM_MASKED, header.body(), home.identity, home.member_id)
        return _Answer(signed, vector, ciphertexts, own_share, left_out, standing)

    # -- steps 5 and 6 -------------------------------------------------------------------

    def _release(self, context: Context, seq: int, answer: _Answer) -> None:
        home, query = self._home, context.query
        opened = open_envelope(answer.header, SUM_MASKED, home.identity.public, home.member_id)
        with writing(home.database) as connection:
            entry = home.release_log.append(
                connection,
                "release",
                {
                    "reservation": seq,
                    "run": query.run,
                    "round": query.round,
                    "round_ctx": context.round_ctx.hex(),
                    "vector": hashlib.sha256(answer.vector).hexdigest(),
                    "header": opened.digest,
                },
            )
            home.internal_log.append(
                connection,
                "authorisation.use",
                {
                    "reservation": seq,
                    "authorisations": answer.standing.authorisations,
                    "internal_size": answer.standing.internal_size,
                },
            )
            # After the entries took their time: computing took long, the world went on meanwhile.
            self._checker.check_release(context)
            account.mark_released(
                connection,
                seq,
                header_digest=opened.digest,
                header=answer.header,
                vector=answer.vector,
                ciphertexts=answer.ciphertexts,
            )
            if answer.left_out is not None:
                key = home.snapshot_key
                usage.note_sum(connection, key, seq, entry.time, answer.left_out)

    def _give_up(self, seq: int) -> None:
        """Void a reservation that came to nothing; where even that fails, the next start does."""
        try:
            with writing(self._home.database) as connection:
                void(self._home, connection, seq, "failed")
                self._home.release_log.checkpoint(connection)
        except HejinError as reason:
            _log.error("not-voided", reservation=seq, code=reason.code)

    def _repeat(self, known: account.Reservation) -> Payload:
        """Send the stored bytes of a round again; only the proof beside them is new."""
        stored = (known.header, known.vector, known.ciphertexts)
        header, vector, ciphertexts = (part or b"" for part in stored)
        return self._outgoing(known.seq, header, vector, ciphertexts)

    def _outgoing(self, seq: int, header: bytes, vector: bytes, ciphertexts: bytes) -> Payload:
        log, cosigned = self._home.release_log, self._witness.cover(seq)
        with reading(self._home.database) as connection:
            path = log.inclusion_proof(connection, seq, cosigned.checkpoint.size)
            entry = log.entry(connection, seq)
        return {
            "kind": b"masked",
            "header": header,
            "vector": vector,
            "shares": ciphertexts,
            "entry": entry.raw,
            "proof": format_proof(seq, path, cosigned.note).encode(),
        }

    # -- step 7 and the end --------------------------------------------------------------

    def _take_last_result(self, payload: Payload) -> Payload:
        home = self._home
        bank = home.charter.admitted(self._bank, "bank")
        opened, result = open_result(payload, bank)
        with reading(home.database) as connection:
            running = inbox.find_run(connection, result.run)
        promised = self._masking.plan_of(result.run)
        if running is None and promised is not None:
            # It gave a key and then missed every round: the key is all there is to end.
            self._checker.approved(promised, bank)
            with writing(home.database) as connection:
                self._masking.forget(connection, result.run)
            erase_deleted(home.database)
            return {"kind": b"noted"}
        if running is None or running.bank != bank.id:
            raise QueryRefusedError("that run is not known here", "本节点没有该次运行")
        new = running.result != opened.digest
        if new and running.closed:
            raise QueryOutOfOrderError("the run is over", "该次运行已结束")
        if new:
            check_result(home, self._masking, payload, result, bank)
        collected = receipts.collect_enough(home, self._bank, self._fetch)
        with writing(home.database) as connection:
            for receipt in collected:
                receipts.log_receipt(home, connection, receipt)
            if new:
                log_result(home, connection, result)
            void_waiting(home, connection, result.run, "run ended")
            inbox.close_run(connection, result.run)
            self._masking.forget(connection, result.run)
            home.release_log.checkpoint(connection)
        erase_deleted(home.database)
        self._snapshots.forget(result.run, erase=True)
        return {"kind": b"noted"}
