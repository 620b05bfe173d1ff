"""Withdraw a load: its rows leave the data set, its source may come again, and the log says so.

    1. write all segments that have rows of it, or of what corrected it, anew without them, and sync
    2. one transaction: log `withdraw`, keep the load's facts, forget the load, swap the segments
    3. remove the old segments

A crash before 2 changes nothing; after it, the next load or start of the node does what is left.
Runs that took their rows before go on with them: the log has the root of what was taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import structlog
from sqlalchemy import Connection

from hejin_node import inbox, manifest, withdrawn
from hejin_node.errors import NodeError, WarehouseError
from hejin_node.giving_way import GivingWay
from hejin_node.home import NodeHome, ViewMissingError
from hejin_node.manifest import Load
from hejin_node.snapshot import LabelSpec
from hejin_node.sources import Progress, silent
from hejin_trust.database import reading, writing
from hejin_trust.entries import Entry

_SQL = "sql:"

_log = structlog.get_logger(__name__)


class WithdrawalError(NodeError):
    """A load cannot be withdrawn as asked; nothing was changed."""

    code = "bad-withdrawal"


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """What was withdrawn.

    seq       the `withdraw` entry of the internal log; None if that was done before
    rows      that went, with those in quarantine
    segments  that were written anew
    loads     numbers of the load and of those that corrected it
    runs      ids of open runs that took rows of the data set before, and keep them
    """

    seq: int | None
    rows: int
    segments: int
    loads: tuple[int, ...]
    runs: tuple[str, ...]


def withdraw(
    home: NodeHome, dataset: str, load: int, reason: str, progress: Progress = silent
) -> Withdrawal:
    """Withdraw one complete load of a data set, with the loads that corrected it.

    reason   why, in a few words; it is logged
    progress called with (rows looked at, rows in all)
    raises   WithdrawalError, SegmentError, WarehouseError; ViewError where it cannot be told what
             an open run reads: nothing was changed
    """
    if not reason.strip():
        raise WithdrawalError(
            "Give a reason in a few words: the log keeps it.", "请简要说明原因：原因将记入日志。"
        )
    withdraw_again(home)
    if was_withdrawn(home, dataset, load):
        return Withdrawal(None, 0, 0, (), ())
    with (
        home.warehouse.without_loads(
            dataset, lambda loads: chosen(loads, dataset, load), progress
        ) as (going, done),
        writing(home.database) as connection,
    ):
        runs = _holding(home, connection, going[0])
        entry = home.internal_log.append(
            connection,
            "withdraw",
            {
                "dataset": dataset,
                "load": load,
                "source": going[0].source,
                "completed": going[0].completed,
                "rows": done.rows_gone,
                "reason": reason,
            },
        )
        withdrawn.record(connection, entry, going)
        _take_out(connection, going, done)
    return Withdrawal(
        entry.seq, done.rows_gone, len(done.old), tuple(one.id for one in going), runs
    )


def was_withdrawn(home: NodeHome, dataset: str, load: int) -> bool:
    """Tell whether a load is gone already, so that nothing is left to do."""
    there = any(one.id == load for one in home.warehouse.loads(dataset))
    return not there and any(one.id == load for one in home.warehouse.withdrawn(dataset))


def chosen(loads: Sequence[Load], dataset: str, number: int) -> tuple[Load, ...]:
    """Return what is to go: the load with this number first, then those that corrected it.

    loads    of the data set, oldest first
    raises   WithdrawalError
    """
    load = next((one for one in loads if one.id == number), None)
    if load is None:
        raise WithdrawalError(
            f"Load {number} is none of data set {dataset}: see `hejin node data show {dataset}`.",
            f"数据集 {dataset} 没有第 {number} 次导入：参见 `hejin node data show {dataset}`。",
        )
    if load.state == "open":
        raise WithdrawalError(
            f"Load {number} was interrupted and nobody sees its rows: "
            f"`hejin node data give-up {number}` removes it.",
            f"第 {number} 次导入已中断，其数据尚不可见："
            f"请执行 `hejin node data give-up {number}`。",
        )
    if load.corrects is not None:
        raise WithdrawalError(
            f"Load {number} corrects load {load.corrects}, whose rows would then be nowhere: "
            f"withdraw load {load.corrects}, which takes this one along, and ingest its source "
            "again.",
            f"第 {number} 次导入更正的是第 {load.corrects} 次导入，单独撤回会丢失这些行："
            f"请撤回第 {load.corrects} 次导入（本次一并撤回），再重新导入其来源。",
        )
    later = [
        one.id
        for one in loads
        if load.name.startswith(_SQL)
        and (one.name, one.kind, one.corrects) == (load.name, load.kind, None)
        and one.id > number
    ]
    if later:
        listed = ", ".join(map(str, reversed(later)))
        raise WithdrawalError(
            f"Later loads of {load.name} go on from load {number} or took its place, and rows "
            f"would be left out for ever: withdraw them first, the newest one first ({listed}); "
            "an interrupted one is given up with `hejin node data give-up`.",
            f"{load.name} 其后的导入接续或替换了第 {number} 次导入，单独撤回将永久漏行："
            f"请先从最新一次起依次撤回（{listed}）；"
            "中断的导入请用 `hejin node data give-up` 放弃。",
        )
    return _with_corrections(loads, (number,))


def withdraw_again(home: NodeHome) -> int:
    """Withdraw what came back with a backup and was withdrawn after it; return how many rows went.

    At the end of a recovery, and at each start of the node. Where segments of a data set are
    missing or damaged, or the disk is full, it is put off: nothing is read from it meanwhile.
    """
    with reading(home.database) as connection:
        waiting = withdrawn.pending(connection)
    rows = 0
    for dataset, found in groupby(sorted(waiting, key=lambda one: one.dataset), _dataset_of):
        numbers = tuple(one.id for one in found)
        try:
            rows += _again(home, dataset, numbers)
        except WarehouseError as reason:
            _log.error("withdrawal-put-off", loads=len(numbers), code=reason.code)
    return rows


def note_lost(connection: Connection, entry: Entry) -> None:
    """Take note of a `withdraw` entry that a recovery puts back, if the backup has its load.

    One that came since the database was put back is another one: its number was free again.
    """
    body = entry.body
    told = tuple(body[key] for key in ("load", "source", "completed"))
    loads = manifest.loads(connection, str(body["dataset"]))
    for one in loads:
        if (one.id, one.source, one.completed) == told:
            going = _with_corrections(loads, (one.id,))
            withdrawn.record(connection, entry, going, applied=False)


def _again(home: NodeHome, dataset: str, numbers: tuple[int, ...]) -> int:
    with (
        home.warehouse.without_loads(dataset, lambda loads: _with_corrections(loads, numbers)) as (
            going,
            done,
        ),
        writing(home.database) as connection,
    ):
        _take_out(connection, going, done)
        withdrawn.mark_applied(connection, dataset)
    return done.rows_gone


def _dataset_of(load: Load) -> str:
    return load.dataset


def _with_corrections(loads: Sequence[Load], numbers: tuple[int, ...]) -> tuple[Load, ...]:
    """Return the complete loads of these numbers, then those that corrected one of them."""
    return (
        *(one for one in loads if one.id in numbers),
        *(one for one in loads if one.corrects in numbers and one.state == "complete"),
    )


def _take_out(connection: Connection, going: Sequence[Load], done: GivingWay) -> None:
    manifest.remove_loads(connection, [one.id for one in going])
    done.swap(connection)


def _holding(home: NodeHome, connection: Connection, load: Load) -> tuple[str, ...]:
    """Return the open runs whose rows were taken from the load's data set."""
    found = []
    for run in inbox.runs(connection):
        if run.closed:
            continue
        plan = inbox.find_offer(connection, run.plan).plan
        try:
            read = {one.name for one in home.view(plan.view.sha256).datasets}
        except ViewMissingError:
            read = {load.dataset}
        label = LabelSpec(plan.label.bank, plan.label.definition).dataset
        if load.dataset in (read if load.kind == "data" else {label}):
            found.append(run.run)
    return tuple(found)
