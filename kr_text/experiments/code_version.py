"""The git commit that results are stored with."""

import subprocess
from pathlib import Path

CHANGED = "+changes"  # suffix of a commit that the code differs from


def commit_of_code() -> str | None:
    """The commit of this package's checkout, plus `CHANGED` if tracked code differs; None outside a checkout."""
    folder = Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists():
        return None
    try:
        commit = _git(folder, "rev-parse", "--short=12", "HEAD")
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no", "--", "kr_text", "models")
    except (OSError, subprocess.CalledProcessError):  # git is missing, or does not trust the folder
        return None
    return commit + CHANGED if changed else commit


def _git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()
