"""Fixtures that run a test for each of the four classifiers."""

from typing import Any

import pytest
from transformers import PreTrainedModel

from kr_text.models import MODELS
from model_cases import make_random_model


@pytest.fixture(params=MODELS)
def model_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def model(model_name: str) -> Any:
    return make_random_model(model_name)


@pytest.fixture
def exact_model(model: PreTrainedModel) -> PreTrainedModel:
    """The model in float64, where two ways to compute the same logits differ by less than 1e-10."""
    return model.double()
