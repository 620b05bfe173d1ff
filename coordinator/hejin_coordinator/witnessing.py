"""The bank and the regulator's witness: dialling it, and letting plans wait for it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

import structlog

from hejin_coordinator import store
from hejin_coordinator.home import CoordinatorHome
from hejin_trust.database import StorageError, reading, writing
from hejin_trust.errors import HejinError
from hejin_trust.files import FileError
from hejin_trust.home import RegulatorMissingError
from hejin_trust.log import ClockError
from hejin_trust.one_history import FrozenError
from hejin_trust.process import WAKE_SECONDS
from hejin_trust.witness import (
    ClockOffError,
    Witness,
    WitnessRefusedError,
    WitnessUnreachableError,
    start_witness,
)
from hejin_trust.witness_channel import WitnessChannel

NOT_WITNESSED: Final = (
    FrozenError,
    WitnessUnreachableError,
    WitnessRefusedError,
    ClockOffError,
)
"""What keeps rounds from being asked: they wait, and nothing is lost."""

OWN_TROUBLE: Final = (StorageError, FileError, ClockError)
"""What the bank's operator sets right: disk, files, another process, clock; then all goes on."""

_log = structlog.get_logger(__name__)


def regulator_address(home: CoordinatorHome) -> str:
    """Return the regulator's HOST:PORT; raises RegulatorMissingError."""
    if home.settings.regulator is None:
        raise RegulatorMissingError(
            "the regulator's address is not known, and no round is asked without its witness: run"
            " `hejin coordinator join ADMISSION --regulator HOST:PORT`",
            "尚未设置监管方地址，未经其见证不会进行任何一轮：请执行"
            " `hejin coordinator join ADMISSION --regulator HOST:PORT`",
        )
    return home.settings.regulator


@contextmanager
def dialled(home: CoordinatorHome) -> Iterator[WitnessChannel]:
    """Give the regulator's mirror at the other end of a channel; raises RegulatorMissingError."""
    regulator = home.charter.regulator.id
    with home.dial(regulator, regulator_address(home)) as channel:
        yield WitnessChannel(channel, regulator)


def mirror_now(home: CoordinatorHome) -> None:
    """Compare both ledgers with the mirror and give it what is new.

    Commands do so before they append: on a restored backup it would fork the ledger for good, and
    by a clock that is ahead it would hold something that is not mirrored before its time has come.
    raises   RegulatorMissingError, FrozenError, WitnessUnreachableError, WitnessRefusedError,
             ClockOffError
    """
    with dialled(home) as mirror:
        witness = Witness(home, mirror)
        witness.start()
        witness.check_clock()


def await_witness(home: CoordinatorHome, witness: Witness, stop: threading.Event) -> bool:
    """Start the witness as soon as the regulator answers; return False if `stop` came first.

    raises   FrozenError if the regulator holds other ledgers of this bank
    """
    try:
        witness.start()
        witness.check_clock()
    except HejinError as reason:
        pause_plans(home, reason)
        if isinstance(reason, FrozenError):
            raise
        return start_witness(witness, stop)
    return True


class EarlyMirror:
    """Lets the regulator cosign what was accepted while its round still goes on.

    Nodes fetch their receipts before they answer the next round: these are then there at once.
    """

    def __init__(self, home: CoordinatorHome, witness: Witness) -> None:
        self._home, self._witness = home, witness
        self._due = threading.Event()

    def wake(self) -> None:
        """Something was accepted."""
        self._due.set()

    def work(self, stop: threading.Event) -> None:
        """Mirror after each `wake`, until `stop`."""
        while not stop.is_set():
            if self._due.wait(WAKE_SECONDS):
                self._due.clear()
                with reading(self._home.database) as connection:
                    newest = self._home.release_log.size(connection) - 1
                # What fails here is told, and tried again, by those that wait for it.
                with suppress(HejinError):
                    self._witness.cover(newest)


def pause_plans(home: CoordinatorHome, reason: HejinError) -> None:
    """Let every plan that is due wait, and say why in the list of plans."""
    why = str(reason.text)
    with reading(home.database) as connection:
        due = store.plans(connection, "started", "running", "paused")
    told = [stored for stored in due if (stored.state, stored.error) != ("paused", why)]
    if not told:
        return
    _log.warning("plans-paused", plans=len(told), code=reason.code, reason=reason.text.en)
    with writing(home.database) as connection:
        for stored in told:
            store.set_state(connection, stored.digest, "paused", why)
