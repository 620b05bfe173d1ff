"""The errors of the data owner's room: its data, authorisations and labels."""

from __future__ import annotations

from typing import ClassVar

from hejin_trust.errors import HejinError


class NodeError(HejinError):
    """Something in the node that its operator, or a peer, is told about."""

    code: ClassVar[str] = "node"


class WarehouseError(NodeError):
    """The warehouse cannot be read or written."""

    code: ClassVar[str] = "warehouse"


class WrongKeyError(WarehouseError):
    """The key file is not the one that this warehouse was written with."""

    code: ClassVar[str] = "warehouse-key"


class ManifestLostError(WarehouseError):
    """Segments are there, and the database that lists them is not."""

    code: ClassVar[str] = "manifest-lost"


class SegmentError(WarehouseError):
    """A segment file is missing or is not what was written."""

    code: ClassVar[str] = "segment-damaged"


class WithdrawalWaitsError(WarehouseError):
    """A withdrawn load came back with a backup, and its rows could not be removed yet."""

    code: ClassVar[str] = "withdrawal-waits"


class QueryError(NodeError):
    """A feature view's SQL cannot be run over the data sets that are here."""

    code: ClassVar[str] = "view-query"


class ViewFailedError(QueryError):
    """A feature view's SQL runs, but not over these rows: what they hold or how many they are."""

    code: ClassVar[str] = "view-failed"


class ViewRefusedError(QueryError):
    """A feature view's SQL runs, and does what no view may do; `code` says which."""

    code: ClassVar[str] = "view-refused"


class LooksAheadError(ViewRefusedError):
    """A feature changes with what was not known on the as-of date."""

    code: ClassVar[str] = "view-looks-ahead"


class CrossesEnterprisesError(ViewRefusedError):
    """A feature of one enterprise changes with another's rows."""

    code: ClassVar[str] = "view-crosses-enterprises"


class VariesError(ViewRefusedError):
    """The same rows give other values when they come again, or in another order."""

    code: ClassVar[str] = "view-varies"


class SlowViewError(ViewRefusedError):
    """The SQL does not end in time on a few hundred rows."""

    code: ClassVar[str] = "view-slow"


class RepeatsError(ViewRefusedError):
    """The result has an enterprise twice, or one that no row is of."""

    code: ClassVar[str] = "view-repeats"


class MappingError(NodeError):
    """A mapping file cannot be used; the message names the field."""

    code: ClassVar[str] = "bad-mapping"


class IngestError(NodeError):
    """A file cannot be loaded; nothing of it was kept."""

    code: ClassVar[str] = "file-refused"


class SourceGoneError(IngestError):
    """A source failed half-way; what was read is kept for the next attempt, and not visible."""

    code: ClassVar[str] = "source-gone"


class QualityRuleError(NodeError):
    """A data set's quality rules cannot be run; the message names the rule."""

    code: ClassVar[str] = "bad-quality-rule"


class ConsentError(NodeError):
    """An authorisation cannot be recorded or revoked as asked; nothing was changed."""

    code: ClassVar[str] = "bad-authorisation"


class PolicyMissingError(NodeError):
    """The node has no policy: it can approve nothing."""

    code: ClassVar[str] = "no-policy"
    exit_code: ClassVar[int] = 2


class PolicyExistsError(NodeError):
    """The node has a policy already."""

    code: ClassVar[str] = "policy-exists"


class MatchingError(NodeError):
    """Outcomes cannot be asked of a bank so, or its answer is none; nothing was stored."""

    code: ClassVar[str] = "labels-not-matched"


class LabelsExceedError(MatchingError):
    """A bank would be asked for enterprises that have not authorised it; nothing was asked."""

    code: ClassVar[str] = "labels-exceed"

    def __init__(self, size: int, strangers: int) -> None:
        super().__init__(
            f"{strangers} of the {size} enterprises have no authorisation in force that names the"
            " outcome: nothing was asked; ask again for those that have",
            f"{size} 家企业中有 {strangers} 家没有列明违约结果的有效授权：未作询问；"
            "请仅为有授权的企业询问",
        )
