import string
from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from kr_text.text.alphabet import ZHANG
from kr_text.text.tokenization import character_tokenizer, word_tokenizer

TEXTS = ["The cat saw the dog.", "THE dog saw a bird,", "the end"]
ODD_TEXTS = [
    "",
    " ",
    "\n",
    "\0",
    "\U0001f600",
    "na\u00efve caf\u00e9",
    "\u4e2d\u6587",
    "\u0130",
    "a\u2028b",
    "[PAD] [UNK]",
]


def words(**kwargs: int) -> PreTrainedTokenizerFast:
    return word_tokenizer([TEXTS], **{"vocab_size": 100, "max_length": 50, **kwargs})


@pytest.fixture(params=["words", "characters"])
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    return words() if request.param == "words" else character_tokenizer(max_length=50)


def test_words_get_ids_by_frequency_then_by_alphabet() -> None:
    # the: 4; dog, saw: 2; the rest: 1.
    expected = ["[PAD]", "[UNK]", "the", "dog", "saw", ",", ".", "a", "bird", "cat", "end"]
    assert words().get_vocab() == {word: index for index, word in enumerate(expected)}


def test_padding_is_0_and_unknown_is_1(tokenizer: PreTrainedTokenizerFast) -> None:
    assert (tokenizer.pad_token_id, tokenizer.unk_token_id) == (0, 1)
    assert tokenizer.all_special_ids == [1, 0] or tokenizer.all_special_ids == [0, 1]


def pieces(text: str) -> list[str]:
    """Tokens of a text whose words are all known."""
    return word_tokenizer([[text]], vocab_size=100, max_length=100).tokenize(text)


def test_words_are_lower_cased_and_keep_their_accents() -> None:
    tokenizer = word_tokenizer([["caf\u00e9 \u00dcber"]], vocab_size=10, max_length=10)
    assert tokenizer.tokenize("CAF\u00c9 uber \u00fcber") == ["caf\u00e9", "[UNK]", "\u00fcber"]


def test_composed_and_decomposed_letters_are_the_same_word() -> None:
    tokenizer = word_tokenizer([["caf\u00e9 \u304c"]], vocab_size=10, max_length=10)
    assert tokenizer.tokenize("CAFE\u0301 \u304b\u3099") == ["caf\u00e9", "\u304c"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ti\u1ebfng vi\u1ec7t m\u00e0 m\u00e1 ma", "ti\u1ebfng|vi\u1ec7t|m\u00e0|m\u00e1|ma"),
        ("हिन्दी में कि की।", "हिन्दी|में|कि|की|।"),
        ("한국어 문장", "한국어|문장"),
        ("ﺎﻠﻌﺮﺒﻳﺓ كِتَاب", "ﺎﻠﻌﺮﺒﻳﺓ|كِتَاب"),
        ("漢字ひらカナabcです。", "漢|字|ひ|ら|カ|ナ|abc|で|す|。"),
        ("ｶﾞｷﾞ", "ｶﾞ|ｷﾞ"),
        ("中\ufe00文", "中\ufe00|文"),
        ("กำลังอยู่ที่นี่", "กำ|ลั|ง|อ|ยู่|ที่|นี่"),
        ("เก้าอี้ไม้", "เก้า|อี้|ไม้"),
        ("ພາສາລາວ", "ພາ|ສາ|ລາ|ວ"),
        ("ភាសាខ្មែរ", "ភា|សា|ខ្មែ|រ"),
        ("မြန်မာ", "မြ|န်|မာ"),
        ("བོད་སྐད་", "བོད|སྐད"),
        ("ไทย\u200bดี", "ไท|ย|ดี"),
    ],
)
def test_texts_without_blanks_are_split_into_characters_with_their_marks(text: str, expected: str) -> None:
    assert pieces(text) == expected.split("|")


def test_punctuation_marks_are_words() -> None:
    tokenizer = word_tokenizer([["don't stop, it's $5.50!"]], vocab_size=20, max_length=20)
    marks = ["don", "'", "t", "stop", ",", "it", "'", "s", "$", "5", ".", "50", "!"]
    assert tokenizer.tokenize("don't stop, it's $5.50!") == marks


def test_unknown_words_become_unk() -> None:
    assert words()("the zebra end")["input_ids"] == [2, 1, 10]


def test_vocab_size_keeps_the_most_frequent_words_and_the_special_tokens() -> None:
    assert words(vocab_size=4).get_vocab() == {"[PAD]": 0, "[UNK]": 1, "the": 2, "dog": 3}


def test_min_frequency_drops_rarer_words() -> None:
    assert words(min_frequency=2).get_vocab() == {"[PAD]": 0, "[UNK]": 1, "the": 2, "dog": 3, "saw": 4}
    assert words(min_frequency=3).get_vocab() == {"[PAD]": 0, "[UNK]": 1, "the": 2}


def test_batches_of_training_texts_give_the_vocabulary_of_single_texts() -> None:
    batched = word_tokenizer(iter([TEXTS[:2], TEXTS[2:]]), vocab_size=100, max_length=50)
    single = word_tokenizer(iter([TEXTS]), vocab_size=100, max_length=50)
    assert batched.get_vocab() == single.get_vocab() == words().get_vocab()


