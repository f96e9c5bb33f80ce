"""The study's table: read back as written, every fault named by line and column, no value repeated."""

import numpy as np
import pytest

from triage.audit.reader_table import COLUMNS, grid, read_table, write_table
from triage.audit.synthetic_study import Design, make_study
from triage.reading_room import export

HEADER = ",".join(COLUMNS)
GOOD = (
    "r1,c1,without,1,covid,normal,70,20,10",
    "r1,c1,with,2,covid,covid,5,5,90",
    "r2,c2,with,1,normal,normal,80,9,1.5",
)


def make_text(*lines, header=HEADER):
    return "\n".join([header, *(lines or GOOD)]) + "\n"


def test_a_table_reads_back_as_it_was_written():
    table = make_study(Design(readers=3, cases=(4, 3, 5)), seed=1)
    again = read_table(write_table(table))
    assert (again.readers, again.cases, again.modalities) == (table.readers, table.cases, table.modalities)
    for name in ("reader", "case", "modality", "session", "truth", "response", "score"):
        np.testing.assert_array_equal(getattr(again, name), getattr(table, name))
    assert write_table(again) == write_table(table)


def test_scores_that_are_not_whole_keep_every_digit():
    text = make_text("r1,c1,with,1,covid,covid,0.1,0.30000000000000004,-1e-300")
    assert write_table(read_table(text)) == text


def test_the_columns_may_come_in_any_order_and_names_with_blanks_around_them():
    order = [8, 0, 3, 1, 2, 4, 7, 5, 6]
    lines = ("  " + ", ".join(line.split(",")[i] for i in order) for line in GOOD)
    text = "\ufeff" + make_text(*lines, header=",".join(COLUMNS[i] for i in order))
    assert write_table(read_table(text)) == make_text()


def test_empty_lines_and_the_line_ends_of_windows_are_nothing_to_complain_of():
    assert write_table(read_table(make_text().replace("\n", "\r\n\r\n"))) == make_text()


def test_the_grid_holds_each_reading_in_its_place_and_marks_those_not_made():
    table = read_table(make_text())
    places = grid(table)
    assert table.modalities == ("with", "without")
    np.testing.assert_array_equal(places.response, [[[2, -1], [-1, 0]], [[0, -1], [-1, -1]]])
    np.testing.assert_array_equal(places.session, [[[2, -1], [-1, 1]], [[1, -1], [-1, -1]]])
    np.testing.assert_array_equal(places.score[0, 1, 1], [80, 9, 1.5])
    assert np.isnan(places.score[1, 1]).all()
    assert not places.is_complete
    assert grid(make_study(Design(readers=2, cases=(1, 1, 1)), seed=1)).is_complete


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (",c3,with,1,covid,covid,1,2,3", "line 3, readerID: empty"),
        ("r1, ,with,1,covid,covid,1,2,3", "line 3, caseID: empty"),
        ("r1,c3,,1,covid,covid,1,2,3", "line 3, modalityID: empty"),
        ("truth,c3,with,1,covid,covid,1,2,3", "line 3, readerID: 'truth'"),
        ("r1,c3,truth,1,covid,covid,1,2,3", "line 3, modalityID: 'truth'"),
        ("r1,c3,with,0,covid,covid,1,2,3", "line 3, session: not a whole number from 1"),
        ("r1,c3,with,1.0,covid,covid,1,2,3", "line 3, session: not a whole number from 1"),
        ("r1,c3,with,١,covid,covid,1,2,3", "line 3, session: not a whole number from 1"),
        ("r1,c3,with,1,COVID,covid,1,2,3", "line 3, truth_class: none of normal, pneumonia, covid"),
        ("r1,c3,with,1,covid,,1,2,3", "line 3, response_class: none of normal, pneumonia, covid"),
        ("r1,c3,with,1,covid,covid,,2,3", "line 3, score_normal: not a number"),
        ("r1,c3,with,1,covid,covid,1,high,3", "line 3, score_pneumonia: not a number"),
        ("r1,c3,with,1,covid,covid,1,2,nan", "line 3, score_covid: not a number"),
        ("r1,c3,with,1,covid,covid,1,2,inf", "line 3, score_covid: not a number"),
        ("r1,c3,with,1,covid,covid,1,2,1_0", "line 3, score_covid: not a number"),
        ("r1,c3,with,1,covid,covid,1,2", "line 3: 8 values under 9 columns"),
        ("r1,c3,with,1,covid,covid,1,2,3,4", "line 3: 10 values under 9 columns"),
        ("r1,c3,with,1,covid,covid,1,2,3" + "0" * 200_000, "line 3: not CSV, or a value too long"),
        ('r1,c3,with,1,covid,covid,1,2,"3', "line 3: not CSV, or a value too long"),
        ("r1,c1,without,2,covid,covid,1,2,3", "line 3, readerID, caseID, modalityID: the same as in line 2"),
        ("r1,c1,with,2,normal,covid,1,2,3", "line 3, truth_class: not what line 2 gives for the same case"),
    ],
)
def test_a_fault_is_named_by_line_and_column(line, said):
    with pytest.raises(ValueError, match=f"^{said}"):
        read_table(make_text(GOOD[0], line))


def test_a_fault_is_named_without_what_stands_there():
    with pytest.raises(ValueError) as raised:
        read_table(make_text("r1,Jane Doe,with,1,covid,Jane Doe,1,2,3"))
    assert "Jane" not in str(raised.value)


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (HEADER.replace(",session", ""), "line 1: the columns session are missing"),
        (HEADER + ",age", "line 1: 1 columns are unknown"),
        (HEADER + ",session", "line 1: a column stands twice"),
        ("", "line 1: the columns caseID, modalityID"),
        ('"' + HEADER, "not CSV, or a value too long"),
    ],
)
def test_another_header_is_refused(header, said):
    with pytest.raises(ValueError, match=said):
        read_table(make_text(header=header))


def test_a_table_without_readings_is_refused():
    with pytest.raises(ValueError, match="no readings"):
        read_table(HEADER + "\n\n")


def test_the_reading_room_writes_the_columns_that_are_read_here():
    assert export.COLUMNS == COLUMNS
