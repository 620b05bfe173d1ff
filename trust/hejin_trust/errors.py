"""The base of every error that Hejin tells a person or a peer about."""

from __future__ import annotations

from typing import ClassVar

from hejin_trust.text import Text


class HejinError(Exception):
    """Something a user or peer can understand: what happened, how much, what to do.

    `code` is stable and machine-readable (kebab-case); the message never holds a
    customer's value, a key or a whole message. `exit_code` is what a command returns.
    """

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1

    def __init__(self, en: str, zh: str) -> None:
        super().__init__(en)
        self.text = Text(en, zh)


class RefusedError(HejinError):
    """The request is understood and will not be served as things are."""

    code = "refused"


class NotNowError(RefusedError):
    """The same may be asked again later: the reason goes away without the asker."""

    code = "not-now"
