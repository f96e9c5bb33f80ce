"""The simulated readers: as theory says where theory speaks, by the product's very rule where it does not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triage.audit import queueing, reading_simulation, waits
from triage.audit.reading_lines import ReadingList, due_dates, first_come, instant, strict
from triage.audit.reading_simulation import drawn, overtaking_bound, started, taken_at
from triage.domain.order import RequestedPriority
from triage.domain.priority import Lane, PriorityPolicy, clinical_place, moved_forward
from triage.domain.worklist import AiState, ReadingState, WorklistEntry, merged

NAN = float("nan")
MINUTE, HOUR = 60.0, 3600.0
SHARES = queueing.two_classes(0.1, 0.9, 0.81)
ROUTINE, URGENT, STAT = RequestedPriority.ROUTINE, RequestedPriority.URGENT, RequestedPriority.STAT
pure = settings(deadline=None, derandomize=True, max_examples=120)


def make_studies(n=40_000, *, load=0.8, readers=1, spread=1.0, seed=1, shares=SHARES):
    prevalence, confusion = shares
    return drawn(
        n,
        load=load,
        mean_read=10.0,
        prevalence=prevalence,
        confusion=confusion,
        readers=readers,
        spread=spread,
        seed=seed,
    )


def ours(studies, policy=None, flag_after=0.0):
    """The product's line, everything ordered routine, class 0 flagged *flag_after* seconds after it came."""
    flagged_at = np.where(studies.ai == 0, studies.arrived + flag_after, NAN)
    return ReadingList(studies.arrived, [ROUTINE] * len(studies.arrived), flagged_at, policy or PriorityPolicy())


def batch_mean(values, batches=20):
    """Mean and standard error of a series whose neighbours hang together."""
    means = np.array([b.mean() for b in np.array_split(values, batches)])
    return means.mean(), means.std(ddof=1) / batches**0.5


@pytest.mark.parametrize(("readers", "load"), [(1, 0.7), (3, 0.8)])
def test_waits_are_those_of_theory(readers, load):
    s = make_studies(load=load, readers=readers)
    theory = queueing.triaged(load, 10, *SHARES, readers=readers)
    together = started(s.arrived, s.read, first_come(s.arrived), readers=readers) - s.arrived
    apart = started(s.arrived, s.read, strict(s.ai), readers=readers) - s.arrived
    answers = {
        "first come": (together, theory.first_come),
        "flagged": (apart[s.ai == 0], theory.by_ai[0]),
        "not flagged": (apart[s.ai == 1], theory.by_ai[1]),
        "diseased": (apart[s.truth == 0], theory.by_truth[0]),
        "missed": (apart[(s.truth == 0) & (s.ai == 1)], theory.missed[0]),
    }
    for name, (found, answer) in answers.items():
        mean, error = batch_mean(found)
        assert abs(mean - answer) < 4 * error and error < 0.12 * answer, name
    assert apart[(s.truth == 0) & (s.ai == 1)].mean() > 2 * apart[(s.truth == 0) & (s.ai == 0)].mean()


def test_three_classes_with_reads_of_little_spread_wait_as_theory_says():
    prevalence, confusion = [0.1, 0.2, 0.7], [[0.8, 0.15, 0.05], [0.1, 0.7, 0.2], [0.02, 0.08, 0.9]]
    s = make_studies(load=0.75, spread=0.25, shares=(prevalence, confusion))
    theory = queueing.triaged_general(0.75, [10] * 3, [125] * 3, prevalence, confusion)
    wait = started(s.arrived, s.read, strict(s.ai)) - s.arrived
    for k in range(3):
        mean, error = batch_mean(wait[s.ai == k])
        assert abs(mean - theory.by_ai[k]) < 4 * error, k
    missed = (s.truth == 0) & (s.ai != 0)
    assert wait[missed].mean() == pytest.approx(theory.missed[0], rel=0.2)


