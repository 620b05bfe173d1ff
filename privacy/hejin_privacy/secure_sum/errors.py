"""What the masking protocol refuses, each with a stable code."""

from __future__ import annotations

from hejin_privacy.errors import PrivacyError


class KeyRefusedError(PrivacyError):
    """A public key that is not one canonical point of full order."""

    code = "key-refused"


class RosterRefusedError(PrivacyError):
    """A set of nodes that this node does not mask with."""

    code = "roster-refused"


class SurvivorsRefusedError(PrivacyError):
    """A survivor set that this node does not vote for."""

    code = "survivors-refused"


class SecondVoteError(PrivacyError):
    """A second, different survivor set for a round: two could be opened against each other."""

    code = "second-vote"

    def __init__(self) -> None:
        super().__init__(
            "this node has voted for another survivor set in this round: it votes once",
            "本节点在本轮已对另一存活集合投票：每轮只投一次",
        )


class VotesRefusedError(PrivacyError):
    """Votes that do not certify the survivor set that this node voted for."""

    code = "votes-refused"


class ShareWrongError(PrivacyError):
    """A share that does not fit its commitment; `giver` and `taker` are the pair's nodes."""

    code = "share-wrong"

    def __init__(self, giver: str, taker: str) -> None:
        super().__init__(
            f"the share of {giver} for {taker} does not fit its commitment: the round cannot be"
            " opened; ask the regulator to look at both",
            f"{giver} 给 {taker} 的份额与其承诺不符：本轮无法打开；请监管方核查双方",
        )
        self.giver, self.taker = giver, taker
