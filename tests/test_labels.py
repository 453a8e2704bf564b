"""Label sets: what the outputs mean, and which words count as which."""

from __future__ import annotations

import unicodedata

import pytest

from kws.data.labels import NOT_THE_WORD, WORDS, LabelSet
from kws.errors import KwsError
from kws.labels import SILENCE, UNKNOWN


def test_twelve_are_the_ten_commands_silence_and_unknown() -> None:
    labels = LabelSet.twelve()
    assert len(labels.labels) == 12 and len(labels.keywords) == 10
    assert set(labels.labels) - set(labels.keywords) == {SILENCE, UNKNOWN}
    assert labels.index_of("yes") == labels.labels.index("yes")
    assert labels.index_of(SILENCE) == labels.labels.index(SILENCE)
    for other in ("marvin", "zero", "anything", UNKNOWN):
        assert labels.index_of(other) == labels.labels.index(UNKNOWN)


OFFICIAL = """backward bed bird cat dog down eight five follow forward four go happy house learn
left marvin nine no off on one right seven sheila six stop three tree two up visual wow yes zero"""
"""From the README of Speech Commands v0.02."""


def test_thirty_five_are_all_words_of_the_data_set() -> None:
    labels = LabelSet.thirty_five()
    assert set(labels.labels) == set(OFFICIAL.split()) == set(WORDS)
    assert labels.labels == labels.keywords and len(labels.labels) == 35
    with pytest.raises(KwsError, match="No label for 'hello'"):
        labels.index_of("hello")


def test_own_words_keep_their_order_and_the_special_labels_can_be_left_out() -> None:
    assert LabelSet.own(["b", "a"]).labels == ("b", "a", SILENCE, UNKNOWN)
    assert LabelSet.own(["b", "a"], silence=False).labels == ("b", "a", UNKNOWN)
    without = LabelSet.own(["b", "a"], unknown=False)
    assert without.labels == ("b", "a", SILENCE)
    with pytest.raises(KwsError):
        without.index_of("c")


def test_silence_counts_as_unknown_where_it_has_no_label() -> None:
    labels = LabelSet.own(["a"], silence=False)
    assert labels.index_of(SILENCE) == labels.labels.index(UNKNOWN)


def test_a_wake_word_has_one_output_and_all_else_is_not_it() -> None:
    labels = LabelSet.wake_word("computer")
    assert labels.labels == labels.keywords == ("computer",) and labels.head == "sigmoid"
    assert labels.indices_of(["computer", "snowboy", SILENCE]) == [0, NOT_THE_WORD, NOT_THE_WORD]


@pytest.mark.parametrize("folder", ["yes", "YES", "Yes"])
def test_a_folder_is_of_its_label_in_any_case(folder: str) -> None:
    assert LabelSet.wake_word("Yes").index_of(folder) == 0
    assert LabelSet.own(["no", "Yes"]).index_of(folder) == 1


def test_a_folder_is_of_its_label_however_its_accents_are_stored() -> None:
    stored = unicodedata.normalize("NFD", "Lumière")
    assert stored != "Lumière" and LabelSet.wake_word("lumière").index_of(stored) == 0
    assert LabelSet.wake_word(stored).index_of("lumière") == 0
    assert LabelSet.wake_word("lumière").index_of("lumiere") == NOT_THE_WORD


def test_many_words_are_looked_up_at_once_from_any_iterable() -> None:
    labels = LabelSet.own(["a", "b"])
    assert labels.indices_of(word for word in ["b", "x", "a", "b"]) == [1, 3, 0, 1]


@pytest.mark.parametrize(
    "words",
    [[], ["a", "a"], ["a", "A"], [""], ["a/b"], [" a"], ["a\tb"], [UNKNOWN], ["a", SILENCE]],
)
def test_words_that_cannot_be_labels_are_refused(words: list[str]) -> None:
    with pytest.raises(KwsError):
        LabelSet.own(words)


def test_a_head_that_does_not_fit_is_refused() -> None:
    with pytest.raises(KwsError, match="two labels"):
        LabelSet.own(["a"], silence=False, unknown=False)
    with pytest.raises(KwsError, match="one output"):
        LabelSet(labels=("a", "b"), keywords=("a", "b"), head="sigmoid")
    with pytest.raises(KwsError, match="Unknown head"):
        LabelSet(labels=("a", "b"), keywords=("a",), head="linear")
