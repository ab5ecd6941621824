from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig

from kr_text.models import CharCNNConfig, FastTextConfig, TextRNNConfig, TransformerConfig
from model_cases import make_model


@pytest.mark.parametrize(
    ("config_class", "kwargs", "message"),
    [
        (FastTextConfig, {"vocab_size": 0}, r"vocab_size must be at least 1, got 0"),
        (FastTextConfig, {"embedding_dim": 0}, r"embedding_dim must be at least 1, got 0"),
        (FastTextConfig, {"max_ngram": 0}, r"max_ngram must be at least 1, got 0"),
        (FastTextConfig, {"num_buckets": 0}, r"num_buckets must be at least 1, got 0"),
        (FastTextConfig, {"vocab_size": 9, "pad_token_id": 9}, r"pad_token_id must be in 0\.\.8, got 9"),
        (FastTextConfig, {"num_labels": 1}, r"num_labels must be at least 2, got 1"),
        (TextRNNConfig, {"vocab_size": 0}, r"vocab_size must be at least 1, got 0"),
        (TextRNNConfig, {"embedding_dim": 0}, r"embedding_dim must be at least 1, got 0"),
        (TextRNNConfig, {"context_size": 0}, r"context_size must be at least 1, got 0"),
        (TextRNNConfig, {"hidden_size": -1}, r"hidden_size must be at least 1, got -1"),
        (TextRNNConfig, {"cell": "rnn"}, r"cell must be one of lstm, gru, got 'rnn'"),
        (TextRNNConfig, {"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1\.0"),
        (TextRNNConfig, {"word_dropout": 1.0}, r"word_dropout must be in \[0, 1\), got 1\.0"),
        (TextRNNConfig, {"vocab_size": 1, "word_dropout": 0.1}, r"unk_token_id must be in 0\.\.0, got 1"),
        (TextRNNConfig, {"pad_token_id": -1}, r"pad_token_id must be in 0\.\.29999, got -1"),
        (TextRNNConfig, {"id2label": {0: "one"}}, r"num_labels must be at least 2, got 1"),
        (CharCNNConfig, {"vocab_size": 2}, r"vocab_size must be at least 3, got 2"),
        (CharCNNConfig, {"num_frames": 122}, r"num_frames must be at least 123, got 122"),
        (CharCNNConfig, {"shallow": True, "num_frames": 6}, r"num_frames must be at least 7, got 6"),
        (CharCNNConfig, {"num_filters": 0}, r"num_filters must be at least 1, got 0"),
        (CharCNNConfig, {"dense_size": 0}, r"dense_size must be at least 1, got 0"),
        (CharCNNConfig, {"dropout": -0.1}, r"dropout must be in \[0, 1\), got -0\.1"),
        (CharCNNConfig, {"initializer_range": 0.0}, r"initializer_range must be above 0, got 0\.0"),
        (CharCNNConfig, {"num_labels": 1}, r"num_labels must be at least 2, got 1"),
        (TransformerConfig, {"vocab_size": 0}, r"vocab_size must be at least 1, got 0"),
        (TransformerConfig, {"hidden_size": 0}, r"hidden_size must be at least 1, got 0"),
        (TransformerConfig, {"hidden_size": 12}, r"hidden_size must be a multiple of 2 \* .* = 8, got 12"),
        (TransformerConfig, {"num_hidden_layers": 0}, r"num_hidden_layers must be at least 1, got 0"),
        (TransformerConfig, {"num_attention_heads": 0}, r"num_attention_heads must be at least 1, got 0"),
        (TransformerConfig, {"intermediate_size": 0}, r"intermediate_size must be at least 1, got 0"),
        (TransformerConfig, {"dropout": 1.5}, r"dropout must be in \[0, 1\), got 1\.5"),
        (TransformerConfig, {"word_dropout": -0.1}, r"word_dropout must be in \[0, 1\), got -0\.1"),
        (TransformerConfig, {"vocab_size": 9, "pad_token_id": 10}, r"pad_token_id must be in 0\.\.8, got 10"),
        (TransformerConfig, {"num_labels": 1}, r"num_labels must be at least 2, got 1"),
    ],
)
def test_a_config_value_out_of_range_is_refused(config_class: Any, kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        config_class(**kwargs)


def test_an_edited_config_file_is_checked_when_it_is_loaded(model_name: str, tmp_path: Path) -> None:
    make_model(model_name).config.save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(file.read_text().replace('"vocab_size": 30', '"vocab_size": 0'))
    with pytest.raises(ValueError, match="vocab_size must be at least"):
        AutoConfig.from_pretrained(tmp_path)
