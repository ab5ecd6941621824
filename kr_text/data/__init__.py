"""Text classification data: `load` reads the Hub, folders, files and the built-in corpus; `read_texts` reads texts."""

from kr_text.data.sources import fingerprint, load, load_rows
from kr_text.data.texts import read_texts

__all__ = ["fingerprint", "load", "load_rows", "read_texts"]
