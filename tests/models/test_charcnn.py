from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kr_text.models.charcnn import CharCNNConfig, CharCNNForSequenceClassification
from kr_text.text.tokenization import character_tokenizer

LENGTHS = [0, 1, 26, 27, 28, 122, 123, 124, 149, 150, 151, 500, 1000, 1013, 1014, 2000]


def make_model(**kwargs: Any) -> Any:
    torch.manual_seed(0)
    sizes = {"vocab_size": 12, "num_filters": 6, "dense_size": 9, "num_labels": 3}
    model: Any = CharCNNForSequenceClassification(CharCNNConfig(**{**sizes, **kwargs})).double()
    model.eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    return model


def text_of(length: int) -> list[int]:
    """Random ids from 1 (unknown) to 11."""
    return torch.randint(1, 12, (length,), generator=torch.Generator().manual_seed(length)).tolist()


def logits_of_all_frames(model: Any, text: list[int]) -> Tensor:
    """Zhang 2015, Tables 1 and 2, over every frame; characters past the end of the text are zeros.

    Centers the weights where `center_channels` centers the inputs, which is the same.
    """

    def weight_of(layer: Any) -> Tensor:
        weight: Tensor = layer.weight  # dimension 1 has the input channels
        return weight - weight.mean(1, keepdim=True) if model.config.center_channels else weight

    one_hot = torch.zeros(1, 10, model.config.num_frames, dtype=torch.float64)
    for frame, character in enumerate(text[: model.config.num_frames]):
        if character >= 2:
            one_hot[0, character - 2, frame] = 1.0
    x = one_hot
    for layer, pool_size in zip([model.characters, *model.convolutions], [3, 3, None, None, None, 3], strict=True):
        weight = layer.weight if layer is model.characters else weight_of(layer)
        x = F.conv1d(x, weight.permute(2, 1, 0), layer.bias).clamp(min=0)
        if pool_size is not None:
            x = F.max_pool1d(x, pool_size)
    x = (torch.einsum("nfw,wfo->no", x, weight_of(model.dense1)) + model.dense1.bias).clamp(min=0)
    x = F.linear(x, weight_of(model.dense2), model.dense2.bias).clamp(min=0)
    return F.linear(x, weight_of(model.classifier), model.classifier.bias)[0]


@pytest.mark.parametrize("center_channels", [True, False])
@pytest.mark.parametrize("num_frames", [1014, 1000, 150, 149, 123])
def test_cropped_frames_give_the_logits_of_all_frames(num_frames: int, center_channels: bool) -> None:
    model = make_model(num_frames=num_frames, center_channels=center_channels)
    for length in LENGTHS:
        logits = model(torch.tensor([text_of(length)], dtype=torch.long)).logits[0]
        expected = logits_of_all_frames(model, text_of(length))
        torch.testing.assert_close(logits, expected, rtol=0, atol=1e-10, msg=f"{length} characters")


@pytest.mark.parametrize("center_channels", [True, False])
@pytest.mark.parametrize("num_frames", [1014, 150, 7])
def test_the_shallow_network_takes_the_maximum_over_all_frames(num_frames: int, center_channels: bool) -> None:
    model = make_model(shallow=True, num_frames=num_frames, center_channels=center_channels)
    for length in [*range(2, 20), *LENGTHS]:
        text = text_of(length)
        one_hot = torch.zeros(1, 10, num_frames, dtype=torch.float64)
        for frame, character in enumerate(text[:num_frames]):
            if character >= 2:
                one_hot[0, character - 2, frame] = 1.0
        x = F.conv1d(one_hot, model.characters.weight.permute(2, 1, 0), model.characters.bias).clamp(min=0).amax(2)
        expected = model.classifier(x - x.mean() if center_channels else x)[0]
        logits = model(torch.tensor([text], dtype=torch.long)).logits[0]
        torch.testing.assert_close(logits, expected, rtol=0, atol=1e-12, msg=f"{length} characters")


def test_the_gradient_of_the_largest_frames_is_that_of_all_frames() -> None:
    layer = make_model(shallow=True).characters
    rows = torch.randint(0, 12, (5, 30), generator=torch.Generator().manual_seed(0))
    weights = torch.randn(5, 6, dtype=torch.float64)
    gradients = [
        torch.autograd.grad((pooled * weights).sum(), [layer.weight, layer.bias])
        for pooled in (layer.largest(rows), layer(rows).max(dim=1).values)
    ]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-12)


def test_texts_of_all_lengths_in_a_batch_have_the_logits_of_all_frames() -> None:
    model = make_model()
    rows = torch.tensor([text_of(length) + [0] * (2000 - length) for length in LENGTHS])
    expected = torch.stack([logits_of_all_frames(model, text_of(length)) for length in LENGTHS])
    torch.testing.assert_close(model(rows).logits, expected, rtol=0, atol=1e-10)


def test_characters_past_the_last_frame_are_cut_off() -> None:
    model = make_model(num_frames=150)
    text = text_of(500)
    assert torch.equal(model(torch.tensor([text])).logits, model(torch.tensor([text[:150] + [3] * 7])).logits)