def test_urgent_studies_are_read_in_time_even_where_the_others_never_are():
    s = make_studies(20_000, load=1.3, spread=0.25)
    wait = started(s.arrived, s.read, strict(s.ai)) - s.arrived
    theory = queueing.triaged_general(1.3, [10, 10], [125, 125], *SHARES)
    mean, error = batch_mean(wait[s.ai == 0])
    assert abs(mean - theory.by_ai[0]) < 4 * error and theory.by_ai[1] == float("inf")


def test_what_is_drawn_has_the_shares_asked_for_and_comes_again_with_the_same_seed():
    s, again, other = make_studies(), make_studies(), make_studies(seed=2)
    for name in ("arrived", "read", "truth", "ai"):
        assert np.array_equal(getattr(s, name), getattr(again, name))
        assert not np.array_equal(getattr(s, name), getattr(other, name))
    assert s.read.mean() == pytest.approx(10, rel=0.03) and s.read.std() == pytest.approx(10, rel=0.04)
    assert (s.truth == 0).mean() == pytest.approx(0.1, abs=0.006)
    assert (s.ai[s.truth == 0] == 0).mean() == pytest.approx(0.9, abs=0.02)
    assert (s.ai[s.truth == 1] == 0).mean() == pytest.approx(0.19, abs=0.01)
    assert s.read.sum() / s.arrived[-1] == pytest.approx(0.8, abs=0.03)
    assert np.ptp(make_studies(50, spread=0).read) == 0


queues = st.integers(1, 40).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(0, 60), min_size=n, max_size=n).map(sorted),
        st.lists(st.integers(0, 12), min_size=n, max_size=n),
        st.lists(st.sampled_from([3, 20, 50]), min_size=n, max_size=n),
    )
)


@pure
@given(queues, st.integers(1, 3))
def test_due_dates_never_delay_a_study_beyond_the_bound(queue, readers):
    arrived, read, allowance = (np.array(v, dtype=float) for v in queue)
    plain = started(arrived, read, first_come(arrived), readers=readers)
    due = started(arrived, read, due_dates(arrived, allowance), readers=readers)
    assert (due - plain <= overtaking_bound(arrived, read, allowance, readers) + 1e-9).all()


@pure
@given(queues)
def test_the_bound_of_one_reader_is_the_sum_of_the_reads_that_came_within_the_gap(queue):
    arrived, read, allowance = (np.array(v, dtype=float) for v in queue)
    n = range(len(arrived))
    # whoever came after j by less than D_j - D_i
    by_hand = [sum(read[i] for i in n if i > j and arrived[i] - arrived[j] < allowance[j] - allowance[i]) for j in n]
    assert overtaking_bound(arrived, read, allowance).tolist() == by_hand


def test_the_bound_is_reached_and_strict_priority_breaks_it():
    arrived, read, ai = np.arange(12.0), np.full(12, 2.0), np.array([1, 1] + [0] * 10)
    allowance = np.where(ai == 0, 1.0, 6.0)
    bound = overtaking_bound(arrived, read, allowance)
    late = [started(arrived, read, line) - started(arrived, read, first_come(arrived)) for line in (
        due_dates(arrived, allowance), strict(ai),
    )]  # fmt: skip
    assert late[0][1] == bound[1] == 2 * 4  # those at 2, 3, 4 and 5 are due before 1 + 6
    assert late[1][1] == 2 * 10 > bound[1]


def test_with_two_readers_the_reads_of_those_who_overtake_are_no_bound_by_themselves():
    # nobody who comes later overtakes the last study, but the long read goes first and leaves one reader for the rest
    arrived, read = np.array([0.0, 0, 0, 1]), np.array([1.0, 1, 3, 2])
    allowance = np.array([9.0, 2, 2, 9])
    plain = started(arrived, read, first_come(arrived), readers=2)
    late = started(arrived, read, due_dates(arrived, allowance), readers=2)
    assert overtaking_bound(arrived, read, allowance)[-1] == 0 < late[-1] - plain[-1]
    assert late[-1] - plain[-1] <= overtaking_bound(arrived, read, allowance, 2)[-1]


