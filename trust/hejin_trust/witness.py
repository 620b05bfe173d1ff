"""A member's logs under the regulator's witness: mirrored, cosigned, and compared at start.

Nothing may leave on a reservation that no cosigned checkpoint covers (LEDGER section 3), and no
log goes on that has lost or changed what the mirror holds of it (LEDGER section 4).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Final

import structlog

from hejin_trust.channels import PeerRefused, PeerUnreachable
from hejin_trust.charter import NotAMemberError
from hejin_trust.checkpoint import CheckpointError
from hejin_trust.cosignature import Cosigned, open_cosigned, witness_name
from hejin_trust.database import reading, writing
from hejin_trust.errors import HejinError, NotNowError, RefusedError
from hejin_trust.home import MemberHome
from hejin_trust.mirroring import LogStanding, LogUpdate, Mirror, portion
from hejin_trust.one_history import FrozenError, check_history
from hejin_trust.process import repeat

MOST_OFF: Final = timedelta(seconds=120)
"""A reservation and its cosignature may lie this far apart (LEDGER section 5, V3)."""

MOST_CLOCK: Final = timedelta(seconds=110)
"""A clock may be this far off: it leaves ten seconds of `MOST_OFF` for the cosignature to come."""

SET_BY: Final = timedelta(seconds=5)
"""A clock that moved by so much more or less than time passed was set; documents have seconds."""

FRESH: Final = timedelta(seconds=60)
"""A cosignature is shown again this long; a bank refuses one of more than ten minutes."""

HEARD: Final = timedelta(seconds=10)
"""The regulator counts as within reach this long after it answered."""

REFRESH_SECONDS: Final = 5.0
"""Between looks at what is new; well below `HEARD`, so that a round need not look."""

_NEVER: Final = timedelta.max
_log = structlog.get_logger(__name__)


class WitnessUnreachableError(NotNowError):
    """The regulator does not cosign now; the same may be asked again later."""

    code = "witness-unreachable"


class WitnessRefusedError(HejinError):
    """The mirror refuses this member's entries or checkpoints, or its cosignature is not valid."""

    code = "witness-refused"


class ClockOffError(NotNowError):
    """This member's clock and the regulator's differ by more than a reservation may."""

    code = "clock-off"


