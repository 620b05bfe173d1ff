"""The rows that a run is pinned to: taken once, kept encrypted, minus revocations ever after."""

from __future__ import annotations

import hashlib
import io
import secrets
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime
from fractions import Fraction
from itertools import compress
from pathlib import Path

import numpy as np
import numpy.typing as npt
import structlog
from sqlalchemy import Connection

from hejin_models.features import FeatureView
from hejin_models.plan import Plan
from hejin_node import erased, inbox, usage
from hejin_node.consent import entitled
from hejin_node.errors import NodeError, ViewFailedError
from hejin_node.home import NodeHome
from hejin_node.snapshot import LabelSpec, Snapshot, no_rows, take_snapshot, view_seconds
from hejin_privacy.holdout import in_holdout
from hejin_trust.at_rest import NotOpenedError, decrypted, encrypted
from hejin_trust.canonical import encode, time_text
from hejin_trust.database import reading
from hejin_trust.files import make_folder, remove_file, replace_file

_SUFFIX = ".sealed"

_log = structlog.get_logger(__name__)


class SnapshotLostError(NodeError):
    """The stored rows of a run are gone or damaged: the run cannot go on."""

    code = "snapshot-lost"


@dataclass(frozen=True, slots=True)
class Basis:
    """The authorisations that a snapshot was taken under, and the internal log that holds them.

    at  moment at which they stood
    """

    grants: dict[str, int]
    internal_size: int
    internal_root: bytes
    at: datetime

    @property
    def authorisations(self) -> str:
        """The hash that the log names them by: SHA-256 of their sorted numbers in JCS."""
        return hashlib.sha256(encode(sorted(self.grants.values()))).hexdigest()


@dataclass(frozen=True, slots=True, eq=False)
class Standing:
    """What one sum of a run rests on.

    rows            bool[n]: the snapshot's rows that may enter it
    authorisations  hash of all authorisations that cover its plan now
    internal_size   of the internal log that holds them
    """

    rows: npt.NDArray[np.bool_]
    authorisations: str
    internal_size: int


@dataclass(frozen=True, slots=True)
class Pinned:
    """A run's rows; `basis` says under what, if they were taken just now, else None.

    failed  the view's SQL failed over the rows, or did not end: there are none
    """

    snapshot: Snapshot
    basis: Basis | None
    failed: bool = False


