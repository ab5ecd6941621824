"""FastText: the mean of word and n-gram embeddings, then a linear layer.

Joulin, Grave, Bojanowski, Mikolov: Bag of Tricks for Efficient Text Classification (EACL 2017).
"""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from kr_text.kernels.dispatch import use_compiled_loops
from kr_text.kernels.embedding_bag import FASTTEXT_HASH, mean_bags
from kr_text.models.padding import left_align, zero_padding_row
from kr_text.ranges import require_at_least, require_token_id


class FastTextConfig(PreTrainedConfig):
    """Configuration of a FastText classifier.

    Args:
        vocab_size: Number of words, including special tokens.
        embedding_dim: Width of the embeddings; the paper has 10 too.
        max_ngram: Number of words in the longest n-grams; 1 for words alone. The paper's best results are with bigrams.
        num_buckets: Number of hash buckets for n-grams. The paper has 10 million for bigrams; on AG
            News 2 million did no better than 500,000 (docs/recipes.md).
        char_ngram: Length of the character n-grams whose embeddings are averaged with a word's, as `minn` and `maxn` of
            the fastText library; at least 2, or 0 for none. Tokens stand for them, see `kr_text.text.char_ngrams`.
        max_char_ngrams: Number of character n-grams of a word; a longer word has those at its two ends.
        pad_token_id: Id of the padding token.
    """

    model_type = "kr_text_fasttext"

    def __init__(
        self,
        vocab_size: int = 30_000,
        embedding_dim: int = 10,
        max_ngram: int = 2,
        num_buckets: int = 500_000,
        char_ngram: int = 0,
        max_char_ngrams: int = 12,
        pad_token_id: int = 0,
        **kwargs: Any,
    ) -> None:
        require_at_least(1, vocab_size=vocab_size, embedding_dim=embedding_dim)
        require_at_least(1, max_ngram=max_ngram, num_buckets=num_buckets, max_char_ngrams=max_char_ngrams)
        if char_ngram != 0:
            require_at_least(2, char_ngram=char_ngram)
        require_token_id(vocab_size, pad_token_id=pad_token_id)
        super().__init__(**kwargs)
        require_at_least(2, num_labels=cast(int, self.num_labels))
        self.vocab_size = vocab_size
        self.embedding_dim = embedding_dim
        self.max_ngram = max_ngram
        self.num_buckets = num_buckets
        self.char_ngram = char_ngram
        self.max_char_ngrams = max_char_ngrams
        self.pad_token_id = pad_token_id


def ngram_ids(words: Tensor, offsets: Tensor, config: FastTextConfig) -> Tensor:
    """Row numbers of words and of the n-grams that begin with them.

    Args:
        words: (num_words,), token ids of the texts, one text after the other, each followed by any padding.
        offsets: (batch,), index of each text's first word.
        config: Length of the longest n-grams, and number of buckets.

    Returns:
        (num_words, max_ngram), int32: the word, its bigram, its trigram, ...; `pad_token_id` where an n-gram would
        extend into another text or into padding.
    """
    num_words = len(words)
    starts = torch.zeros(num_words + 1, dtype=torch.bool, device=words.device).index_fill_(0, offsets, True)[:num_words]
    rows = words.new_full((num_words, config.max_ngram), config.pad_token_id, dtype=torch.int32)
    rows[:, 0] = words
    hashed, crosses_end = words.long(), torch.zeros_like(starts)
    for n in range(2, min(config.max_ngram, num_words) + 1):
        last_word = words[n - 1 :]
        hashed = hashed[:-1] * FASTTEXT_HASH + last_word  # int64 wraps around
        crosses_end = crosses_end[:-1] | starts[n - 1 :] | (last_word == config.pad_token_id)
        ngrams = hashed.remainder(config.num_buckets).add_(config.vocab_size)
        rows[: len(ngrams), n - 1] = ngrams.masked_fill_(crosses_end, config.pad_token_id)
    return rows


class FastTextForSequenceClassification(PreTrainedModel):
    """FastText text classifier. It forms n-grams from `input_ids`, so it works with any word tokenizer."""

    config_class = FastTextConfig
    config: FastTextConfig
    char_ngrams: Tensor | None  # (vocab_size, max_char_ngrams): ids of the character n-grams of each word, then padding

    def __init__(self, config: FastTextConfig) -> None:
        super().__init__(config)
        num_rows = config.vocab_size + (config.num_buckets if config.max_ngram > 1 else 0)
        self.embedding = nn.Embedding(num_rows, config.embedding_dim, padding_idx=config.pad_token_id)
        self.classifier = nn.Linear(config.embedding_dim, cast(int, config.num_labels))
        shape = config.vocab_size, config.max_char_ngrams
        ngrams = torch.full(shape, config.pad_token_id, dtype=torch.int32) if config.char_ngram else None
        self.register_buffer("char_ngrams", ngrams)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Embedding):  # as in the fastText library
            nn.init.uniform_(module.weight, -1 / module.embedding_dim, 1 / module.embedding_dim)
            zero_padding_row(module)
        elif isinstance(module, nn.Linear):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)

    def get_input_embeddings(self) -> nn.Module:
        """Returns the embedding table; its first `vocab_size` rows are the words."""
        return self.embedding

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        offsets: Tensor | None = None,
    ) -> SequenceClassifierOutput:
        """Classifies texts; the logits of an empty text are the bias of the linear layer.

        Args:
            input_ids: (batch, seq_len), or with `offsets` (num_words,), one text after the other.
            attention_mask: (batch, seq_len), 1 keep, 0 pad; not used with `offsets`.
            labels: (batch,), in 0..num_labels - 1; if given, `loss` is the mean cross-entropy.
            offsets: (batch,), index of each text's first word, as for `torch.nn.EmbeddingBag`.

        Returns:
            `logits` (batch, num_labels) and `loss`.
        """
        if offsets is None:
            input_ids, _ = left_align(input_ids, attention_mask, self.config.pad_token_id)
            batch_size, seq_len = input_ids.shape
            offsets = torch.arange(batch_size, device=input_ids.device) * seq_len
            input_ids = input_ids.flatten()
        logits = self.classifier(self.mean_embedding(input_ids, offsets))
        loss = None if labels is None else F.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)

    def mean_embedding(self, words: Tensor, offsets: Tensor) -> Tensor:
        """Averages the embeddings of each text's words and n-grams: (batch, embedding_dim), 0 for an empty text."""
        config, table, sparse = self.config, self.embedding.weight, self.embedding.sparse
        if use_compiled_loops(table):
            from kr_text.kernels.ngram_loops import NgramSizes, mean_embedding

            sizes = NgramSizes(config.vocab_size, config.num_buckets, config.max_ngram, config.pad_token_id)
            return mean_embedding(table, words, offsets, sizes, self.char_ngrams, sparse)
        rows = ngram_ids(words, offsets, config)
        if self.char_ngrams is not None:
            rows = torch.cat([rows, self.char_ngrams[words]], dim=1)
        return mean_bags(table, rows, offsets, config.pad_token_id, sparse)