@pytest.mark.parametrize("readers", [1, 2])
def test_the_bound_holds_for_120_000_studies(readers):
    s = make_studies(120_000, load=0.95, readers=readers)
    allowance = np.where(s.ai == 0, 30.0, 120.0)
    late = started(s.arrived, s.read, due_dates(s.arrived, allowance), readers=readers) - started(
        s.arrived, s.read, first_come(s.arrived), readers=readers
    )
    assert (late <= overtaking_bound(s.arrived, s.read, allowance, readers) + 1e-6).all()
    assert late.max() > 30  # and there was something to bound


days = st.integers(1, 30).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(0, 90), min_size=n, max_size=n).map(sorted),
        st.lists(st.integers(1, 12), min_size=n, max_size=n),
        st.lists(st.sampled_from([ROUTINE, ROUTINE, URGENT, STAT]), min_size=n, max_size=n),
        st.lists(st.sampled_from([NAN, 0, 7, 40]), min_size=n, max_size=n),
    )
)


def whole_list_first(arrived, priority, flagged_at, policy, waiting, now, since):
    """The first entry of the product's whole list, made anew from nothing."""
    entries = []
    for i in waiting:
        at = instant(arrived[i])
        place = clinical_place(priority[i], at, policy)
        if flagged_at[i] <= now:
            place = moved_forward(place, at, policy)
        entries.append(WorklistEntry(
            i, "", None, i, priority[i], AiState.QUEUED, "", ReadingState.UNREAD, at, place.lane, place.read_by
        ))  # fmt: skip
    entries.sort(key=lambda e: (e.read_by, e.eligible_at, e.entry_id))
    lanes = ([e for e in entries if e.lane is lane] for lane in Lane)
    k = policy.expedited_per_ordinary
    return next(merged(*lanes, now=instant(now), expedited_per_ordinary=k, expedited_since_ordinary=since))


@pure
@given(days, st.integers(0, 3))
def test_our_order_is_that_of_the_product_s_whole_list_at_every_opening(day, k):
    arrived, read, priority = [float(v) for v in day[0]], [float(v) for v in day[1]], day[2]
    flagged_at = np.array(arrived) + day[3]
    policy = PriorityPolicy(*(instant(m) - instant(0) for m in (5, 15, 20, 60)), expedited_per_ordinary=k)
    line = ReadingList(arrived, priority, flagged_at, policy)
    opened = started(arrived, read, line)
    waiting, since = set(range(len(arrived))), 0
    for study in np.argsort(opened, kind="stable"):
        now = opened[study]
        here = [i for i in waiting if arrived[i] <= now]
        expected = whole_list_first(arrived, priority, flagged_at, policy, here, now, since)
        assert expected.entry_id == study
        since = {Lane.STAT: since, Lane.EXPEDITED: since + 1, Lane.ORDINARY: 0}[expected.lane]
        waiting.remove(study)


def test_an_overdue_study_gets_its_share_however_many_are_flagged():
    # one flagged study a minute, reads of a minute: without the share the ordinary ones would never be read
    arrived = np.repeat(np.arange(200.0) * MINUTE, 2)
    flagged_at = np.where(np.arange(400) % 2 == 0, arrived, NAN)
    for k in (1, 3):
        policy = PriorityPolicy(routine=instant(30 * MINUTE) - instant(0), expedited_per_ordinary=k)
        opened = started(arrived, np.full(400, MINUTE), ReadingList(arrived, [ROUTINE] * 400, flagged_at, policy))
        order = np.argsort(opened)[30:200]  # from when the first ordinary one is overdue to when all have come
        assert (order % 2 == 1).mean() == pytest.approx(1 / (k + 1), abs=0.02)
    never = started(arrived, np.full(400, MINUTE), strict(np.arange(400) % 2))
    assert (np.argsort(never)[:199] % 2 == 0).all()


