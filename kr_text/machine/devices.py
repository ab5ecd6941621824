"""The device that a model computes on."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def device_named(name: str | None) -> "torch.device":
    """The device of this name; without a name, the accelerator if there is one, else the CPU.

    Args:
        name: cpu, cuda or mps.

    Raises:
        ValueError: If this machine, or this build of torch, has no such device.
    """
    import torch

    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    here = [torch.device("cpu"), *([accelerator] if accelerator else [])]
    if name is None:
        return here[-1]
    types = [device.type for device in here]
    if name not in types:
        raise ValueError(f"device must be one that torch finds on this machine, {' or '.join(types)}, got {name!r}")
    return here[types.index(name)]
