#!/bin/sh
# Creates the environment .venv-test and runs the tests in it: sh scripts/test.sh [pytest arguments]
# PYTHON is the interpreter. With KR_TEXT_DATA=FOLDER, a folder of data sets, the tests on real data run too.
set -eu
cd "$(dirname "$0")/.."
"${PYTHON:-python3}" -m venv .venv-test
.venv-test/bin/pip install --quiet --disable-pip-version-check -c scripts/constraints.txt -e '.[test]'
exec .venv-test/bin/python -m pytest "$@"
