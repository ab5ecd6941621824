"""Range checks of settings; a value out of range raises ValueError with the rule and the value."""

import math


def in_range(
    name: str,
    value: float,
    low: float,
    high: float = math.inf,
    *,
    open_low: bool = False,
    open_high: bool = False,
) -> float:
    """Returns `value` if it is finite and in [low, high].

    Args:
        name: Name of the setting, for the message.
        value: Value of the setting.
        low: Lower bound.
        high: Upper bound; infinity for none.
        open_low: Whether `low` itself is out of range.
        open_high: Whether `high` itself is out of range.

    Raises:
        ValueError: The value is out of range, infinite or NaN.
    """
    above = low < value if open_low else low <= value
    below = value < high if open_high else value <= high
    if above and below and math.isfinite(value):
        return value
    if high == math.inf:
        rule = f"{'above' if open_low else 'at least'} {low} and finite"
    else:
        rule = f"in {'(' if open_low else '['}{low}, {high}{')' if open_high else ']'}"
    raise ValueError(f"{name} must be {rule}, got {value}")


def require_at_least(low: int, **values: int) -> None:
    """Requires each of `values` to be `low` or more."""
    for name, value in values.items():
        if value < low:
            raise ValueError(f"{name} must be at least {low}, got {value}")


def require_dropout(**rates: float) -> None:
    """Requires each of `rates` to be in [0, 1)."""
    for name, rate in rates.items():
        in_range(name, rate, 0, 1, open_high=True)


def require_token_id(vocab_size: int, **token_ids: int) -> None:
    """Requires each of `token_ids` to be in 0..vocab_size - 1."""
    for name, token_id in token_ids.items():
        if not 0 <= token_id < vocab_size:
            raise ValueError(f"{name} must be in 0..{vocab_size - 1}, got {token_id}")
