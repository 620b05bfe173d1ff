"""The notice to an enterprise before it authorises: who is responsible, and where data go."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from hejin_trust.settings import read_settings
from hejin_trust.text import Text

FILE: Final = "notice.toml"
_SHIPPED: Final = Path(__file__).parent / FILE


class Told(BaseModel):
    """One passage of the notice, in both languages."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    en: str = Field(min_length=1, max_length=2000)
    zh: str = Field(min_length=1, max_length=2000)

    @property
    def text(self) -> Text:
        """The passage as a text."""
        return Text(self.en, self.zh)


class Notice(BaseModel):
    """What ISO/IEC TS 27560 wants said beside scope, purposes and validity.

    contact         where the platform operator (the controller) is reached
    responsibility  who answers for what
    flow            what leaves, to whom (recipients)
    storage         where the data are kept; retention: until when
    withdrawal      how to withdraw
    afterwards      that released models stay
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    contact: Told
    responsibility: Told
    flow: Told
    storage: Told
    retention: Told
    withdrawal: Told
    afterwards: Told


def read_notice(home: Path) -> Notice:
    """Return the operator's notice, or the shipped one; raises SettingsError."""
    own = home / FILE
    return read_settings(own if own.exists() else _SHIPPED, Notice)
