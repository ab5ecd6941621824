"""ClassifierTokenizer: the tokenizer of a trained classifier, which reads long texts as in training."""

from typing import Any

from transformers import BatchEncoding, PreTrainedTokenizerFast


class ClassifierTokenizer(PreTrainedTokenizerFast):
    """A fast tokenizer that truncates texts to `model_max_length`, unless it is called with `truncation`.

    The tokenizers of transformers do not truncate by default, and `pipeline("text-classification")` calls them with the
    default. With this tokenizer, the pipeline reads as much of a text as the model read in training.

    It has no `__init__` of its own, since transformers loads tokenizer.json only for classes without one.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> BatchEncoding:
        """Tokenizes as every fast tokenizer does; `truncation` is True by default."""
        encoded: BatchEncoding = super().__call__(*args, **{"truncation": True, **kwargs})
        return encoded


def window_stride(tokenizer: PreTrainedTokenizerFast) -> int | None:
    """Number of tokens that neighbouring windows of a long text share; None if long texts are truncated.

    It is saved in tokenizer_config.json. The tokenizer itself truncates in both cases: only
    `kr_text.classifier.Classifier` reads windows.

    Args:
        tokenizer: Tokenizer of a classifier. AutoTokenizer loads a `ClassifierTokenizer` as the plain class if
            transformers is older than 5.8, and for some types of models.
    """
    stride: int | None = tokenizer.init_kwargs.get("window_stride")
    return stride


def classifier_tokenizer(tokenizer: PreTrainedTokenizerFast, stride: int | None) -> ClassifierTokenizer:
    """A copy of a tokenizer that encodes texts equally.

    Args:
        tokenizer: Fast tokenizer.
        stride: Number of tokens that neighbouring windows of a long text share; None truncates.
    """
    return ClassifierTokenizer(
        tokenizer_object=tokenizer.backend_tokenizer,
        model_max_length=tokenizer.model_max_length,
        model_input_names=tokenizer.model_input_names,
        padding_side=tokenizer.padding_side,
        truncation_side=tokenizer.truncation_side,
        split_special_tokens=tokenizer.split_special_tokens,
        clean_up_tokenization_spaces=tokenizer.clean_up_tokenization_spaces,
        window_stride=stride,
        **tokenizer.special_tokens_map,
    )
