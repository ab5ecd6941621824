"""Small data sets on disk that the tests of `kr_text.data` share."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

CLASSES = ["World", "Sports", "Business"]


def write_zhang(
    folder: Path, rows: dict[str, list[str]], classes: list[str] | None = None, suffix: str = ".csv"
) -> Path:
    """Writes the lines of each split to a file, and the class names to classes.txt."""
    folder.mkdir(exist_ok=True)
    for split, lines in rows.items():
        text = "".join(f"{line}\n" for line in lines)
        (folder / f"{split}{suffix}").write_bytes(
            gzip.compress(text.encode()) if suffix == ".csv.gz" else text.encode()
        )
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in classes or CLASSES))
    return folder


def zhang_rows(num_rows: int, num_classes: int = 3) -> list[str]:
    return [f'"{index % num_classes + 1}","title {index}","text {index}"' for index in range(num_rows)]


def train_with(zhang: Path, row: int, line: str) -> None:
    """Replaces one of the 60 lines of train.csv."""
    lines = zhang_rows(60)
    lines[row - 1] = line
    (zhang / "train.csv").write_text("\n".join(lines) + "\n")


def header_rows(num_rows: int) -> list[dict[str, Any]]:
    return [{"id": i, "text": f"text {i}", "label": ["pos", "neg", "mixed"][i % 3]} for i in range(num_rows)]


def write_rows(file: Path, rows: list[dict[str, Any]]) -> Path:
    if file.suffix == ".parquet":
        pyarrow.parquet.write_table(pa.Table.from_pylist(rows), file)
        return file
    if ".json" in file.name:
        text = "".join(json.dumps(row) + "\n" for row in rows)
    else:
        separator = "\t" if ".tsv" in file.name else ","
        text = "\n".join(
            separator.join(map(str, row)) for row in [list(rows[0])] + [list(row.values()) for row in rows]
        )
    file.write_bytes(gzip.compress(text.encode()) if file.suffix == ".gz" else text.encode())
    return file
