"""Checks an installed kr-text from outside the checkout: every module is there, and a model can be saved and read."""

import tempfile
from importlib import import_module
from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification

import kr_text
from kr_text.models import MODELS
from kr_text.training.recipes import recipe

NEEDS_EXTRA = {"kr_text.experiments.search_space": "optuna"}  # modules that need a package of an extra

installed = Path(kr_text.__file__).parent
checkout = Path(__file__).parent.parent
if installed.is_relative_to(checkout / "kr_text"):
    raise SystemExit("the checkout was imported, not the wheel")
paths = [path.relative_to(checkout) for path in (checkout / "kr_text").rglob("*.py")]
modules = [".".join(path.with_suffix("").parts) for path in paths if path.stem != "__main__"]
modules += [f"kr_text.models.{path.stem}" for path in (checkout / "models").glob("*.py")]
for module in sorted(modules):
    try:
        import_module(module.removesuffix(".__init__"))
    except ModuleNotFoundError as error:
        if error.name != NEEDS_EXTRA.get(module):
            raise
for name in kr_text.__all__:
    getattr(kr_text, name)

with tempfile.TemporaryDirectory() as folder:
    for name, (config_class, model_class) in MODELS.items():
        model_class(config_class(**recipe(name, "").config)).save_pretrained(folder)
        model = AutoModelForSequenceClassification.from_pretrained(folder)
        model(input_ids=torch.tensor([[2, 3, 4]])).logits.sum().backward()
print(f"{len(modules)} modules imported and {len(MODELS)} models saved and loaded from {kr_text.__version__}'s wheel")
