"""How values are written and read: YAML, NAME=VALUE settings, Markdown, whole files."""
