import json
import socket
from pathlib import Path

import pytest

from kr_text.machine import environment as module
from kr_text.machine.environment import environment


def test_environment_has_versions_and_hardware_but_no_host_name_or_path() -> None:
    machine = environment()
    assert list(machine["versions"])[:3] == ["python", "torch", "transformers"]
    assert list(machine["versions"])[-1] == "kr-text"
    assert machine["num_cores"] >= 1
    assert machine["num_threads"] >= 1
    text = json.dumps(machine)
    assert socket.gethostname() not in text
    assert str(Path.home()) not in text


def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PACKAGES", ("torch", "no-such-package"))
    with pytest.raises(ValueError, match="package no-such-package must be installed, got none: pip install no-such-p"):
        environment()
