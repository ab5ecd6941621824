"""Word and character tokenizers, built with `tokenizers` and saved as Hugging Face fast tokenizers."""

import string
from collections.abc import Iterable

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

PAD, UNK = "[PAD]", "[UNK]"  # the ids 0 and 1

# Zhang 2015, Sec. 2.2. The paper counts 70 characters: it prints the hyphen twice, so 69 differ.
ALPHABET = string.ascii_lowercase + string.digits + "-,;.!?:'\"/\\|_@#$%^&*~`+=<>()[]{}\n"


def word_tokenizer(
    texts: Iterable[str] | Iterable[list[str]], *, vocab_size: int, min_frequency: int = 1, max_length: int
) -> PreTrainedTokenizerFast:
    """Builds a tokenizer of lower-case words and marks from the training texts.

    Args:
        texts: the texts, or batches of them.
        vocab_size: the most frequent words are kept, up to this many with `[PAD]` and `[UNK]`.
        min_frequency: words seen less often become `[UNK]`.
        max_length: words that a text is cut to where truncation is asked for.
    """
    tokenizer = Tokenizer(models.WordLevel(unk_token=UNK))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordLevelTrainer(
        vocab_size=vocab_size, min_frequency=min_frequency, special_tokens=[PAD, UNK], show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return _fast_tokenizer(tokenizer, max_length)


def character_tokenizer(*, max_length: int) -> PreTrainedTokenizerFast:
    """Builds a tokenizer of the lower-case characters in `ALPHABET`; every other one, the blank too, is `[UNK]`.

    Args:
        max_length: characters that a text is cut to where truncation is asked for.
    """
    vocab = {token: index for index, token in enumerate([PAD, UNK, *ALPHABET])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token=UNK))
    tokenizer.normalizer = normalizers.Lowercase()
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
        split_special_tokens=True,  # a text that spells out "[PAD]" holds five characters, not padding
    )
