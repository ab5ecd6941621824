"""FastText: the mean of word and word n-gram embeddings, then a linear layer.

Joulin, Grave, Bojanowski, Mikolov: Bag of Tricks for Efficient Text Classification (EACL 2017).
"""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from kr_text.models.padding import left_align, zero_padding_row
from kr_text.models.ranges import require_at_least, require_token_id


class FastTextConfig(PreTrainedConfig):
    """Sizes of a FastText classifier.

    Args:
        vocab_size: words, with the special tokens.
        embedding_dim: width of the embeddings.
        max_ngram: n-grams of 2 up to this many words join the mean; 1 for words alone.
        num_buckets: rows that the n-grams share, by hash.
        pad_token_id: the id that stands for no word.
    """

    model_type = "kr_text_fasttext"

    def __init__(
        self,
        vocab_size: int = 30_000,
        embedding_dim: int = 10,
        max_ngram: int = 2,
        num_buckets: int = 500_000,
        pad_token_id: int = 0,
        **kwargs: Any,
    ) -> None:
        require_at_least(1, vocab_size=vocab_size, embedding_dim=embedding_dim)
        require_at_least(1, max_ngram=max_ngram, num_buckets=num_buckets)
        require_token_id(vocab_size, pad_token_id=pad_token_id)
        super().__init__(**kwargs)
        require_at_least(2, num_labels=cast(int, self.num_labels))
        self.vocab_size = vocab_size
        self.embedding_dim = embedding_dim
        self.max_ngram = max_ngram
        self.num_buckets = num_buckets
        self.pad_token_id = pad_token_id


def ngram_ids(input_ids: Tensor, config: FastTextConfig) -> Tensor:
    """Word ids with the row numbers of their n-grams appended.

    Args:
        input_ids: (batch, seq_len), padded on the right with `config.pad_token_id`.
        config: says which n-grams, and over how many buckets they are hashed.

    Returns:
        (batch, up to max_ngram * seq_len): words, then bigrams, and so on; `pad_token_id` wherever an n-gram would
        reach into the padding.
    """
    columns, hashed = [input_ids], input_ids
    for n in range(2, config.max_ngram + 1):
        last_word = input_ids[:, n - 1 :]
        hashed = hashed[:, :-1] * 116_049_371 + last_word  # fastText's hash; int64 wraps around
        rows = config.vocab_size + hashed.remainder(config.num_buckets)
        columns.append(rows.masked_fill(last_word == config.pad_token_id, config.pad_token_id))
    return torch.cat(columns, dim=1)


class FastTextForSequenceClassification(PreTrainedModel):
    """FastText; the n-grams are made from `input_ids`, so that any word tokenizer will do."""

    config_class = FastTextConfig
    config: FastTextConfig

    def __init__(self, config: FastTextConfig) -> None:
        super().__init__(config)
        num_rows = config.vocab_size + (config.num_buckets if config.max_ngram > 1 else 0)
        self.embedding = nn.Embedding(num_rows, config.embedding_dim, padding_idx=config.pad_token_id)
        self.classifier = nn.Linear(config.embedding_dim, cast(int, config.num_labels))
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Embedding):  # as fastText: uniform in +-1/dim, and a classifier of zeros
            nn.init.uniform_(module.weight, -1 / module.embedding_dim, 1 / module.embedding_dim)
            zero_padding_row(module)
        elif isinstance(module, nn.Linear):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)

    def get_input_embeddings(self) -> nn.Module:
        """The table whose first `vocab_size` rows are the words."""
        return self.embedding

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None
    ) -> SequenceClassifierOutput:
        """Classifies texts; an empty text gets the bias of the linear layer.

        Args:
            input_ids: (batch, seq_len).
            attention_mask: (batch, seq_len), 1 keep, 0 pad.
            labels: (batch,), in 0..num_labels - 1; if given, `loss` is their mean cross-entropy.

        Returns:
            `logits` (batch, num_labels) and `loss`.
        """
        input_ids, _ = left_align(input_ids, attention_mask, self.config.pad_token_id)
        ids = ngram_ids(input_ids, self.config)
        # embedding_bag leaves padding out of the mean; the mean of no words is 0.
        mean = F.embedding_bag(ids, self.embedding.weight, mode="mean", padding_idx=self.config.pad_token_id)
        logits = self.classifier(mean)
        loss = None if labels is None else F.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)
