"""V4: every release was reserved before, once, for the same round and snapshot."""

from __future__ import annotations

from hejin_regulator.findings import Notebook
from hejin_regulator.records import NodeLog, Release, Reservation


def check_reserved(node: NodeLog, notes: Notebook) -> None:
    """V4: each release (or void) ends exactly one earlier reservation of the same round."""
    name = node.member.id
    rounds: dict[tuple[str, int], int] = {}
    for reservation in node.reservations.values():
        key = (reservation.run, reservation.round)
        if key in rounds:
            notes.add(
                "V4",
                name,
                reservation.seq,
                f"round {reservation.round} was reserved before, in entry {rounds[key]}",
                f"第 {reservation.round} 轮此前已在条目 {rounds[key]} 中预留",
            )
        rounds.setdefault(key, reservation.seq)
        _check_snapshot(node, reservation, notes)
    ended: dict[int, int] = {}
    for release in node.releases:
        _check_release(node, release, notes)
        _check_ended_once(name, release.seq, release.reservation, ended, notes)
    for seq, reserved in node.voids:
        if reserved not in node.reservations or reserved >= seq:
            notes.add("V4", name, seq, "what is void was never reserved", "作废的预留不存在")
        _check_ended_once(name, seq, reserved, ended, notes)
    for seq in node.reservations.keys() - ended.keys():
        notes.add(
            "V4",
            name,
            seq,
            "the reservation has neither a release nor a void",
            "该预留既无输出也未作废",
        )


def _check_ended_once(
    name: str, seq: int, reserved: int, ended: dict[int, int], notes: Notebook
) -> None:
    if reserved in ended:
        notes.add(
            "V4",
            name,
            seq,
            f"reservation {reserved} was used before, by entry {ended[reserved]}",
            f"预留 {reserved} 此前已被条目 {ended[reserved]} 使用",
        )
    ended.setdefault(reserved, seq)


def _check_release(node: NodeLog, release: Release, notes: Notebook) -> None:
    reservation = node.reservations.get(release.reservation)
    if reservation is None or reservation.seq >= release.seq:
        notes.add(
            "V4",
            node.member.id,
            release.seq,
            "the release has no earlier reservation",
            "该输出没有在先的预留",
        )
    elif (release.run, release.round, release.round_ctx) != (
        reservation.run,
        reservation.round,
        reservation.round_ctx,
    ):
        notes.add(
            "V4",
            node.member.id,
            release.seq,
            f"the release is of another round than its reservation {reservation.seq}",
            f"该输出的轮次与其预留 {reservation.seq} 不同",
        )


def _check_snapshot(node: NodeLog, reservation: Reservation, notes: Notebook) -> None:
    snapshot = node.snapshots.get(reservation.snapshot_seq)
    if (
        snapshot is None
        or snapshot.seq >= reservation.seq
        or (snapshot.run, snapshot.plan, snapshot.root)
        != (reservation.run, reservation.plan, reservation.snapshot)
    ):
        notes.add(
            "V4",
            node.member.id,
            reservation.seq,
            "the reservation names no earlier snapshot of its own run and plan",
            "该预留未引用同一运行与计划的在先快照",
        )