class Witness:
    """Keeps a member's two logs mirrored, and gives cosigned checkpoints of its release log.

    Safe to use from several threads: one message carries what all of them appended meanwhile.
    """

    def __init__(self, home: MemberHome, mirror: Mirror) -> None:
        """Watch over the logs of `home`; nothing is asked before `start`."""
        self._home, self._mirror = home, mirror
        self._logs = {log.origin: log for log in (home.internal_log, home.release_log)}
        self._lock = threading.Lock()
        self._held: dict[str, int] = {}
        self._newest: Cosigned | None = None
        # When the newest cosignature came: time.monotonic(), and this member's clock.
        self._taken = (time.monotonic(), home.now())
        self._heard = False
        self._failed: float | None = None  # when the last try began, if it was in vain
        self._unsaved: list[Cosigned] = []
        self._frozen: FrozenError | None = None
        self.offset: timedelta | None = None
        """The regulator's clock minus this member's, as of the last cosignature."""

    def start(self) -> None:
        """Compare both logs with the mirror, then mirror what it lacks.

        raises   FrozenError, WitnessUnreachableError, WitnessRefusedError, StorageError
        """
        with self._lock:
            self._compare()
            self._submit(time.monotonic())
        self._save()

    def refresh(self) -> None:
        """Mirror what is new, hear the regulator's time, and keep its cosignatures.

        To be repeated every few seconds; rounds wait for no disk but their own.
        raises   what `ready` does, and StorageError
        """
        with self._lock:
            self._submit(time.monotonic())
        self._save()
        self.check_clock()

    def _save(self) -> None:
        """Keep the cosignatures that came in; rounds do not wait for it."""
        with self._lock:
            unsaved, self._unsaved = self._unsaved, []
        try:
            if unsaved:
                with writing(self._home.database) as connection:
                    for cosigned in unsaved:
                        log = self._logs[cosigned.checkpoint.origin]
                        log.keep_cosigned(connection, cosigned)
        except HejinError:
            with self._lock:
                self._unsaved[:0] = unsaved
            raise

    def ready(self) -> None:
        """Raise unless a reservation made now can be expected to be cosigned in time.

        raises   FrozenError, WitnessUnreachableError, WitnessRefusedError, ClockOffError
        """
        asked = time.monotonic()
        with self._lock:
            if self._frozen is not None:
                raise self._frozen
            if not self._heard or self._passed() > HEARD:
                self._submit(asked)
        offset = self.offset
        assert offset is not None, "heard means that an offset is known"
        if abs(offset) > MOST_CLOCK:
            raise clock_off(offset)

    def check_clock(self) -> None:
        """Raise ClockOffError while this member's clock is known to be off.

        No entry should bear its time: a log does not go back, so that after the clock was set
        right nothing could be logged until that time has come.
        raises   also what `ready` does, where it must be asked anew
        """
        offset = self.offset
        if offset is not None and (abs(offset) > MOST_CLOCK or self._passed() == _NEVER):
            self.ready()

    def cover(self, seq: int) -> Cosigned:
        """Return a cosigned checkpoint of the release log over entry `seq`, at most a minute old.

        raises   FrozenError, WitnessUnreachableError, WitnessRefusedError
        """
        asked = time.monotonic()
        with self._lock:
            newest = self._newest
            if newest is None or newest.checkpoint.size <= seq or self._passed() > FRESH:
                self._submit(asked)
                newest = self._newest
            assert newest is not None
            assert newest.checkpoint.size > seq, "a message goes up to the newest entry"
            return newest

    def _passed(self) -> timedelta:
        """Return the time since the last cosignature; _NEVER if the clock was set since."""
        at, by_clock = self._taken
        passed = timedelta(seconds=time.monotonic() - at)
        return passed if abs(self._home.now() - by_clock - passed) <= SET_BY else _NEVER

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

    def _submit(self, asked: float) -> None:
        """Send what is new until the mirror holds all, and take the cosignatures.

        asked   when the caller came: a try that began later and was in vain counts for it too,
                so that many callers do not wait for one silent regulator one after the other
        """
        if self._frozen is not None:
            raise self._frozen
        if self._failed is not None and self._failed > asked:
            raise _unreachable()
        began = time.monotonic()
        try:
            if not self._held:
                self._compare()
            self._send()
            self._take_charter()
        except HejinError as reason:
            self._heard = False
            if isinstance(reason, WitnessUnreachableError):
                self._failed = began
            raise

    def _send(self) -> None:
        more, shrunk = True, False
        while more:
            updates, more = self._updates()
            try:
                with self._asking():
                    lines = self._mirror.add(updates)
            except WitnessRefusedError:
                # The mirror may hold what an answer that was lost had carried, or what another
                # process of this member sent, or another history; or it was itself put back.
                before = dict(self._held)
                self._compare()
                grew = any(self._held[origin] > size for origin, size in before.items())
                if self._held == before or (shrunk and not grew):
                    raise
                more, shrunk = True, shrunk or not grew
            else:
                self._take(updates, lines)

    def _updates(self) -> tuple[list[LogUpdate], bool]:
        """Return the next message, and whether another one must follow."""
        updates: list[LogUpdate] = []
        whole = True
        with reading(self._home.database) as connection:
            for origin, log in self._logs.items():
                old = self._held[origin]
                entries: tuple[bytes, ...] = ()
                # The internal log first: a reservation is never mirrored without its account.
                if whole:
                    entries, whole = portion(log.entries(connection, old))
                # Asked again without new entries, the release log gets a fresh time.
                if entries or log is self._home.release_log:
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
        return updates, not whole

    def _take(self, updates: list[LogUpdate], lines: tuple[str, ...]) -> None:
        if len(lines) != len(updates):
            raise WitnessRefusedError(
                f"the regulator gave {len(lines)} cosignatures for {len(updates)} checkpoints",
                f"监管方对 {len(updates)} 个检查点给出了 {len(lines)} 个会签",
            )
        cosigned = [self._opened(*each) for each in zip(updates, lines, strict=True)]
        for update, taken in zip(updates, cosigned, strict=True):
            self._held[update.origin] = taken.checkpoint.size
            if update.entries:
                self._unsaved.append(taken)
        now = self._home.now().replace(microsecond=0)
        # The release log is in every message, and the last one in it.
        self._newest, self.offset = taken, taken.time - now
        self._taken, self._heard = (time.monotonic(), now), True

    def _opened(self, update: LogUpdate, line: str) -> Cosigned:
        charter = self._home.charter
        try:
            return open_cosigned(
                update.checkpoint + line,
                update.origin,
                self._logs[update.origin].public_key,
                witness_name(charter.consortium, charter.regulator.id),
                charter.regulator.log_key,
            )
        except CheckpointError as reason:
            raise WitnessRefusedError(
                f"the regulator's cosignature of {update.origin} is not valid, so that nothing"
                " leaves: ask the regulator whether its key is the charter's",
                f"监管方对 {update.origin} 的会签无效，不会输出任何内容："
                "请咨询监管方其密钥是否与章程一致",
            ) from reason

    def _take_charter(self) -> None:
        """A member that was revoked meanwhile must not be served under the charter of before."""
        if self._mirror.charter_serial() <= self._home.charter.serial:
            return
        try:
            with self._asking():
                envelope = self._mirror.charter()
            self._home.charters.update(envelope)
        except HejinError:
            # What came with the newer charter serves nobody before that is known.
            self._newest = None
            raise

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Turn what the regulator's absence or refusal raises into this module's errors."""
        try:
            yield
        except PeerUnreachable as reason:
            raise _unreachable() from reason
        except (PeerRefused, RefusedError, NotAMemberError) as reason:
            raise WitnessRefusedError(
                f"the regulator does not cosign: {reason.text.en}",
                f"监管方拒绝会签：{reason.text.zh}",
            ) from reason


def start_witness(witness: Witness, stop: threading.Event) -> bool:
    """Start the witness as soon as the regulator answers and the clock is right; False if `stop`
    came first.

    raises   FrozenError
    """
    last = ""
    while not stop.is_set():
        try:
            witness.start()
            witness.check_clock()
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
    """Mirror what is new every few seconds until `stop`, and what is left then; FrozenError."""
    for _ in ("until it is set", "once more"):
        repeat(witness.refresh, REFRESH_SECONDS, stop, fatal=(FrozenError,))


def clock_off(offset: timedelta) -> ClockOffError:
    """Return the refusal for a clock that is off by `offset` (regulator minus member)."""
    seconds = round(abs(offset).total_seconds())
    en, zh = ("behind", "落后") if offset > timedelta(0) else ("ahead of", "超前")
    return ClockOffError(
        f"this member's clock is {seconds} s {en} the regulator's, at most"
        f" {MOST_CLOCK.seconds} s are allowed: set this member's clock, then ask again",
        f"本成员的时钟比监管方{zh} {seconds} 秒，最多允许 {MOST_CLOCK.seconds} 秒："
        "请校准本成员的时钟后重试",
    )


def cosigned_late(apart: timedelta) -> WitnessUnreachableError:
    """Return the refusal for a reservation and a cosignature that lie `apart`."""
    seconds = round(abs(apart).total_seconds())
    return WitnessUnreachableError(
        f"the reservation and the regulator's cosignature lie {seconds} s apart, at most"
        f" {MOST_OFF.seconds} s are allowed; nothing was read for it: ask again",
        f"预留与监管方会签相隔 {seconds} 秒，最多允许 {MOST_OFF.seconds} 秒；"
        "未为其读取任何数据：请重试",
    )


def _unreachable() -> WitnessUnreachableError:
    return WitnessUnreachableError(
        "the regulator does not answer, and nothing leaves without its cosignature:"
        " what was asked waits until it is back",
        "监管方没有应答，未经其会签不会输出任何内容：请求将等待其恢复",
    )
