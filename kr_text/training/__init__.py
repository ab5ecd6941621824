"""One training run: its arguments, its parts, and what it leaves behind."""