class SnapshotStore:
    """The pinned snapshots of one node's runs: `snapshots/RUN.sealed`, AES-256-GCM."""

    def __init__(self, home: NodeHome) -> None:
        self._home = home
        self._folder = home.path / "snapshots"
        self._held: dict[str, Snapshot] = {}
        self._parts: dict[str, tuple[bytes, Fraction, npt.NDArray[np.bool_]]] = {}
        self._erasures = -1  # the newest one that what is held knows of

    def pin(self, plan: Plan, view: FeatureView, run_id: str) -> Pinned:
        """Return the run's snapshot, taken now if the run is new.

        A fresh one is stored durably before it is returned; it counts from the transaction
        that logs it.
        raises   SnapshotLostError, FileError
        """
        with reading(self._home.database) as connection:
            known = inbox.find_run(connection, run_id)
            erasures = erased.newest(connection)
        if erasures != self._erasures:
            self._erasures = erasures
            self._held.clear()
            self._parts.clear()
        if run_id in self._held:
            return Pinned(self._held[run_id], None)
        if known is not None:
            snapshot, size = self._load(run_id)
            # It may be erased in the log and not yet in the file.
            snapshot = self._spare(run_id, snapshot, size)
            if snapshot.root.hex() != known.snapshot_root:
                raise _lost()
            self._held[run_id] = snapshot
            return Pinned(snapshot, None)
        basis = self._basis(plan, view)
        snapshot, failed = self._take(plan, view, basis.grants.keys())
        self._store(run_id, snapshot, basis.internal_size)
        # Whoever was erased meanwhile: either that looks at the file, or this at the erasure.
        snapshot = self._spare(run_id, snapshot, basis.internal_size)
        self._held[run_id] = snapshot
        return Pinned(snapshot, basis, failed)

    def still_entitled(self, snapshot: Snapshot, plan: Plan, view: FeatureView) -> Standing:
        """Return the rows whose enterprises have not revoked since, and what says so."""
        basis = self._basis(plan, view)
        codes = snapshot.codes
        rows = np.fromiter((code in basis.grants for code in codes), np.bool_, len(codes))
        return Standing(rows, basis.authorisations, basis.internal_size)

    def left_out(
        self, run_id: str, snapshot: Snapshot, chosen: npt.NDArray[np.bool_]
    ) -> tuple[int, ...] | None:
        """Return the grants of the run whose enterprises are in its sums no more.

        chosen   bool[n]: the rows that still are
        returns  None where what the run began with was lost
        """
        codes = [snapshot.codes[place] for place in np.flatnonzero(chosen)]
        with reading(self._home.database) as connection:
            return usage.left_out(connection, self._home.snapshot_key, run_id, codes)

    def held_out(
        self, run_id: str, snapshot: Snapshot, key: bytes, share: Fraction
    ) -> npt.NDArray[np.bool_]:
        """Return bool[n]: the rows of the hold-out part. It costs a MAC a row, so it is kept."""
        known = self._parts.get(run_id)
        if known is None or known[:2] != (key, share):
            known = (key, share, in_holdout(snapshot.codes, key, share))
            self._parts[run_id] = known
        return known[2]

    def log_snapshot(
        self, connection: Connection, pinned: Pinned, run_id: str, digest: str, bank: str
    ) -> inbox.Run:
        """Append the `snapshot` entry of a fresh snapshot and return the run opened on it."""
        assert pinned.basis is not None, "only a snapshot taken just now is logged"
        basis = pinned.basis
        entry = self._home.release_log.append(
            connection,
            "snapshot",
            {
                "run": run_id,
                "plan": digest,
                "root": pinned.snapshot.root.hex(),
                "schema": pinned.snapshot.schema,
                "authorisations": basis.authorisations,
                "internal_size": basis.internal_size,
                "internal_root": basis.internal_root.hex(),
            },
        )
        opened = inbox.Run(
            run=run_id,
            plan=digest,
            bank=bank,
            snapshot_seq=entry.seq,
            snapshot_root=pinned.snapshot.root.hex(),
            result="",
            closed=False,
        )
        inbox.open_run(connection, opened)
        key, taken = self._home.snapshot_key, time_text(basis.at)
        usage.note_run(connection, key, run_id, taken, _fates(pinned, basis))
        return opened

    def forget(self, run_id: str, *, erase: bool = False) -> None:
        """Let go of a run's rows in memory; with `erase`, also of the stored ones; FileError."""
        self._held.pop(run_id, None)
        self._parts.pop(run_id, None)
        if erase:
            remove_file(self._path(run_id))

    def leave_out_erased(self) -> int:
        """Store the rows of runs anew without those of erased enterprises.

        Also of runs that are about to begin, or were refused when they were. The roots in the log
        stay: they tell what was taken, not what is still there.
        returns   how many runs had such rows
        raises    FileError
        """
        with reading(self._home.database) as connection:
            if erased.newest(connection) < 0:
                return 0
        changed = 0
        for path in self._stored():
            if path.suffix == _SUFFIX and not self._is_over(path.stem):
                try:
                    snapshot, size = self._load(path.stem)
                except SnapshotLostError:
                    # The run cannot go on with it, and nobody can tell whose rows it holds.
                    remove_file(path)
                    continue
                changed += self._spare(path.stem, snapshot, size) is not snapshot
                if self._is_over(path.stem):
                    remove_file(path)  # it ended meanwhile, and was removed before
        return changed

    def sweep(self) -> None:
        """At start: erase stored rows that no open run is pinned to, as a crash leaves them."""
        with reading(self._home.database) as connection:
            running = {path: inbox.find_run(connection, path.stem) for path in self._stored()}
        for path, run in running.items():
            if path.suffix != _SUFFIX or run is None or run.closed:
                remove_file(path)

    def _is_over(self, run_id: str) -> bool:
        with reading(self._home.database) as connection:
            run = inbox.find_run(connection, run_id)
        return run is not None and run.closed

    def _spare(self, run_id: str, snapshot: Snapshot, size: int) -> Snapshot:
        """Return a run's rows without those of erased enterprises; store them if any went.

        size   of the internal log when they were taken: who was erased before is not in them
        """
        with reading(self._home.database) as connection:
            gone = erased.Erased(self._home.pseudonym_key, erased.since(connection, size))
        stays = np.fromiter(
            (not gone.names(code) for code in snapshot.codes), np.bool_, len(snapshot.codes)
        )
        if stays.all():
            return snapshot
        left = replace(
            snapshot,
            codes=tuple(compress(snapshot.codes, stays)),
            cells=snapshot.cells[stays],
            labels=snapshot.labels[stays],
        )
        self._store(run_id, left, size)
        return left

    def _stored(self) -> list[Path]:
        return list(self._folder.iterdir()) if self._folder.is_dir() else []

    def _basis(self, plan: Plan, view: FeatureView) -> Basis:
        """Read grants and log in one transaction: the log's size names exactly these grants."""
        home, log = self._home, self._home.internal_log
        with reading(home.database) as connection:
            size = log.size(connection)
            now = home.now()
            grants = grants_for(connection, plan, view, now)
            return Basis(grants, size, log.root(connection, size), now)

    def _path(self, run_id: str) -> Path:
        return self._folder / f"{run_id}{_SUFFIX}"

    def _take(self, plan: Plan, view: FeatureView, codes: Collection[str]) -> tuple[Snapshot, bool]:
        label, salt_key = LabelSpec(plan.label.bank, plan.label.definition), secrets.token_bytes(32)
        try:
            taken = take_snapshot(
                self._home.warehouse,
                view,
                label,
                codes,
                salt_key,
                plan.as_of,
                view_seconds(plan.deadlines.masked),
            )
        except ViewFailedError as reason:
            # A refusal would tell the bank, free of charge, that some enterprise's value breaks
            # the SQL. It gets what a node without contributors sends: noise alone.
            _log.error("view-failed", view=view.id, reason=str(reason.text))
            return no_rows(view, label, salt_key), True
        return taken, False

    def _store(self, run_id: str, snapshot: Snapshot, size: int) -> None:
        buffer = io.BytesIO()
        np.savez(
            buffer,
            codes=np.array(snapshot.codes, dtype="U18"),
            cells=snapshot.cells,
            labels=snapshot.labels,
            root=np.frombuffer(snapshot.root, np.uint8),
            schema=np.array(snapshot.schema),
            replaced=np.array(snapshot.replaced),
            size=np.array(size),
        )
        sealed = encrypted(self._home.snapshot_key, buffer.getvalue(), run_id.encode())
        make_folder(self._folder, mode=0o700)
        replace_file(self._path(run_id), sealed, mode=0o600)

    def _load(self, run_id: str) -> tuple[Snapshot, int]:
        """Return stored rows, and the size of the internal log when they were taken."""
        try:
            sealed = self._path(run_id).read_bytes()
            opened = decrypted(self._home.snapshot_key, sealed, run_id.encode())
        except (OSError, NotOpenedError) as reason:
            raise _lost() from reason
        with np.load(io.BytesIO(opened), allow_pickle=False) as stored:
            snapshot = Snapshot(
                codes=tuple(stored["codes"].tolist()),
                cells=stored["cells"],
                labels=stored["labels"],
                root=stored["root"].tobytes(),
                schema=str(stored["schema"]),
                replaced=int(stored["replaced"]),
            )
            return snapshot, int(stored["size"])


def _fates(pinned: Pinned, basis: Basis) -> dict[int, usage.Fate]:
    """Return what became of each authorised enterprise, by its grant."""
    used, rowless = frozenset(pinned.snapshot.codes), pinned.snapshot.rowless

    def fate(code: str) -> usage.Fate:
        if pinned.failed:
            return "view-failed"
        if code in used:
            return "used"
        return "without-row" if code in rowless else "unlabelled"

    return {seq: fate(code) for code, seq in basis.grants.items()}


def grants_for(
    connection: Connection, plan: Plan, view: FeatureView, at: datetime
) -> dict[str, int]:
    """Return the authorisations in force now that cover a plan: code -> grant entry."""
    return entitled(
        connection,
        purpose=plan.purpose,
        bank=plan.bank,
        categories=sorted({dataset.category for dataset in view.datasets}),
        features=[feature.name for feature in view.features],
        at=at,
    )


def _lost() -> SnapshotLostError:
    return SnapshotLostError(
        "the stored rows of this run are missing or damaged: end the run and plan again",
        "本次运行所固定的数据缺失或损坏：请终止该运行并重新制定计划",
    )