def test_a_vocabulary_without_words_has_the_special_tokens() -> None:
    tokenizer = word_tokenizer([["", " "]], vocab_size=100, max_length=50)
    assert tokenizer.get_vocab() == {"[PAD]": 0, "[UNK]": 1}
    assert tokenizer("the cat")["input_ids"] == [1, 1]


def test_truncation_keeps_the_first_max_length_tokens() -> None:
    assert words(max_length=3)("the dog saw a bird", truncation=True)["input_ids"] == [2, 3, 4]
    assert words(max_length=3)("the dog saw a bird")["input_ids"] == [2, 3, 4, 7, 8]
    assert character_tokenizer(max_length=2)("abc", truncation=True)["input_ids"] == [2, 3]


def test_padding_is_on_the_right_and_the_mask_shows_it(tokenizer: PreTrainedTokenizerFast) -> None:
    batch = tokenizer(["a", "a,,", ""], padding=True)
    assert sorted(batch) == ["attention_mask", "input_ids"]
    assert batch["attention_mask"] == [[1, 0, 0], [1, 1, 1], [0, 0, 0]]
    assert [row[length:] for row, length in zip(batch["input_ids"], (1, 3, 0), strict=True)] == [[0, 0], [], [0] * 3]


def test_an_empty_text_has_no_tokens(tokenizer: PreTrainedTokenizerFast) -> None:
    assert dict(tokenizer("")) == {"input_ids": [], "attention_mask": []}
    assert tokenizer(["", ""], padding=True, return_tensors="pt")["input_ids"].shape == (2, 0)


def test_the_alphabet_has_69_characters_the_paper_prints_one_twice() -> None:
    assert len(ZHANG) == len(set(ZHANG)) == 69
    printed = "abcdefghijklmnopqrstuvwxyz0123456789-,;.!?:'\"/\\|_@#$%^&*~`+-=<>()[]{}\n"  # Zhang 2015, Sec. 2.2
    assert len(printed) == 70
    assert set(printed) == set(ZHANG)


def test_characters_have_the_ids_of_the_alphabet_from_2() -> None:
    tokenizer = character_tokenizer(max_length=100)
    assert len(tokenizer) == 71
    assert tokenizer(ZHANG)["input_ids"] == list(range(2, 71))
    assert tokenizer(string.ascii_uppercase)["input_ids"] == list(range(2, 28))


def test_every_other_character_is_unk() -> None:
    tokenizer = character_tokenizer(max_length=100)
    assert tokenizer("a b\tc\rd")["input_ids"] == [2, 1, 3, 1, 4, 1, 5]
    assert tokenizer("a\0\u00e9\U0001f600\u4e2db")["input_ids"] == [2, 1, 1, 1, 1, 3]


def test_a_newline_is_a_character() -> None:
    assert character_tokenizer(max_length=100)("a\n\nb\n")["input_ids"] == [2, 70, 70, 3, 70]


def test_a_text_that_spells_out_a_special_token_holds_only_its_characters(tokenizer: PreTrainedTokenizerFast) -> None:
    ids = tokenizer("[PAD] a [UNK] a")["input_ids"]
    assert 0 not in ids
    assert ids == tokenizer("[pad] a [unk] a")["input_ids"]
    assert word_tokenizer([["[PAD]"]], vocab_size=9, max_length=9).tokenize("[PAD]") == ["[", "pad", "]"]


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_odd_texts_have_as_many_ids_as_mask_and_all_in_the_vocabulary(
    tokenizer: PreTrainedTokenizerFast, text: str
) -> None:
    encoded = tokenizer(text)
    assert len(encoded["attention_mask"]) == len(encoded["input_ids"])
    assert all(0 < token < len(tokenizer) for token in encoded["input_ids"])


def test_unusual_texts_can_be_trained_on() -> None:
    tokenizer = word_tokenizer([ODD_TEXTS], vocab_size=100, max_length=50)
    assert tokenizer.tokenize("Na\u00efve \U0001f600 \u4e2d\u6587 a\0b") == [
        "na\u00efve",
        "\U0001f600",
        "\u4e2d",
        "\u6587",
        "[UNK]",
    ]


def test_a_very_long_text_keeps_all_of_its_tokens() -> None:
    assert words()("the dog " * 50_000)["input_ids"] == [2, 3] * 50_000
    assert character_tokenizer(max_length=1014)("ab" * 50_000)["input_ids"] == [2, 3] * 50_000
    assert words()("x" * 1_000_000)["input_ids"] == [1]


def test_a_saved_tokenizer_loads_unchanged(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert isinstance(loaded, PreTrainedTokenizerFast)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tokenizer.json", "tokenizer_config.json"]
    assert loaded.get_vocab() == tokenizer.get_vocab()
    assert (loaded.pad_token_id, loaded.unk_token_id, loaded.model_max_length) == (0, 1, 50)
    for texts in (TEXTS, ODD_TEXTS, ["the " * 99]):
        for cut in (False, True):
            expected = tokenizer(texts, truncation=cut, padding=cut)
            assert dict(loaded(texts, truncation=cut, padding=cut)) == dict(expected)


def test_saving_a_loaded_tokenizer_gives_the_same_file(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path / "first")
    AutoTokenizer.from_pretrained(tmp_path / "first").save_pretrained(tmp_path / "second")
    first, second = (tmp_path / folder / "tokenizer.json" for folder in ("first", "second"))
    assert first.read_text() == second.read_text()
