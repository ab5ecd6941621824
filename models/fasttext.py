"""FastText: the mean of word and word n-gram embeddings, then a linear layer.

Joulin, Grave, Bojanowski, Mikolov: Bag of Tricks for Efficient Text Classification (EACL 2017).
"""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from kr_text.kernels import takes_loops
from kr_text.models.padding import left_align, zero_padding_row
from kr_text.ranges import require_at_least, require_token_id


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


def ngram_ids(words: Tensor, offsets: Tensor, config: FastTextConfig) -> Tensor:
    """The row numbers of words and of the n-grams that begin with each.

    Args:
        words: (number of words,), the texts one after the other, each with any padding behind it.
        offsets: (batch,), where each text begins.
        config: says which n-grams, and over how many buckets they are hashed.

    Returns:
        (number of words, max_ngram), int32: the word, its bigram, and so on; `pad_token_id` where an n-gram would reach
        into another text or into padding.
    """
    num_words = len(words)
    rows = words.new_full((num_words, config.max_ngram), config.pad_token_id, dtype=torch.int32)
    rows[:, 0] = words
    begins = torch.zeros(num_words + 1, dtype=torch.bool, device=words.device).index_fill_(0, offsets, True)[:num_words]
    hashed, ended = words.long(), torch.zeros_like(begins)
    for n in range(2, min(config.max_ngram, num_words) + 1):
        last_word = words[n - 1 :]
        hashed = hashed[:-1] * 116_049_371 + last_word  # fastText's hash; int64 wraps around
        ended = ended[:-1] | begins[n - 1 :] | (last_word == config.pad_token_id)
        ngrams = hashed.remainder(config.num_buckets).add_(config.vocab_size)
        rows[: len(ngrams), n - 1] = ngrams.masked_fill_(ended, config.pad_token_id)
    return rows


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
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        offsets: Tensor | None = None,
    ) -> SequenceClassifierOutput:
        """Classifies texts; an empty text gets the bias of the linear layer.

        Args:
            input_ids: (batch, seq_len), or with `offsets` (number of words,), the texts one after the other.
            attention_mask: (batch, seq_len), 1 keep, 0 pad.
            labels: (batch,), in 0..num_labels - 1; if given, `loss` is their mean cross-entropy.
            offsets: (batch,), where each text begins, as for `torch.nn.EmbeddingBag`.

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
        """(batch, embedding_dim): the means over the words and n-grams of each text, 0 for an empty one.

        `F.embedding_bag` leaves out padding too, and takes means, but its fast kernel does neither.
        """
        if takes_loops(self.embedding.weight):
            return cast(Tensor, cast(Any, _LoopedBagMean).apply(self.embedding.weight, words, offsets, self))
        rows = ngram_ids(words, offsets, self.config)
        keep = rows != self.config.pad_token_id
        ends = F.pad(keep.sum(1).cumsum(0, dtype=torch.int32), (1, 0))  # (number of words + 1,): rows kept before each
        begins = ends[offsets]  # (batch,)
        counts = torch.diff(begins, append=ends[-1:])
        table, sparse = self.embedding.weight, self.embedding.sparse
        if rows.device.type == "cpu":
            rows = rows.masked_select(keep)
            if sparse:
                total = cast(Tensor, cast(Any, _SparseBagSum).apply(table, rows, begins))
            else:
                total = F.embedding_bag(rows, table, begins, mode="sum")
        else:  # there, to count what is kept would wait for the queue
            rows, begins = rows.flatten(), (offsets * self.config.max_ngram).to(rows.dtype)
            weights = keep.flatten().to(table.dtype)
            total = F.embedding_bag(rows, table, begins, mode="sum", sparse=sparse, per_sample_weights=weights)
        return total / counts.clamp(min=1)[:, None]


class _LoopedBagMean(torch.autograd.Function):
    """`FastTextForSequenceClassification.mean_embedding` in loops, with its gradient."""

    @staticmethod
    def forward(
        ctx: Any, table: Tensor, words: Tensor, offsets: Tensor, model: FastTextForSequenceClassification
    ) -> Tensor:
        from kr_text.kernels.row_loops import mean_bags

        config = model.config
        sizes = config.vocab_size, config.num_buckets, config.max_ngram, config.pad_token_id
        means, ctx.bags = mean_bags(table, words, offsets, *sizes)
        ctx.num_rows, ctx.sparse = len(table), model.embedding.sparse
        return means

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        from kr_text.kernels.row_loops import table_gradient

        gradient = table_gradient(ctx.bags, grad.contiguous(), ctx.num_rows)
        return gradient if ctx.sparse else gradient.to_dense(), None, None, None


class _SparseBagSum(torch.autograd.Function):
    """`F.embedding_bag` with mode "sum" and a sparse gradient, which has each row of the table once, in order.

    That of `F.embedding_bag` repeats a row, and the gradient for it, at each of its places in the batch.
    """

    @staticmethod
    def forward(ctx: Any, table: Tensor, rows: Tensor, begins: Tensor) -> Tensor:
        ctx.save_for_backward(rows, begins)
        ctx.shape = table.shape
        return F.embedding_bag(rows, table, begins, mode="sum")

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        rows, begins = ctx.saved_tensors
        lengths = torch.diff(begins, append=begins.new_tensor([len(rows)]))
        bags = torch.repeat_interleave(lengths)  # of each row
        rows, order = rows.sort()
        rows, counts = torch.unique_consecutive(rows, return_counts=True)
        begins = (counts.cumsum(0) - counts).to(bags.dtype)
        values = F.embedding_bag(bags.index_select(0, order), grad, begins, mode="sum")
        return torch.sparse_coo_tensor(rows[None], values, ctx.shape, check_invariants=False), None, None
