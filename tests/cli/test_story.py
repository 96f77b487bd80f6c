"""Marks and lines of text, worked out by hand."""

import pytest

from aircache_ext.cli.flow import flow
from aircache_ext.cli.story import around, compared, milliseconds, percent


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        ("tax 907, date K2P", []),
        ("tax 917, date K2P", ["1"]),  # codes character by character
        ("fee 907, date K2P", ["fee"]),  # words as a whole
        ("tax 907", []),  # what is missing cannot be marked
        ("tax 907, date K2P, no 4", [", no 4"]),
        ("", []),
    ],
)
def test_what_is_wrong_in_an_answer(said, wrong):
    stretches = compared(said, "tax 907, date K2P")
    assert "".join(text for text, _ in stretches) == said
    assert [text for text, right in stretches if not right] == wrong


def test_nothing_is_wrong_where_nobody_knows():
    assert compared("anything", None) == [("anything", True)]


def test_the_part_that_was_asked():
    assert around("please. what is it? thanks", "what is it?") == [
        ("please. ", False),
        ("what is it?", True),
        (" thanks", False),
    ]
    assert around("what is it?", "what is it?") == [("what is it?", True)]
    assert around("what is it?", "") == [("what is it?", True)]


def test_lines_break_between_words_and_keep_kinds():
    stretches = [("one tw", "a"), ("o three", "b"), (" four", "a")]
    assert flow(stretches, len, 9) == [
        [("one tw", "a"), ("o", "b")],
        [("three", "b")],
        [("four", "a")],
    ]


def test_lines_break_within_what_is_too_long():
    assert flow([("ab cdefghij k", 0)], len, 4) == [
        [("ab", 0)],
        [("cdef", 0)],
        [("ghij", 0)],
        [("k", 0)],
    ]
    assert flow([("abc", 0)], len, 0) == [[("a", 0)], [("b", 0)], [("c", 0)]]
    assert flow([("", 0)], len, 4) == [[]]


def test_numbers_for_people():
    assert [percent(share) for share in (1, 0.1, 86 / 864, 0.125, 0.0004)] == [
        "100 %",
        "10 %",
        "10 %",
        "12.5 %",
        "0 %",
    ]
    assert [milliseconds(s) for s in (0.0021, 0.0999, 1.5)] == ["2.1 ms", "99.9 ms", "1,500 ms"]
