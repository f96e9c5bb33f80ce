"""Fetch, gate, score, record: what becomes of each study of a batch."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.fakes import FakeArchive, FakeEngine, FakeLeases, Here, away, lateral
from tests.making import NOON, make_assessment, make_facts
from triage.assessment import ENGINE_ATTEMPTS, Assessor
from triage.domain.eligibility import IntendedUse
from triage.domain.errors import UnusableRadiograph
from triage.domain.finding import Assessment


def assess(archive, *uids, engine=None, limit=16, pool=None, attempt=1, **use):
    book = FakeLeases(list(uids), attempt)
    worker = Assessor(archive, engine or FakeEngine(), book, IntendedUse(**use), lambda: NOON, pool or Here())
    assert worker.assess_ready(limit) == min(limit, len(uids))
    return book


def reason_of(book, uid):
    assert isinstance(book.outcomes[uid], UnusableRadiograph)
    return book.outcomes[uid].reason


def test_every_study_of_a_batch_gets_the_assessment_of_its_own_image():
    archive, engine = FakeArchive(), FakeEngine()
    uids = [archive.has(make_facts()) for _ in range(8)]
    with ThreadPoolExecutor(4) as pool:
        book = assess(archive, *uids, engine=engine, pool=pool)
    assert engine.batches == [8]
    assert {uid: book.outcomes[uid].study_instance_uid for uid in uids} == {uid: uid for uid in uids}


def test_nothing_ready_is_no_work():
    engine = FakeEngine()
    assert assess(FakeArchive(), engine=engine).outcomes == {}
    assert engine.batches == []


def test_no_more_is_leased_than_asked_for():
    archive = FakeArchive()
    assert len(assess(archive, *[archive.has(make_facts()) for _ in range(5)], limit=2).outcomes) == 2


def test_the_first_eligible_frontal_by_acquisition_is_assessed():
    archive = FakeArchive()
    late = make_facts(acquired_at=NOON)
    early = make_facts(acquired_at=NOON.replace(hour=9))
    uid = archive.has(lateral(), make_facts(), late, early)
    book = assess(archive, uid)
    assert book.outcomes[uid].sop_instance_uid == early.sop_instance_uid
    assert [refusal for _, refusal in book.headers[uid]] == ["not-frontal", "", "", ""]


def test_the_next_frontal_is_tried_where_the_first_cannot_be_decoded():
    archive = FakeArchive()
    broken, good = make_facts(acquired_at=NOON.replace(hour=9)), make_facts(acquired_at=NOON)
    archive.faults[broken.sop_instance_uid] = UnusableRadiograph("undecodable", "JPEG 2000")
    uid = archive.has(broken, good)
    assert assess(archive, uid).outcomes[uid].sop_instance_uid == good.sop_instance_uid


def test_a_study_none_of_whose_images_decode_fails_with_the_first_reason():
    archive = FakeArchive()
    one, two = make_facts(acquired_at=NOON.replace(hour=9)), make_facts(acquired_at=NOON)
    archive.faults[one.sop_instance_uid] = UnusableRadiograph("undecodable")
    archive.faults[two.sop_instance_uid] = UnusableRadiograph("blank")
    uid = archive.has(one, two)
    assert reason_of(assess(archive, uid), uid) == "undecodable"


@pytest.mark.parametrize(
    ("instances", "reason"),
    [
        ([lateral()], "not-frontal"),
        ([lateral(), lateral(made_by_us=True)], "not-frontal"),
        ([lateral(), make_facts(modality="CT")], "no-frontal-instance"),
        ([make_facts(made_by_us=True)], "no-frontal-instance"),
        ([make_facts(age_years=9.0)], "age-below-limit"),
        ([("1.2.3", UnusableRadiograph("unreadable-header"))], "unreadable-header"),
    ],
)
def test_a_study_without_an_eligible_frontal_says_why(instances, reason):
    archive = FakeArchive()
    uid = archive.has(*instances)
    assert reason_of(assess(archive, uid), uid) == reason


def test_one_image_that_breaks_the_engine_fails_alone():
    archive, engine = FakeArchive(), FakeEngine()
    culprit = make_facts()
    bad = archive.has(culprit)
    good = [archive.has(make_facts()) for _ in range(3)]
    engine.explodes_on.add(culprit.sop_instance_uid)
    book = assess(archive, good[0], bad, *good[1:], engine=engine)
    assert reason_of(book, bad) == "engine-error"
    assert all(isinstance(book.outcomes[uid], Assessment) for uid in good)
    assert engine.batches == [4, 1, 1, 1, 1]


@pytest.mark.parametrize("wrong", [lambda rs: [], lambda rs: rs[1:], lambda rs: [*rs, rs[-1]], lambda rs: rs[::-1]])
def test_an_engine_that_loses_count_never_gives_one_patients_result_to_another(wrong):
    class Confused(FakeEngine):
        def assess(self, radiographs, at):
            results = super().assess(radiographs, at)
            return wrong(results) if len(radiographs) > 1 else results

    archive = FakeArchive()
    uids = [archive.has(make_facts()) for _ in range(3)]
    book = assess(archive, *uids, engine=Confused())
    assert {uid: book.outcomes[uid].study_instance_uid for uid in uids} == {uid: uid for uid in uids}


def test_an_engine_that_answers_about_another_image_even_alone_is_a_fault():
    class Mistaken(FakeEngine):
        def assess(self, radiographs, at):
            return [make_assessment() for _ in radiographs]

    archive = FakeArchive()
    uid = archive.has(make_facts())
    assert assess(archive, uid, engine=Mistaken()).outcomes[uid].startswith("engine-error"), "offered again at first"
    assert reason_of(assess(archive, uid, engine=Mistaken(), attempt=ENGINE_ATTEMPTS), uid) == "engine-error"


def test_an_engine_that_fails_on_everything_parks_no_ward():
    class Lost(FakeEngine):
        def assess(self, radiographs, at):
            raise RuntimeError("CUDA error")

    archive = FakeArchive()
    uids = [archive.has(make_facts()) for _ in range(4)]
    book = assess(archive, *uids, engine=Lost())
    assert {book.outcomes[uid] for uid in uids} == {"engine-error: RuntimeError"}


def test_a_study_whose_fetching_breaks_does_not_take_its_batch_along():
    archive = FakeArchive()
    uid, other = archive.has(make_facts()), archive.has(make_facts())
    archive.faults[uid] = ValueError("Geheim")
    book = assess(archive, uid, other)
    assert book.outcomes[uid] == "fetching failed: ValueError"
    assert isinstance(book.outcomes[other], Assessment)


@pytest.mark.parametrize("verb", ["headers", "instances", "radiograph"])
def test_an_archive_that_does_not_answer_is_asked_again_and_the_rest_goes_on(verb):
    archive = FakeArchive()
    facts = make_facts()
    uid, other = archive.has(facts), archive.has(make_facts())
    archive.faults[facts.sop_instance_uid if verb == "radiograph" else uid] = away()
    book = assess(archive, uid, other)
    assert book.outcomes[uid] == "pacs: no answer"
    assert book.incomplete == set()
    assert isinstance(book.outcomes[other], Assessment)


@pytest.mark.parametrize(("held", "listed"), [(1, 2), (0, 0), (0, 3)])
def test_fewer_instances_than_listed_is_incomplete_and_nothing_is_scored(held, listed):
    archive, engine = FakeArchive(), FakeEngine()
    uid = archive.has(*[make_facts() for _ in range(held)])
    archive.listed[uid] = listed
    book = assess(archive, uid, engine=engine)
    assert book.outcomes[uid] == f"incomplete: {held} of {listed} instances"
    assert book.incomplete == {uid}
    assert engine.batches == [] and book.headers == {}


def test_a_late_finisher_is_logged_and_hurts_nobody(caplog):
    archive = FakeArchive()
    uid, other = archive.has(make_facts()), archive.has(make_facts())
    book = FakeLeases([uid, other], too_late={uid})
    with caplog.at_level("WARNING"):
        Assessor(archive, FakeEngine(), book, IntendedUse(), lambda: NOON, Here()).assess_ready(2)
    assert f"study {uid}: attempt 1 came too late" in caplog.text
    assert set(book.outcomes) == {other}
