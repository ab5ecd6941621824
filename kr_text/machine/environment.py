"""What the numbers of a run depend on besides its command."""

import platform
from importlib import metadata
from typing import TypedDict

from kr_text.machine.process import usable_cores

DISTRIBUTIONS = ("torch", "transformers", "datasets", "tokenizers", "accelerate", "evaluate", "kr-text")


class Environment(TypedDict):
    """Software and hardware; no path and no host name."""

    versions: dict[str, str]
    platform: str
    num_cores: int
    num_threads: int
    accelerator: str | None


def environment() -> Environment:
    """Versions of what a run rests on, and its hardware; imports torch alone."""
    import torch

    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return {
        "versions": {"python": platform.python_version()} | {name: metadata.version(name) for name in DISTRIBUTIONS},
        "platform": f"{platform.system()} {platform.machine()}",
        "num_cores": usable_cores(),
        "num_threads": torch.get_num_threads(),
        "accelerator": None if accelerator is None else accelerator.type,
    }
