"""Word and character tokenizers as Hugging Face fast tokenizers, built from training texts or an alphabet."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from kr_text.text.alphabet import ZHANG
from kr_text.text.char_ngrams import subword_tokens
from kr_text.text.scripts import BLANKS, CHARACTER
from kr_text.text.word_encoder import WordEncoder, count_pieces, join_pieces

PAD, UNK = "[PAD]", "[UNK]"  # the ids 0 and 1


def word_tokenizer(
    texts: Iterable[pa.Array | list[str]],
    *,
    vocab_size: int,
    min_frequency: int = 1,
    max_length: int,
    char_ngram: int = 0,
) -> PreTrainedTokenizerFast:
    """Builds a tokenizer of lower-case words and punctuation marks from the training texts.

    Accents, tones and vowel signs are kept, in the composed form NFC. Scripts without blanks between words are split
    into characters, see `kr_text.text.scripts`.

    Args:
        texts: Batches of texts.
        vocab_size: Maximum size of the vocabulary, with `[PAD]` and `[UNK]`; the most frequent words are kept.
        min_frequency: Minimum number of occurrences of a word in the vocabulary.
        max_length: Number of tokens that truncation keeps.
        char_ngram: Length of the character n-grams that unknown words are split into; 0 leaves them unknown. The
            n-grams follow the words in the vocabulary, at most `vocab_size` of them.
    """
    tokenizer = untrained_word_tokenizer()
    counts = count_words(tokenizer, *count_pieces(texts))
    words = sorted((word for word, count in counts.items() if count >= min_frequency), key=lambda w: (-counts[w], w))
    tokens = [PAD, UNK, *words[: max(0, vocab_size - 2)]]
    if char_ngram:
        tokens += subword_tokens(tokens[2:], char_ngram, vocab_size)
    vocab = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    tokenizer.model = models.WordPiece(vocab, unk_token=UNK) if char_ngram else models.WordLevel(vocab, unk_token=UNK)
    return _fast_tokenizer(tokenizer, max_length)


def untrained_word_tokenizer() -> Tokenizer:
    """The tokenizer of `word_tokenizer`, without a vocabulary."""
    tokenizer = Tokenizer(models.WordLevel(unk_token=UNK))
    clean = normalizers.BertNormalizer(handle_chinese_chars=False, strip_accents=False, lowercase=True)
    blanks = [normalizers.Replace(blank, " ") for blank in BLANKS]
    tokenizer.normalizer = normalizers.Sequence([*blanks, clean, normalizers.NFC()])
    characters = pre_tokenizers.Split(Regex(CHARACTER), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([characters, pre_tokenizers.BertPreTokenizer()])
    return tokenizer


def count_words(tokenizer: Tokenizer, pieces: list[str], counts: npt.NDArray[np.int64]) -> dict[str, int]:
    """Word counts of a corpus, from the counts of its pieces between blanks.

    Args:
        tokenizer: Tokenizer that splits pieces into words. Its vocabulary is replaced by the words of the corpus.
        pieces: Distinct pieces.
        counts: Number of occurrences of each piece.
    """
    trainer = trainers.WordLevelTrainer(vocab_size=2**62, show_progress=False)
    tokenizer.train_from_iterator(join_pieces(pieces), trainer)
    words = WordEncoder(tokenizer).words_of_pieces(pieces)
    weights = np.repeat(counts, words.lengths)
    totals = np.bincount(words.ids, weights, minlength=tokenizer.get_vocab_size() + 1).astype(np.int64).tolist()
    return {word: totals[index] for word, index in tokenizer.get_vocab().items() if totals[index]}


def character_tokenizer(*, max_length: int, alphabet: str = ZHANG) -> PreTrainedTokenizerFast:
    """Builds a tokenizer of lower-case characters, composed (NFC).

    Args:
        max_length: Number of characters that truncation keeps.
        alphabet: Distinct characters, which get the ids from 2 on; all others are `[UNK]`, the blank too.
    """
    vocab = {token: index for index, token in enumerate([PAD, UNK, *alphabet])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token=UNK))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Split(pattern="", behavior="isolated")
    return _fast_tokenizer(tokenizer, max_length)


def _fast_tokenizer(tokenizer: Tokenizer, max_length: int) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        unk_token=UNK,
        model_max_length=max_length,
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
        split_special_tokens=True,  # the string "[PAD]" in a text is ordinary text, not padding
    )
