"""Alphabets of CharCNN: the ASCII characters of its paper, or the most frequent characters of the training texts."""

import logging
import string
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kr_text.text.unknown_tokens import MAX_UNKNOWN

# Zhang 2015, Sec. 2.2. The paper counts 70 characters: it prints the hyphen twice, so 69 differ.
ZHANG = string.ascii_lowercase + string.digits + "-,;.!?:'\"/\\|_@#$%^&*~`+=<>()[]{}\n"
ALPHABETS = ("auto", "zhang", "data")
MAX_CHARACTERS = 3000  # in an alphabet from the data; CharCNN has a vector per character and kernel position

logger = logging.getLogger(__name__)


def choose_alphabet(name: str, texts: Iterable[pa.Array]) -> str:
    """The characters that CharCNN reads, as one string; logs the choice where `ZHANG` does not fit the texts.

    Args:
        name: "zhang" for `ZHANG`; "data" for the most frequent characters of the texts; "auto" for "data" if more than
            5% of the characters are not in `ZHANG`, else "zhang".
        texts: Batches of training texts.
    """
    counts = count_characters(texts)
    outside = sum(count for character, count in counts.items() if character not in ZHANG)
    share = outside / max(1, sum(counts.values()))
    from_data = "".join(sorted(counts, key=lambda character: (-counts[character], character))[:MAX_CHARACTERS])
    if share > MAX_UNKNOWN:
        unknown = f"{share:.1%} of the characters of the training texts are not in CharCNN's ASCII alphabet"
        if name == "zhang":
            logger.warning("%s and are unknown: give --alphabet data to read them", unknown)
        elif name == "auto":
            logger.info("%s: it reads their %d most frequent characters (--alphabet)", unknown, len(from_data))
    return from_data if name == "data" or (name == "auto" and share > MAX_UNKNOWN) else ZHANG


def count_characters(texts: Iterable[pa.Array]) -> dict[str, int]:
    """Counts of characters in lower case, composed (NFC), without white space other than newlines."""
    totals = np.zeros(0x110000, dtype=np.int64)
    for batch in texts:
        composed = pc.utf8_normalize(batch, "NFC")
        codes = np.frombuffer("".join(composed.to_pylist()).encode("utf-32-le"), dtype=np.uint32)
        totals += np.bincount(codes, minlength=len(totals))
    counts: dict[str, int] = {}
    for code in np.flatnonzero(totals).tolist():
        for character in chr(code).lower():
            if character == "\n" or not character.isspace():
                counts[character] = counts.get(character, 0) + int(totals[code])
    return counts
