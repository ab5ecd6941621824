from typing import Any

import pytest

from kr_text.losses.by_name import LOSSES, named_loss


def test_named_losses_have_the_papers_settings() -> None:
    settings = {}
    for name in LOSSES:
        if criterion := named_loss(name, 4):
            settings[name] = (criterion.label_smoothing, criterion.schedule(0), round(criterion.schedule(1), 12))
    assert settings == {"ls": (0.1, 0.0, 0.0), "kr": (0.0, 1.0, 0.99), "kr-ls": (0.1, 1.0, 0.99)}
    assert named_loss("ce", 4) is None


def test_settings_of_a_named_loss_differ_where_they_are_given() -> None:
    criterion = named_loss("kr-ls", 4, alpha=0.5, gamma=0.9, divergence="as_printed")
    assert criterion is not None
    assert (criterion.label_smoothing, criterion.schedule(0), criterion.schedule(1)) == (0.1, 0.5, 0.45)
    assert (criterion.divergence, criterion.residual_matrix.shape) == ("as_printed", (4, 4))
    other = named_loss("kr-ls", 4, label_smoothing=0.2)
    assert other is not None
    assert (other.label_smoothing, other.schedule(0), other.divergence) == (0.2, 1.0, "label_first")


@pytest.mark.parametrize(
    ("settings", "alphas"), [({"until": 2}, [1, 1, 0, 0]), ({"until": 1, "alpha": 0.3}, [0.3, 0, 0, 0])]
)
def test_until_ends_alpha_after_so_many_epochs(settings: dict[str, Any], alphas: list[float]) -> None:
    criterion = named_loss("kr", 4, **settings)
    assert criterion is not None
    assert [criterion.schedule(epoch) for epoch in range(4)] == alphas


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("ce", {"alpha": 1, "gamma": 1}, "loss 'ce' has no settings, got alpha, gamma"),
        ("kr", {"alhpa": 1}, "settings of loss 'kr' must be arguments of KRLoss, or until: .*'alhpa'"),
        ("kr", {"label_smoothing": 2.0}, r"label_smoothing must be .* got 2\.0"),
        ("kl", {}, "loss must be one of ce, ls, kr, kr-ls, or a KRLoss; got 'kl'"),
        ("kr", {"until": 2, "gamma": 0.5}, r"until and gamma must not be given together, got 2 and 0\.5"),
        ("kr", {"until": "abc"}, "settings of loss 'kr' must be arguments of KRLoss, or until: "),
    ],
)
def test_settings_that_a_named_loss_does_not_have_are_refused(
    name: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        named_loss(name, 4, **settings)
