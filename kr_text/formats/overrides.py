"""NAME=VALUE,NAME=VALUE,...: settings on one line, as in the flag --loss_overrides and in grids.

`parse_overrides` parses `--loss_overrides`. The model's config parses `--config_overrides` when the model is built
(`training/build.py`).
"""

from collections.abc import Mapping
from typing import Any

Value = bool | int | float | str


def parse_overrides(text: str | None, name: str) -> dict[str, Value]:
    """Parses settings on one line, as given with --loss_overrides; numbers and booleans get their types.

    Args:
        text: NAME=VALUE,NAME=VALUE,...; None is empty.
        name: Name of the flag or key, for the message.

    Raises:
        ValueError: A part is not NAME=VALUE.

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
    """Sorts settings on one line by name, without spaces, so that the same settings are the same text.

    Values keep their spelling. `parse_overrides` gives the same settings for the sorted text, or the same error.

    >>> sorted_overrides("num_train_epochs = 5, learning_rate=1e-1,")
    'learning_rate=1e-1,num_train_epochs=5'
    """
    if text is None:
        return None
    parts = {}
    for part in filter(str.strip, text.split(",")):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        parts[name] = f"{name}{equals}{value}"
    return ",".join(sorted(parts.values()))


def differences(was: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, str]:
    """Settings that are in both mappings with different values: one line of the old and one of the new values.

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
