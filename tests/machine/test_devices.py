import pytest
import torch

from kr_text.machine.devices import device_named


def with_accelerator(monkeypatch: pytest.MonkeyPatch, kind: str | None) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: kind is not None)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device(kind or "cpu"))


def test_the_default_is_the_accelerator_if_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with_accelerator(monkeypatch, "cuda")
    assert device_named(None).type == "cuda"
    with_accelerator(monkeypatch, None)
    assert device_named(None).type == "cpu"


def test_a_device_is_chosen_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    with_accelerator(monkeypatch, "cuda")
    assert [device_named(name).type for name in ("cpu", "cuda")] == ["cpu", "cuda"]


@pytest.mark.parametrize(("accelerator", "here"), [(None, "cpu"), ("cuda", "cpu or cuda")])
def test_a_device_that_is_not_there_is_refused(
    monkeypatch: pytest.MonkeyPatch, accelerator: str | None, here: str
) -> None:
    with_accelerator(monkeypatch, accelerator)
    with pytest.raises(ValueError, match=f"^device must be one that torch finds on this machine, {here}, got 'mps'$"):
        device_named("mps")
