"""Before a command logs something: is this member's clock right, as far as anybody can tell?

What a log holds of a time ahead of the regulator's is not mirrored before that time has come, nor
is anything after it.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, suppress

from hejin_trust.canonical import time_from
from hejin_trust.database import reading
from hejin_trust.home import MemberHome
from hejin_trust.mirroring import Mirror
from hejin_trust.witness import (
    MOST_OFF,
    ClockOffError,
    Witness,
    WitnessRefusedError,
    WitnessUnreachableError,
)


def check_own_clock(home: MemberHome, mirror: AbstractContextManager[Mirror] | None) -> None:
    """Raise where this member's clock is known to be off.

    mirror   opens the regulator's, which is asked for its time if it answers; None: no address
    raises   ClockOffError: more than two minutes before something that the regulator has dated, or
             off by more than a reservation may be; FrozenError: the mirror holds another history
    """
    dated = [home.charter.issued]
    with reading(home.database) as connection:
        for log in (home.release_log, home.internal_log):
            cosigned = log.newest_cosigned(connection)
            dated += [] if cosigned is None else [cosigned.time]
    now, last = home.now(), max(dated)
    if now < time_from(last) - MOST_OFF:
        raise ClockOffError(
            f"this member's clock is {round((time_from(last) - now).total_seconds())} s behind"
            f" {last}, when the regulator last signed: set this member's clock, then ask again",
            f"本成员的时钟比监管方最近一次签名的时间 {last} 落后"
            f" {round((time_from(last) - now).total_seconds())} 秒：请校准本成员的时钟后重试",
        )
    if mirror is not None:
        with suppress(WitnessUnreachableError, WitnessRefusedError), mirror as opened:
            witness = Witness(home, opened)
            witness.start()
            witness.check_clock()
