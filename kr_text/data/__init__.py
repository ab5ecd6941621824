"""Text classification data: `load` reads the Hub, folders, files and the generated corpus."""

from kr_text.data.sources import fingerprint, load, load_rows

__all__ = ["fingerprint", "load", "load_rows"]
