"""A member's logs under the regulator's witness: mirrored, cosigned, and compared at start.

Nothing may leave on a reservation that no cosigned checkpoint covers (LEDGER section 3), and no
log goes on that has lost or changed what the mirror holds of it (LEDGER section 4).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Final

import structlog

from hejin_trust.channels import PeerRefused, PeerUnreachable
from hejin_trust.cosignature import Cosigned, open_cosigned, witness_name
from hejin_trust.database import reading, writing
from hejin_trust.errors import HejinError, RefusedError
from hejin_trust.home import MemberHome
from hejin_trust.mirroring import LogStanding, LogUpdate, Mirror
from hejin_trust.process import repeat

MOST_OFF: Final = timedelta(seconds=120)
"""A reservation and its cosignature may lie this far apart (LEDGER section 5, V3)."""

FRESH: Final = timedelta(seconds=60)
"""A cosignature is shown again this long; a bank refuses one of more than ten minutes."""

HEARD_SECONDS: Final = 10.0
"""The regulator counts as within reach this long after it answered."""

REFRESH_SECONDS: Final = 5.0
"""Between looks at what is new; well below `HEARD_SECONDS`, so that a round need not look."""

MOST_ENTRIES: Final = 5_000
MOST_BYTES: Final = 8 << 20
"""What one message carries of one log; a longer backlog goes in portions."""


_log = structlog.get_logger(__name__)


class FrozenError(HejinError):
    """The regulator's mirror holds another history of this member's log."""

    code = "frozen"
    exit_code = 3


class WitnessUnreachableError(RefusedError):
    """The regulator does not cosign now; the same may be asked again later."""

    code = "witness-unreachable"


class WitnessRefusedError(HejinError):
    """The mirror refuses this member's entries or checkpoints."""

    code = "witness-refused"


class ClockOffError(RefusedError):
    """This member's clock and the regulator's differ by more than a reservation may."""

    code = "clock-off"


def check_history(log: str, size: int, held: LogStanding, root: Callable[[int], bytes]) -> None:
    """Raise FrozenError unless the mirror's copy is a beginning of the own log (LEDGER section 4).

    size   entries of the own log; root: the own log's root at a size up to that
    """
    if held.size > size:
        raise FrozenError(
            f"the log {log} has {size} entries here, the regulator holds {held.size}: the database"
            " was put back from a backup; nothing leaves until `recover` was run with the"
            " regulator's approval",
            f"日志 {log} 在本地有 {size} 条，监管方持有 {held.size} 条：数据库曾从备份还原；"
            "须凭监管方批准执行 `recover`，此前不会输出任何内容",
        )
    if held.size and root(held.size) != held.root:
        raise FrozenError(
            f"the log {log} differs from what the regulator holds of its first {held.size} entries:"
            " it was forked; restore the backup anew and run `recover` before anything else, or"
            " ask the regulator",
            f"日志 {log} 的前 {held.size} 条与监管方所持不同：日志已分叉；请重新还原备份并先执行"
            " `recover`，或咨询监管方",
        )


