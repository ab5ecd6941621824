import json
import socket
from pathlib import Path

from kr_text.machine.environment import environment


def test_environment_names_versions_and_hardware_but_no_host_or_path() -> None:
    machine = environment()
    assert list(machine["versions"])[:3] == ["python", "torch", "transformers"]
    assert "kr-text" in machine["versions"]
    assert machine["num_cores"] >= 1
    assert machine["num_threads"] >= 1
    text = json.dumps(machine)
    assert socket.gethostname() not in text
    assert str(Path.home()) not in text