def test_frames_past_the_text_are_not_computed() -> None:
    model = make_model()
    computed: list[int] = []
    for layer in (model.characters, *model.convolutions):
        layer.register_forward_hook(lambda module, args, output: computed.append(output.shape[1]))
    lengths = {}
    for length in (1, 240, 1013, 1014, 2000):
        computed.clear()
        model(torch.tensor([text_of(length)], dtype=torch.long))
        lengths[length] = list(computed)
    # The frames that see a character, and one that sees only padding; at most the frames of Zhang 2015, Table 1.
    assert lengths == {
        1: [2, 2, 2, 2, 2, 2],
        240: [241, 81, 28, 28, 28, 28],
        1013: [1008, 330, 108, 106, 104, 102],
        1014: [1008, 330, 108, 106, 104, 102],
        2000: [1008, 330, 108, 106, 104, 102],
    }


@pytest.mark.parametrize(
    ("size", "num_filters", "num_features", "dense_size", "std", "num_parameters"),
    [
        # The paper's layers, with 69 characters: six convolutions, three dense layers, 4 classes.
        (
            "small",
            256,
            8704,
            1024,
            0.05,
            (69 * 7 * 256 + 256)
            + (256 * 7 * 256 + 256)
            + 4 * (256 * 3 * 256 + 256)
            + (8704 * 1024 + 1024)
            + (1024 * 1024 + 1024)
            + (1024 * 4 + 4),
        ),
        (
            "large",
            1024,
            34816,
            2048,
            0.02,
            (69 * 7 * 1024 + 1024)
            + (1024 * 7 * 1024 + 1024)
            + 4 * (1024 * 3 * 1024 + 1024)
            + (34816 * 2048 + 2048)
            + (2048 * 2048 + 2048)
            + (2048 * 4 + 4),
        ),
    ],
)
def test_presets_have_the_sizes_of_the_paper(
    size: str, num_filters: int, num_features: int, dense_size: int, std: float, num_parameters: int
) -> None:
    config = CharCNNConfig.preset(size, num_labels=4)
    with torch.device("meta"):
        model = CharCNNForSequenceClassification(config)
    assert config.num_frames == 1014
    assert config.initializer_range == std
    layers = [model.characters, *model.convolutions]
    assert [layer.weight.shape[0] for layer in layers] == [7, 7, 3, 3, 3, 3]
    assert [layer.weight.shape[2] for layer in layers] == [num_filters] * 6
    assert model.dense1.weight.shape == (num_features // num_filters, num_filters, dense_size)
    assert model.dense2.out_features == dense_size
    assert model.num_parameters() == num_parameters


def test_arguments_override_a_preset() -> None:
    config = CharCNNConfig.preset("large", dropout=0.1, dense_size=7)
    assert (config.num_filters, config.dropout, config.dense_size) == (1024, 0.1, 7)


def test_an_unknown_preset_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"^size must be one of small, large, got 'medium'$"):
        CharCNNConfig.preset("medium")


def test_unknown_characters_and_blanks_are_zeros_and_all_others_one_hot() -> None:
    tokenizer = character_tokenizer(max_length=1014)
    model = make_model(vocab_size=len(tokenizer))
    input_ids = tokenizer("aB \n\U0001f600z0", return_tensors="pt")["input_ids"]
    weight, bias = model.characters.weight, model.characters.bias
    expected = bias.clone()
    for place, character in enumerate([0, 1, None, 68, None, 25, 26]):  # positions in the alphabet
        if character is not None:
            expected = expected + weight[place, character]
    torch.testing.assert_close(model.characters(input_ids), expected[None, None])


def test_the_default_vocabulary_fits_the_character_tokenizer() -> None:
    assert CharCNNConfig().vocab_size == len(character_tokenizer(max_length=1014))


def test_weights_start_normal_but_biases_and_the_classifier_at_zero() -> None:
    torch.manual_seed(0)
    model = CharCNNForSequenceClassification(CharCNNConfig(num_filters=40, dense_size=50, initializer_range=0.2))
    for key, parameter in model.named_parameters():
        if key.endswith("bias") or key.startswith("classifier"):
            assert not parameter.any(), key
        else:
            assert parameter.std().item() == pytest.approx(0.2, rel=0.2), key


def test_dropout_follows_the_first_two_dense_layers() -> None:
    model = make_model(dropout=0.25)
    dropped: list[tuple[int, ...]] = []
    model.dropout.register_forward_hook(lambda module, args, output: dropped.append(tuple(output.shape)))
    model(torch.tensor([[3, 5, 4]]))
    assert model.dropout.p == 0.25
    assert dropped == [(1, 9), (1, 9)]


def test_centered_channels_remove_the_common_gradient_of_a_units_weights() -> None:
    for center_channels in (True, False):
        model = make_model(center_channels=center_channels)
        model(torch.tensor([text_of(300)]), labels=torch.tensor([1])).loss.backward()
        for layer in (*model.convolutions, model.dense1, model.dense2, model.classifier):
            common = layer.weight.grad.sum(1).abs().max().item()  # over the input channels
            assert (common < 1e-12) == center_channels, layer
