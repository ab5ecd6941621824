"""Texts to batches of token ids: tokenizers, encoding, word vectors and batches."""
