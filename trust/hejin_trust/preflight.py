"""What a member looks at before it works: certificate, ledgers, regulator, clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

from hejin_trust.canonical import time_text
from hejin_trust.certificates import check_certificate, expires
from hejin_trust.errors import HejinError
from hejin_trust.home import MemberHome
from hejin_trust.text import Text
from hejin_trust.witness import MOST_CLOCK, Witness

DAYS_AHEAD: Final = 30
"""A certificate that ends sooner is a warning: a new one takes the regulator's time."""


@dataclass(frozen=True, slots=True)
class Look:
    """One thing that was looked at; `code` names the refusal it would lead to, "" if none."""

    name: str
    what: Text
    says: Text
    code: str = ""

    @property
    def ok(self) -> bool:
        """Whether nothing stands in the way."""
        return self.code == ""


def preflight(home: MemberHome, witness: Witness) -> Iterator[Look]:
    """Look at everything in turn; what is new in the ledgers is mirrored on the way."""
    yield _look("certificate", Text("certificate", "证书"), partial(_certificate, home))
    yield _look("ledgers", Text("own ledgers", "本地账本"), partial(_ledgers, home))
    yield _look("regulator", Text("regulator's mirror", "监管方镜像"), partial(_mirror, witness))
    if witness.offset is not None:
        yield _look("clock", Text("clock", "时钟"), partial(_clock, witness))


def _look(name: str, what: Text, work: Callable[[], Text]) -> Look:
    try:
        return Look(name, what, work())
    except HejinError as reason:
        return Look(name, what, reason.text, reason.code)


def _certificate(home: MemberHome) -> Text:
    pem, now = home.membership.certificate_pem, home.now()
    check_certificate(pem, now)
    home.charter.admitted(home.member_id)
    end = expires(pem)
    days = (end - now).days
    soon = Text("; ask for a new one", "；请申请新证书") if days < DAYS_AHEAD else Text("", "")
    return Text(
        f"valid until {time_text(end)}, {days} days{soon.en}",
        f"有效期至 {time_text(end)}，尚余 {days} 天{soon.zh}",
    )


def _ledgers(home: MemberHome) -> Text:
    home.verify_logs()
    return Text("whole", "完整")


def _mirror(witness: Witness) -> Text:
    witness.start()
    return Text("holds the same logs, and has cosigned them", "所持日志相同，且已会签")


def _clock(witness: Witness) -> Text:
    offset = witness.offset
    assert offset is not None, "only looked at after the regulator answered"
    witness.ready()
    seconds = round(offset.total_seconds())
    return Text(
        f"{seconds:+d} s to the regulator's, at most {MOST_CLOCK.seconds} s are allowed",
        f"与监管方时钟相差 {seconds:+d} 秒，最多允许 {MOST_CLOCK.seconds} 秒",
    )
