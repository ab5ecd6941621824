"""Runs the command line: `python -m kr_text` is `kr-text`."""

import sys

from kr_text.cli import main

if __name__ == "__main__":
    sys.exit(main())