def test_without_flags_our_order_is_first_come_and_a_flag_that_comes_late_moves_late():
    s = make_studies(4000)
    plain = started(s.arrived, s.read, first_come(s.arrived))
    down = ReadingList(s.arrived, [ROUTINE] * 4000, np.full(4000, NAN), PriorityPolicy())
    assert np.array_equal(started(s.arrived, s.read, down), plain)
    at_once, later, too_late = (
        started(s.arrived, s.read, ours(s, flag_after=after))[s.ai == 0] - s.arrived[s.ai == 0]
        for after in (0.0, 20.0, 1e6)
    )
    assert at_once.mean() < later.mean() < too_late.mean()
    assert np.array_equal(too_late, (plain - s.arrived)[s.ai == 0])


def test_a_short_routine_limit_takes_the_longest_waits_off_those_not_flagged():
    s = make_studies(30_000, load=0.95, shares=queueing.two_classes(0.3, 0.95, 0.6), seed=4)
    limited = PriorityPolicy(routine=instant(120) - instant(0), flagged=instant(30) - instant(0))
    lines = {"strict": strict(s.ai), "ours": ours(s, limited), "due": due_dates(s.arrived, np.where(s.ai, 120, 30))}
    p99 = {}
    for name, line in lines.items():
        opened = started(s.arrived, s.read, line)
        wait = opened[s.ai == 1] - s.arrived[s.ai == 1]
        p99[name] = waits.summary(wait, s.arrived[-1] * 2 - s.arrived[s.ai == 1], horizon=1e6).p99
    assert p99["ours"] < 0.8 * p99["strict"] and p99["due"] < 0.8 * p99["strict"]


def test_no_reader_rests_while_a_study_waits():
    s = make_studies(3000, readers=3, load=0.9)
    for line in (first_come(s.arrived), strict(s.ai), due_dates(s.arrived, np.where(s.ai, 100, 9)), ours(s)):
        opened = started(s.arrived, s.read, line, readers=3)
        closed = opened + s.read
        for study in np.flatnonzero(opened > s.arrived)[::50]:
            # just before it was opened all three were reading
            assert ((opened < opened[study]) & (closed >= opened[study])).sum() >= 3
            assert ((opened <= opened[study]) & (closed > opened[study])).sum() <= 3


def test_readers_who_rest_take_at_once_what_comes_together():
    arrived = [0.0, 0, 7, 7, 7]
    assert started(arrived, [1.0, 1, 2, 5, 1], first_come(arrived), readers=2).tolist() == [0, 0, 7, 7, 9]


def test_given_openings_are_shared_out_in_the_order_of_the_line():
    arrived, epochs = [0.0, 1, 2, 3], [9.0, 4, 5]
    assert taken_at(epochs, arrived, first_come(arrived))[:3].tolist() == [4, 5, 9]
    by_class = taken_at(epochs, arrived, strict([1, 1, 0, 0]))
    assert by_class[[2, 3, 0]].tolist() == [4, 5, 9] and np.isnan(by_class[1])
    with pytest.raises(ValueError, match="none was waiting"):
        taken_at([0.5, 0.7], arrived, first_come(arrived))


@pytest.mark.parametrize(
    "ask",
    [
        lambda: started([2, 1], [1, 1], first_come([2, 1])),
        lambda: started([1, 2], [1, -1], first_come([1, 2])),
        lambda: started([1, 2], [1, 1], first_come([1, 2]), readers=0),
        lambda: started([1, NAN], [1, 1], first_come([1, 2])),
        lambda: ReadingList([1.0], [ROUTINE], [0.5], PriorityPolicy()),
        lambda: ReadingList([1.0], [], [NAN], PriorityPolicy()),
    ],
)
def test_what_cannot_be_simulated_is_refused(ask):
    with pytest.raises(ValueError, match=r"order of their arrival|readers|priority"):
        ask()


def test_nothing_is_read_when_nothing_comes():
    assert len(reading_simulation.started([], [], first_come([]))) == 0
    assert len(overtaking_bound([], [], [])) == 0
