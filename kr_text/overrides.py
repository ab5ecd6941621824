"""Settings in one line, NAME=VALUE,NAME=VALUE,..., as flags and grids have them."""

import yaml

Value = bool | int | float | str


def parse_overrides(text: str | None, name: str) -> dict[str, Value]:
    """The settings by name, numbers as such.

    Args:
        text: such a line; None is none.
        name: of the flag, for the message.

    Raises:
        ValueError: it is no such line.

    >>> parse_overrides("learning_rate=1e-3,until=2,cell=lstm", "training")
    {'learning_rate': 0.001, 'until': 2, 'cell': 'lstm'}
    """
    settings = {}
    for part in filter(str.strip, (text or "").split(",")):
        key, _, value = (piece.strip() for piece in part.partition("="))
        if not key or not value:
            raise ValueError(f"{name} must be NAME=VALUE,NAME=VALUE,..., got {part!r}")
        settings[key] = _value(value)
    return settings


def _value(text: str) -> Value:
    value: Value = yaml.safe_load(text)
    try:
        return float(value) if isinstance(value, str) else value  # 1e-3 is a text to YAML
    except ValueError:
        return value
