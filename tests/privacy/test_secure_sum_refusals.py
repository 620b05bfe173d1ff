"""Every roster, survivor set, vote, share and seed that is not what was agreed is refused."""

from __future__ import annotations

from dataclasses import replace
from unittest.mock import patch

import pytest
from masking_refusals import (
    REFUSE,
    TAKER,
    WITHOUT_ANPING,
    WITHOUT_JING,
    Case,
    all_cases,
    bank_round,
    honest_world,
    opened,
)
from masking_world import AT, NODES, World

from hejin_privacy.secure_sum import keys
from hejin_privacy.secure_sum.bank import check_shares, open_total
from hejin_privacy.secure_sum.errors import (
    KeyRefusedError,
    RosterRefusedError,
    SecondVoteError,
    ShareWrongError,
    SurvivorsRefusedError,
    VotesRefusedError,
)
from hejin_privacy.secure_sum.keys import LOW_ORDER, agree, open_roster
from hejin_privacy.secure_sum.node import reveal, share_commitment, vote
from hejin_privacy.shamir import FIELD
from hejin_trust.errors import HejinError

HONEST = honest_world()


@pytest.mark.parametrize("case", [pytest.param(c, id=c.name) for c in all_cases(HONEST)])
def test_it_is_refused_with_its_code(case: Case) -> None:
    with pytest.raises(HejinError, match=case.said) as refused:
        REFUSE[case.step](HONEST, case.inputs)
    assert refused.value.code == case.code


def test_the_names_of_the_cases_are_unique() -> None:
    cases = all_cases(HONEST)
    assert len({(case.step, case.name) for case in cases}) == len(cases)


# -- set-up ------------------------------------------------------------------------------


@pytest.mark.parametrize("low", sorted(LOW_ORDER))
def test_a_low_order_key_that_slipped_through_is_refused_on_agreement(low: int) -> None:
    world = World()
    with patch.object(keys, "check_public_key"):
        roster = world.roster(world.advertised(jing=low.to_bytes(32, "little")))
    with pytest.raises(KeyRefusedError, match="zero"):
        agree(world.people["anping"].private, roster, 1)


@pytest.mark.parametrize("low", sorted(LOW_ORDER))
@pytest.mark.parametrize("spelling", ["bit-255", "plus-p"])
def test_no_other_spelling_of_a_low_order_key_passes(low: int, spelling: str) -> None:
    value = low + 2**255 if spelling == "bit-255" else low + FIELD
    with pytest.raises(KeyRefusedError):
        keys.check_public_key(value.to_bytes(32, "little"))


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_key_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(KeyRefusedError):
        keys.check_public_key((b"\x09" + bytes(32))[:length])


def test_two_rosters_of_one_run_mask_for_nobody() -> None:
    world = World()
    whole, split = world.roster(), world.roster(world.advertised()[:4])
    assert whole.context != split.context
    ours = agree(world.people["anping"].private, whole, 1)
    theirs = agree(world.people["baigou"].private, split, 2)
    assert ours[2] != theirs[1]


def test_the_bank_itself_refuses_a_bad_key_before_it_shows_it() -> None:
    world = World()
    with pytest.raises(KeyRefusedError):
        open_roster(world.advertised(jing=bytes(32)), world.invitation, AT)


def test_a_node_outside_the_roster_has_no_place_in_it() -> None:
    with pytest.raises(RosterRefusedError):
        HONEST.roster.index("zhuozhou")


# -- survivor sets and votes -------------------------------------------------------------


def test_a_node_dropped_to_some_and_alive_to_others_is_opened_to_nobody() -> None:
    """Two nodes are shown everybody, three that jing is gone: neither set gets four votes."""
    told = {name: NODES if name in ("jing", "yongnian") else WITHOUT_JING for name in NODES}
    states = {name: HONEST.vote(name, survivors) for name, survivors in told.items()}
    for name, state in states.items():
        voters = [other for other in NODES if told[other] == told[name]]
        with pytest.raises(VotesRefusedError, match="4 are needed") as refused:
            reveal(state, HONEST.ballots(told[name], voters))
        assert refused.value.code == "votes-refused"
        every = [b for other in NODES for b in HONEST.ballots(told[other], [other])]
        with pytest.raises(VotesRefusedError, match="another survivor set"):
            reveal(state, every)


