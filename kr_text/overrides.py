"""Settings in one line, NAME=VALUE,NAME=VALUE,..., as flags and grids have them."""

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
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text
