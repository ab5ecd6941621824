import logging

import pyarrow as pa
import pytest

import kr_text.text.alphabet
from kr_text.text.alphabet import ZHANG, choose_alphabet, count_characters

ENGLISH, RUSSIAN = ["The bank of the city.", "A caf\u00e9"], ["\u0411\u0430\u043d\u043a", "bank \u0430"]


def choose(name: str, texts: list[str]) -> str:
    return choose_alphabet(name, [pa.array(texts)])


def test_characters_are_counted_composed_in_lower_case_and_without_blanks() -> None:
    batches = [pa.array(["Aa E\u0301\u00e9"]), pa.array(["\u304b\u3099 \u0130\n\t\u3000", ""])]
    assert count_characters(batches) == {"a": 2, "\u00e9": 2, "\u304c": 1, "i": 1, "\u0307": 1, "\n": 1}


def test_auto_reads_ascii_where_at_most_5_percent_are_unknown() -> None:
    assert choose("auto", ENGLISH) == ZHANG
    assert choose("auto", ["a" * 95 + "\u00e9" * 5]) == ZHANG
    assert choose("auto", ["a" * 94 + "\u00e9" * 6]) == "a\u00e9"
    assert choose("auto", [""]) == ZHANG


def test_auto_reads_the_characters_of_the_texts_where_more_are_unknown() -> None:
    expected = "\u0430abkn\u0431\u043a\u043d"  # the most frequent first, then by code
    assert choose("auto", RUSSIAN) == choose("data", RUSSIAN) == expected


def test_the_choice_is_the_users_if_given() -> None:
    assert choose("zhang", RUSSIAN) == ZHANG
    assert set(choose("data", ENGLISH)) == set("thebankofcity.\u00e9")


def test_an_alphabet_from_the_texts_holds_the_most_frequent_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kr_text.text.alphabet, "MAX_CHARACTERS", 3)
    assert choose("data", ["zzz yy xx w"]) == "zxy"


@pytest.mark.parametrize(
    ("name", "level", "message"),
    [
        ("zhang", "WARNING", "83.3% of the characters of the training texts are not in CharCNN's ASCII alphabet and"),
        ("auto", "INFO", "83.3% of the characters of the training texts are not in CharCNN's ASCII alphabet: it reads"),
        ("data", "", ""),
    ],
)
def test_more_than_5_percent_unknown_characters_are_one_line_that_names_the_option(
    name: str, level: str, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="kr_text")
    choose(name, ["\u0411\u0430\u043d\u043a \u0430 z"])
    assert [record.levelname for record in caplog.records] == ([level] if level else [])
    assert all(record.getMessage().startswith(message) for record in caplog.records)
    assert all("--alphabet" in record.getMessage() for record in caplog.records)


def test_english_texts_need_no_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="kr_text")
    choose("auto", ENGLISH)
    choose("zhang", ENGLISH)
    assert not caplog.records
