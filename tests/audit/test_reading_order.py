"""The order of the readings: what is flagged, and the gain of a second look."""

from dataclasses import replace

import numpy as np
import pytest

from triage.audit.reader_table import COLUMNS, grid, read_table
from triage.audit.reading_order import Flag, reading_order
from triage.audit.synthetic_study import Design, make_study

CROSSED = make_study(Design(readers=6, cases=(20, 20, 20)), seed=1)


def with_second_look(table, right=0.3, seed=2):
    """Some of the later readings made right for being later."""
    rng = np.random.default_rng(seed)
    helped = (table.session == 2) & (rng.random(len(table)) < right)
    return replace(table, response=np.where(helped, table.truth[table.case], table.response))


def one_order_each(table):
    """Even readers read without first, odd ones with first."""
    is_with = table.modality == table.modalities.index("with")
    return replace(table, session=1 + (is_with ^ (table.reader % 2 == 1)).astype(np.intp))


def test_a_crossed_order_with_four_weeks_between_is_not_flagged():
    found = reading_order(CROSSED, washout_days=28)
    assert (found.pairs, found.without_first, found.with_first, found.together) == (360, 0.5, 0.5, 0.0)
    assert found.flags == ()
    assert found.effect.low < 0 < found.effect.high


@pytest.mark.parametrize(("days", "flag"), [(None, Flag.WASHOUT_UNKNOWN), (27.9, Flag.WASHOUT_SHORT)])
def test_a_washout_that_is_short_or_not_stated_is_flagged(days, flag):
    assert reading_order(CROSSED, washout_days=days).flags == (flag,)


def test_one_modality_always_first_is_flagged_and_its_effect_cannot_be_given():
    found = reading_order(make_study(Design(readers=4, cases=(9, 9, 9), is_crossed=False), seed=1), washout_days=30)
    assert found.without_first == 1.0
    assert found.flags == (Flag.ONE_ORDER,)
    assert np.isnan([found.effect.value, found.effect.p]).all()


def test_reading_both_ways_in_one_session_is_flagged():
    found = reading_order(replace(CROSSED, session=np.ones_like(CROSSED.session)))
    assert found.together == 1.0
    assert found.flags == (Flag.SEQUENTIAL,)


def test_an_unbalanced_order_is_flagged():
    session = np.where(CROSSED.case % 4 == 0, 1 + (CROSSED.modality == 0), CROSSED.session)
    found = reading_order(replace(CROSSED, session=session), washout_days=30)
    assert 0.6 < found.without_first < 0.7
    assert found.flags == (Flag.UNBALANCED,)


def test_the_gain_of_a_second_look_is_found_and_flagged():
    found = reading_order(with_second_look(CROSSED), washout_days=30)
    places = grid(with_second_look(CROSSED))
    hit = places.response == places.truth
    assert found.effect.value == pytest.approx(hit[places.session == 2].mean() - hit[places.session == 1].mean())
    assert found.effect.value > 0.05
    assert found.flags == (Flag.ORDER_EFFECT,)


def test_with_one_order_a_reader_the_second_look_is_found_between_readers():
    table = one_order_each(make_study(Design(readers=10, cases=(40, 40, 40), gain_sd=0.0), seed=3))
    assert reading_order(table, washout_days=30).flags == ()
    found = reading_order(with_second_look(table), washout_days=30)
    assert found.effect.value > 0.05
    assert 4 <= found.effect.df <= 8
    assert found.flags == (Flag.ORDER_EFFECT,)


def test_readers_of_one_modality_each_have_no_pairs():
    text = ",".join(COLUMNS) + "\nr1,c1,with,1,covid,covid,1,2,3\nr2,c1,without,1,covid,covid,1,2,3\n"
    found = reading_order(read_table(text))
    assert found.flags == (Flag.NO_PAIRS,)
    assert np.isnan([found.without_first, found.with_first, found.together, found.effect.p]).all()


def test_other_modalities_have_no_order_to_speak_of():
    with pytest.raises(ValueError, match="'without' and 'with'"):
        reading_order(replace(CROSSED, modalities=("film", "screen")))