class Witness:
    """Keeps one member's two logs mirrored, and gives cosigned checkpoints of its release log.

    Safe to use from several threads: one message carries what all of them appended meanwhile.
    """

    def __init__(self, home: MemberHome, mirror: Mirror) -> None:
        """Watch over the logs of `home`; nothing is asked before `start`."""
        self._home, self._mirror = home, mirror
        self._logs = {log.origin: log for log in (home.release_log, home.internal_log)}
        self._lock = threading.Lock()
        self._held: dict[str, int] = {}
        self._newest: Cosigned | None = None
        self._heard: float | None = None
        self._unsaved: list[Cosigned] = []
        self._frozen: FrozenError | None = None
        self.offset: timedelta | None = None
        """The regulator's clock minus this member's, as of the last cosignature."""

    def start(self) -> None:
        """Compare both logs with the mirror, then mirror what it lacks.

        raises   FrozenError, WitnessUnreachableError, WitnessRefusedError
        """
        with self._lock:
            self._compare()
            self._submit()

    def refresh(self) -> None:
        """Mirror what is new, hear the regulator's time, and keep its cosignatures.

        To be repeated every few seconds; rounds wait for no disk but their own.
        raises   FrozenError, WitnessUnreachableError, WitnessRefusedError, StorageError
        """
        with self._lock:
            self._submit()
            if self._unsaved:
                with writing(self._home.database) as connection:
                    for cosigned in self._unsaved:
                        log = self._logs[cosigned.checkpoint.origin]
                        log.keep_cosigned(connection, cosigned)
                self._unsaved.clear()

    def ready(self) -> None:
        """Raise unless a reservation made now can be expected to be cosigned in time.

        raises   FrozenError, WitnessUnreachableError, ClockOffError; nothing is charged then
        """
        with self._lock:
            if self._frozen is not None:
                raise self._frozen
            if self._heard is None or time.monotonic() - self._heard > HEARD_SECONDS:
                self._submit()
        offset = self.offset
        assert offset is not None, "heard means that an offset is known"
        if abs(offset) > MOST_OFF:
            raise clock_off(offset)

    def cover(self, seq: int) -> Cosigned:
        """Return a cosigned checkpoint of the release log over entry `seq`, at most a minute old.

        raises   FrozenError, WitnessUnreachableError, WitnessRefusedError
        """
        with self._lock:
            newest = self._newest
            if newest is None or newest.checkpoint.size <= seq or not self._is_fresh(newest):
                self._submit()
                newest = self._newest
            assert newest is not None
            assert newest.checkpoint.size > seq, "a message goes up to the newest entry"
            return newest

    def _is_fresh(self, newest: Cosigned) -> bool:
        assert self.offset is not None, "it came with the cosignature"
        return abs(self._home.now() + self.offset - newest.time) <= FRESH

    def _compare(self) -> None:
        with self._asking():
            held = {standing.origin: standing for standing in self._mirror.standing()}
        with reading(self._home.database) as connection:
            for origin, log in self._logs.items():
                known = held.get(origin, LogStanding(origin, 0, b""))
                try:
                    check_history(
                        origin, log.size(connection), known, partial(log.root, connection)
                    )
                except FrozenError as reason:
                    self._frozen = reason
                    raise
                self._held[origin] = known.size
        self._frozen = None

    def _submit(self) -> None:
        """Send what is new until the mirror holds all, and take the cosignatures."""
        if self._frozen is not None:
            raise self._frozen
        if not self._held:
            self._compare()
        more = True
        while more:
            updates, more = self._updates()
            try:
                with self._asking():
                    lines = self._mirror.add(updates)
            except WitnessUnreachableError:
                raise
            except (PeerRefused, RefusedError) as reason:
                # The mirror may hold what an answer that was lost had carried; or another history.
                before = dict(self._held)
                self._compare()
                if self._held == before:
                    raise WitnessRefusedError(
                        f"the regulator does not cosign: {reason.text.en}",
                        f"监管方拒绝见证签名：{reason.text.zh}",
                    ) from reason
                more = True
            else:
                self._take(updates, lines)
        self._take_charter()

    def _updates(self) -> tuple[list[LogUpdate], bool]:
        """Return the next message, and whether another one must follow."""
        release = self._home.release_log.origin
        updates: list[LogUpdate] = []
        more = False
        with reading(self._home.database) as connection:
            for origin, log in self._logs.items():
                old = self._held[origin]
                entries, whole = _portion(log.entries(connection, old))
                more |= not whole
                # Asked again without new entries, the release log gets a fresh time.
                if entries or origin == release:
                    size = old + len(entries)
                    updates.append(
                        LogUpdate(
                            origin=origin,
                            old_size=old,
                            entries=entries,
                            proof=tuple(log.consistency_proof(connection, old, size)),
                            checkpoint=log.note(connection, size),
                        )
                    )
        return updates, more

    def _take(self, updates: list[LogUpdate], lines: tuple[str, ...]) -> None:
        charter, home = self._home.charter, self._home
        name = witness_name(charter.consortium, charter.regulator.id)
        if len(lines) != len(updates):
            raise WitnessRefusedError(
                f"the regulator gave {len(lines)} cosignatures for {len(updates)} checkpoints",
                f"监管方对 {len(updates)} 个检查点给出了 {len(lines)} 个见证签名",
            )
        for update, line in zip(updates, lines, strict=True):
            log = self._logs[update.origin]
            cosigned = open_cosigned(
                update.checkpoint + line,
                update.origin,
                log.public_key,
                name,
                charter.regulator.log_key,
            )
            self._held[update.origin] = cosigned.checkpoint.size
            if update.entries:
                self._unsaved.append(cosigned)
            if log is home.release_log:
                self._newest = cosigned
                self.offset = cosigned.time - home.now().replace(microsecond=0)
        self._heard = time.monotonic()

    def _take_charter(self) -> None:
        """A member that was revoked meanwhile must not be served under the charter of before."""
        if self._mirror.charter_serial() > self._home.charter.serial:
            with self._asking():
                self._home.charters.update(self._mirror.charter())

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Turn an unreachable regulator into the refusal that says what waits for it."""
        try:
            yield
        except PeerUnreachable as reason:
            self._heard = None
            raise WitnessUnreachableError(
                "the regulator does not answer, and nothing leaves without its cosignature:"
                " what was asked waits until it is back",
                "监管方没有应答，未经其见证签名不会输出任何内容：请求将等待其恢复",
            ) from reason


def start_witness(witness: Witness, stop: threading.Event) -> bool:
    """Start the witness as soon as the regulator answers; return False if `stop` came first.

    raises   FrozenError
    """
    last = ""
    while not stop.is_set():
        try:
            witness.start()
        except FrozenError:
            raise
        except HejinError as reason:
            if reason.code != last:
                _log.warning("waits-for-regulator", code=reason.code, reason=reason.text.en)
            last = reason.code
            stop.wait(REFRESH_SECONDS)
        else:
            return True
    return False


def keep_witness(witness: Witness, stop: threading.Event) -> None:
    """Mirror what is new every few seconds until `stop`; raises FrozenError."""
    repeat(witness.refresh, REFRESH_SECONDS, stop, fatal=(FrozenError,))


def clock_off(offset: timedelta) -> ClockOffError:
    """Return the refusal for a clock that is off by `offset` (regulator minus member)."""
    seconds = round(abs(offset).total_seconds())
    en, zh = ("behind", "落后") if offset > timedelta(0) else ("ahead of", "超前")
    return ClockOffError(
        f"this member's clock is {seconds} s {en} the regulator's, at most"
        f" {MOST_OFF.seconds} s are allowed: set this member's clock, then ask again",
        f"本成员的时钟比监管方{zh} {seconds} 秒，最多允许 {MOST_OFF.seconds} 秒："
        "请校准本成员的时钟后重试",
    )


def _portion(leaves: Iterable[bytes]) -> tuple[tuple[bytes, ...], bool]:
    """Return as many leaves as one message holds, and whether these were all."""
    taken: list[bytes] = []
    left = MOST_BYTES
    for leaf in leaves:
        if taken and (len(taken) == MOST_ENTRIES or len(leaf) > left):
            return tuple(taken), False
        taken.append(leaf)
        left -= len(leaf)
    return tuple(taken), True
