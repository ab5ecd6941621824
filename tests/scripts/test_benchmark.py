import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script without its comparisons, whose packages the extra `benchmark` installs."""
    for name, function in (("benchmark_training", "training_rows"), ("benchmark_commands", "command_rows")):
        stub = ModuleType(name)
        setattr(stub, function, lambda dataset, size: iter(()))
        monkeypatch.setitem(sys.modules, name, stub)
    monkeypatch.delitem(sys.modules, "benchmark", raising=False)
    import benchmark

    monkeypatch.delitem(sys.modules, "benchmark")
    monkeypatch.setattr(benchmark, "prepare_for_training", lambda: None)
    return benchmark


@pytest.mark.parametrize("fails", [False, True])
def test_the_folder_of_temporary_files_is_reset(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fails: bool
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    before, during = tempfile.gettempdir(), []

    def rows(dataset: str, size: object) -> Iterator[object]:
        during.append(tempfile.gettempdir())
        if fails:
            raise KeyboardInterrupt
        return iter(())

    monkeypatch.setattr(benchmark, "training_rows", rows)
    try:
        benchmark.main(["unused", str(tmp_path)])
    except KeyboardInterrupt:
        assert fails
    assert during[0] != before
    assert tempfile.gettempdir() == before
