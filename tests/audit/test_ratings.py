"""One class against the rest, and iMRMC's long file: read, written, and refused by line and column."""

import numpy as np
import pytest

from tests.audit.known_studies import INCOMPLETE, SYNTHETIC, ratings_of
from triage.audit.ratings import IMRMC_COLUMNS, against_rest, read_imrmc, write_imrmc
from triage.audit.reader_table import grid
from triage.audit.synthetic_study import Design, make_study

HEADER = ",".join(IMRMC_COLUMNS)
GOOD = ("truth,c1,truth,1", "truth,c2,truth,0", "r1,c1,A,3", "r1,c2,A,1.5", "r2,c1,B,2")


def make_text(*lines):
    return "\n".join([HEADER, *(lines or GOOD)]) + "\n"


def assert_same(one, other):
    assert (one.readers, one.cases, one.modalities) == (other.readers, other.cases, other.modalities)
    np.testing.assert_array_equal(one.score, other.score)
    np.testing.assert_array_equal(one.is_positive, other.is_positive)


def test_an_imrmc_file_is_put_in_its_places():
    found = read_imrmc(make_text())
    assert (found.readers, found.cases, found.modalities) == (("r1", "r2"), ("c1", "c2"), ("A", "B"))
    np.testing.assert_array_equal(found.is_positive, [True, False])
    np.testing.assert_array_equal(found.score, [[[3, 1.5], [np.nan, np.nan]], [[np.nan, np.nan], [2, np.nan]]])
    assert found.is_read.sum() == 3


@pytest.mark.parametrize("name", [SYNTHETIC, INCOMPLETE])
def test_an_imrmc_file_reads_back_as_it_was_written(name):
    ratings = ratings_of(name)
    assert_same(read_imrmc(write_imrmc(ratings)), ratings)


def test_a_contrast_of_a_three_class_study_goes_to_imrmc_and_back():
    table = make_study(Design(readers=3, cases=(5, 4, 6)), seed=2)
    ratings = against_rest(table, "pneumonia")
    np.testing.assert_array_equal(ratings.is_positive, table.truth == 1)
    np.testing.assert_array_equal(ratings.score, grid(table).score[..., 1])
    text = write_imrmc(ratings)
    assert text.splitlines()[1] == "truth,case01,truth,0"
    assert len(text.splitlines()) == 1 + 15 + 3 * 15 * 2
    assert_same(read_imrmc(text), ratings)


@pytest.mark.parametrize(
    "header", ["", HEADER + "\n", "readerid,".replace("id", "ID") + HEADER.partition(",")[2] + "\n"]
)
def test_a_description_may_come_before_the_data(header):
    text = "A study of ours\n\nN0: 1\nBEGIN DATA:,,,\n" + header + "\n".join(GOOD)
    assert_same(read_imrmc(text), read_imrmc(make_text()))


def test_lines_are_counted_from_the_top_of_a_file_with_a_description():
    with pytest.raises(ValueError, match="line 4, score"):
        read_imrmc("Ours\nBEGIN DATA:\ntruth,c1,truth,1\nr1,c1,A,much\n")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (("truth,c1,truth,2",), "line 2, score: none of 0, 1"),
        (("truth,c1,A,1",), "line 2, modalityID: a row of the truth"),
        (("r1,c1,truth,1",), "line 2, modalityID: a row of the truth"),
        (("truth,c1,truth,1", "truth,c1,truth,0"), "line 3, readerID, caseID, modalityID: the same as in line 2"),
        (("truth,c1,truth,1", "r1,c1,A,1", "r1,c1,A,2"), "line 4, readerID, caseID, modalityID: the same as in line 3"),
        (("truth,c1,truth,1", "r1,c1,A,1", "r1,c2,A,1"), "line 4, caseID: no row gives this case's truth"),
        (("truth,c1,truth,1", "r1,c1,A,"), "line 3, score: not a number"),
        (("truth,c1,truth,1", "r1,c1,A"), "line 3: 3 values under 4 columns"),
        (("truth,c1,truth,1",), "the table has no readings"),
    ],
)
def test_a_fault_is_named_by_line_and_column(lines, said):
    with pytest.raises(ValueError, match=f"^{said}"):
        read_imrmc(make_text(*lines))


def test_a_class_that_is_none_of_ours_is_refused():
    with pytest.raises(ValueError):
        against_rest(make_study(Design(readers=1, cases=(1, 1, 1)), seed=1), "tuberculosis")
