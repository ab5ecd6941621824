"""Scripts without blanks between words: Chinese, Japanese, Thai, Lao, Khmer, Burmese and Tibetan.

Their texts are split into characters, each with the marks that belong to it: U+0E01 U+0E49 U+0E32 is one character.
Tibetan has a mark between syllables, which is read as a blank. The n-grams of FastText then join characters to words.

The ranges are written out, so that `tokenizers` and Arrow, which have Unicode tables of their own, agree on them.
"""

BLANKS = "\u0f0b\u200b"  # Tibetan tsheg, zero width space

# Han radicals, iteration marks and numerals, hiragana, katakana, ideographs, half-width katakana
HAN_AND_KANA = (
    "\u2e80-\u2fd5\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3038-\u303b\u3041-\u3096\u309d-\u309f\u30a1-\u30fa"
    "\u30fc-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9d\U0001b000-\U0001b16f"
    "\U00020000-\U0003fffd"
)
HALF_WIDTH_MARKS = "\uff9e\uff9f"  # voiced and semi-voiced sound marks after half-width katakana
THAI_AND_LAO = "\u0e01-\u0e3f\u0e45-\u0e7f\u0e80-\u0ebf\u0ec5-\u0eff"  # without the vowels before a consonant
VOWELS_BEFORE = "\u0e40-\u0e44\u0ec0-\u0ec4"  # written before the consonant that they follow in speech
VOWELS_AFTER = "\u0e30\u0e32\u0e33\u0e45\u0eb0\u0eb2\u0eb3"  # other vowels of Thai and Lao are marks
BURMESE_AND_KHMER = "\u1000-\u109f\ua9e0-\ua9ff\uaa60-\uaa7f\u1780-\u17ff"
STACKERS = "\u1039\u17d2"  # the next consonant is written below

# One character, for the regular expressions of `tokenizers`.
CHARACTER = (
    f"(?:[{VOWELS_BEFORE}]?[{THAI_AND_LAO}]|[{VOWELS_BEFORE}{BURMESE_AND_KHMER}{HAN_AND_KANA}])"
    f"(?:[{STACKERS}][{BURMESE_AND_KHMER}]|[\\p{{M}}{HALF_WIDTH_MARKS}{VOWELS_AFTER}])*"
)
# Letters that always begin a character, whatever stands before them.
FIRST_LETTER = f"([{VOWELS_BEFORE}{HAN_AND_KANA}])"
