#!/bin/sh
# Goes from a fresh clone to a trained classifier: creates .venv, installs kr-text, trains, classifies a sentence.
set -eu
cd "$(dirname "$0")/.."
"${PYTHON:-python3}" -m venv .venv
.venv/bin/pip install --quiet --disable-pip-version-check -c scripts/constraints.txt -e .
.venv/bin/kr-text train --output_dir runs/quickstart --overwrite
.venv/bin/kr-text predict runs/quickstart "The central bank raised its rates again, as inflation grew"
