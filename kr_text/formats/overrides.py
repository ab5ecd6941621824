"""Settings in one line, NAME=VALUE,NAME=VALUE,..., as flags, grids and messages have them."""

from collections.abc import Mapping
from typing import Any

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


def sorted_overrides(text: str | None) -> str | None:
    """The same line with its settings by name, so that two ways to write the same are one.

    >>> sorted_overrides("num_train_epochs=5, learning_rate=0.1")
    'learning_rate=0.1,num_train_epochs=5'
    """
    return None if text is None else ",".join(sorted(part.strip() for part in text.split(",")))


def differences(was: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, str]:
    """The settings that both have with different values, in a line for each; two empty lines where there is none.

    >>> differences({"loss": "kr", "alpha": 1, "gamma": 0.9}, {"loss": "ce", "alpha": 0.3, "gamma": 0.9, "seed": 1})
    ('loss=kr, alpha=1', 'loss=ce, alpha=0.3')
    """
    names = [name for name in was if name in now and was[name] != now[name]]
    before, after = (", ".join(f"{name}={settings[name]}" for name in names) for settings in (was, now))
    return before, after


def _value(text: str) -> Value:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text
