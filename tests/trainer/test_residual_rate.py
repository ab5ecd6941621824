"""The learning-rate fraction, and the one default of the residual learning rate."""

import inspect
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from kr_text.trainer import KRTrainer, SofteningTrainer
from kr_text.trainer.residual_rate import RESIDUAL_LEARNING_RATE, learning_rate_fraction
from kr_text.training.run_arguments import RunArguments


def fraction(optimizer: Any) -> float:
    """Returns the fraction for a Trainer with this optimizer and a learning rate of 0.8."""
    trainer = SimpleNamespace(optimizer=optimizer, args=SimpleNamespace(learning_rate=0.8))
    return learning_rate_fraction(cast(Any, trainer))


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        ({}, 1.0),
        ({"lr": 0.1}, 0.5),
        ({"lr": 0.1, "initial_lr": 0.4}, 0.25),
        ({"lr": 0.1, "initial_lr": 0.4, "max_lr": 1.0}, 0.1),
        ({"lr": 0.5, "initial_lr": 0.4}, 1.0),
        ({"lr": 0.0, "initial_lr": 0.0}, 1.0),
        ({"lr": 0.1, "initial_lr": 0.4, "relative_step": True}, 1.0),
    ],
)
def test_fraction_is_the_current_rate_over_the_first_recorded_peak(group: dict[str, Any], expected: float) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.2)
    optimizer.param_groups[0].update(group)
    assert fraction(optimizer) == expected


def test_fraction_without_a_recorded_peak_is_relative_to_the_arguments() -> None:
    assert fraction(SimpleNamespace(param_groups=[{"lr": 0.2}])) == 0.25


def test_all_defaults_of_the_residual_learning_rate_are_one_constant() -> None:
    assert RESIDUAL_LEARNING_RATE == 1e-2
    defaults = [
        inspect.signature(KRTrainer).parameters["residual_learning_rate"].default,
        inspect.signature(SofteningTrainer).parameters["loss_learning_rate"].default,
        RunArguments.residual_learning_rate,
    ]
    assert all(default is RESIDUAL_LEARNING_RATE for default in defaults)
