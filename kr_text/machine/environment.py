"""Software versions and hardware, for the report of a run."""

import platform
from importlib import metadata
from typing import TypedDict

from kr_text import __version__
from kr_text.machine.process import usable_cores

PACKAGES = ("torch", "transformers", "datasets", "tokenizers", "accelerate", "evaluate")


class Environment(TypedDict):
    """Software versions and hardware, without paths and host names.

    Attributes:
        versions: Version by package name, including python and kr-text.
        platform: Operating system and architecture.
        num_cores: Number of cores that this process may use.
        num_threads: Number of threads that torch uses.
        accelerator: Device type, such as cuda; None if there is no accelerator.
    """

    versions: dict[str, str]
    platform: str
    num_cores: int
    num_threads: int
    accelerator: str | None


def environment() -> Environment:
    """Versions and hardware of this process; of the packages, only torch is imported.

    Call it before training, so that a missing package costs no trained model.

    Raises:
        ValueError: A package is not installed.
    """
    import torch

    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return {
        "versions": {
            "python": platform.python_version(),
            **{name: _version(name) for name in PACKAGES},
            "kr-text": __version__,
        },
        "platform": f"{platform.system()} {platform.machine()}",
        "num_cores": usable_cores(),
        "num_threads": torch.get_num_threads(),
        "accelerator": None if accelerator is None else accelerator.type,
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError as error:
        raise ValueError(f"package {package} must be installed, got none: pip install {package}") from error
