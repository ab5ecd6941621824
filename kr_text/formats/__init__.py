"""File and text formats: YAML, NAME=VALUE settings, Markdown, files that are written atomically."""
