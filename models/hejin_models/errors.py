"""The errors of the models room: a feature view, a query or a training run that cannot be used."""

from __future__ import annotations

from typing import ClassVar

from hejin_trust.errors import HejinError, RefusedError


class ViewError(HejinError):
    """A feature view's file cannot be used; the message names the field and what to write."""

    code: ClassVar[str] = "bad-view"


class ViewTakenError(ViewError):
    """A view's name and version stand for other bytes already."""

    code: ClassVar[str] = "view-taken"


class SchemaError(HejinError):
    """A schema file cannot be used; the message names the field and what to write."""

    code: ClassVar[str] = "bad-schema"


class UnknownStatisticError(RefusedError):
    """A query names a statistic or version that this installation does not have."""

    code: ClassVar[str] = "unknown-statistic"


class StateError(RefusedError):
    """A query's public state is malformed, oversize or not finite."""

    code: ClassVar[str] = "bad-state"


class MissingExtraError(RefusedError):
    """A model family needs a library that is not installed here."""

    code: ClassVar[str] = "extra-missing"


class TrainingError(RefusedError):
    """No model can come out of these sums: the sentence says what is missing."""

    code: ClassVar[str] = "no-model"


class NoiseError(RefusedError):
    """The planned noise exceeds the signal; nothing was spent."""

    code: ClassVar[str] = "noise-exceeds-signal"


class ModelFormatError(HejinError):
    """A stored model's document is not one that this version wrote."""

    code: ClassVar[str] = "bad-model"


class CodeError(HejinError):
    """A text is not a unified social credit code; the message never shows it."""

    code: ClassVar[str] = "enterprise-code"


class DefinitionError(HejinError):
    """A label definition cannot be used; the message names the field and what to write."""

    code: ClassVar[str] = "bad-definition"