def test_a_node_out_of_the_set_votes_for_nothing_and_a_node_in_it_reveals_nothing_alone() -> None:
    with pytest.raises(SurvivorsRefusedError, match="is not in it"):
        HONEST.vote("jing", WITHOUT_JING)
    voted = HONEST.vote("anping", WITHOUT_JING)
    with pytest.raises(VotesRefusedError, match="there are 1 votes"):
        reveal(voted, HONEST.ballots(WITHOUT_JING, ["anping"]))


def test_the_same_set_again_gives_the_same_state_and_another_never() -> None:
    voted = HONEST.vote(TAKER, WITHOUT_JING)
    again = vote(
        voted,
        HONEST.asked(WITHOUT_JING),
        HONEST.headers(WITHOUT_JING),
        HONEST.ciphertexts(WITHOUT_JING, TAKER),
        HONEST.world.charter,
    )
    assert again == voted
    for other in (NODES, WITHOUT_ANPING):
        with pytest.raises(SecondVoteError):
            vote(
                voted,
                HONEST.asked(other),
                HONEST.headers(other),
                HONEST.ciphertexts(other, TAKER),
                HONEST.world.charter,
            )


def test_votes_of_the_whole_roster_certify_it_too_and_reveal_no_seed() -> None:
    voted = HONEST.vote(TAKER, NODES)
    revealed = reveal(voted, HONEST.ballots(NODES, WITHOUT_JING))
    assert revealed.seeds == ()
    assert revealed.shares == voted.shares


def test_the_order_of_the_votes_does_not_matter() -> None:
    voted = HONEST.vote(TAKER, WITHOUT_JING)
    ballots = HONEST.ballots(WITHOUT_JING)
    assert reveal(voted, ballots) == reveal(voted, ballots[::-1])


def test_a_wrong_share_names_giver_and_taker() -> None:
    case = next(c for c in all_cases(HONEST) if c.name == "share-against-its-commitment")
    with pytest.raises(ShareWrongError) as wrong:
        REFUSE[case.step](HONEST, case.inputs)
    assert (wrong.value.giver, wrong.value.taker) == ("jing", TAKER)


# -- the bank's side ---------------------------------------------------------------------


def test_the_bank_names_the_pair_of_a_wrong_share() -> None:
    state = bank_round(HONEST, WITHOUT_JING)
    shares = list(HONEST.vote(TAKER, WITHOUT_JING).shares)
    shares[2] = bytes(32)
    with pytest.raises(ShareWrongError) as wrong:
        check_shares(state, TAKER, shares)
    assert (wrong.value.giver, wrong.value.taker) == ("dingzhou", TAKER)


def test_a_share_beyond_the_field_is_wrong_even_where_it_was_committed_to() -> None:
    state = bank_round(HONEST, NODES)
    shares = list(HONEST.vote(TAKER, NODES).shares)
    shares[0] = FIELD.to_bytes(32, "big")
    made = state.made["anping"]
    commitments = list(made.shares)
    commitments[1] = share_commitment(HONEST.round_ctx, 1, 2, shares[0])
    lied = replace(made, shares=tuple(commitments))
    with pytest.raises(ShareWrongError):
        check_shares(replace(state, made={**state.made, "anping": lied}), TAKER, shares)


def test_a_secret_that_is_not_the_one_committed_to_names_its_node() -> None:
    state = bank_round(HONEST, NODES)
    lied = replace(state.made["jing"], secret="00" * 32)
    shares = {name: check_shares(state, name, HONEST.vote(name, NODES).shares) for name in NODES}
    with pytest.raises(ShareWrongError) as wrong:
        open_total(replace(state, made={**state.made, "jing": lied}), shares, {})
    assert (wrong.value.giver, wrong.value.taker) == ("jing", "jing")


def test_one_share_short_opens_nothing() -> None:
    with pytest.raises(ValueError, match="4 nodes' shares are needed, got 3"):
        opened(HONEST, NODES, NODES[:3])
