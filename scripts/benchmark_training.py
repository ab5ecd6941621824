"""Comparisons of the loss, of training steps and of training loops, for benchmark.py."""

import tempfile
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, cast

import fasttext
import torch
import torch.nn.functional as F
from benchmark_peers import PEERS
from benchmark_timing import Row, Size, in_turn, ratios, seconds
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode
from transformers import PrinterCallback, set_seed

from kr_text import KRLoss
from kr_text.data.sources import load
from kr_text.text.batches import Batches, batches_for, whole_batch
from kr_text.text.encoding import encode
from kr_text.training.arguments import parse_training
from kr_text.training.batches_trainer import ClassifierTrainer
from kr_text.training.build import build, make_optimizer
from kr_text.training.recipes import benchmark_recipe_name

MODELS = ("fasttext", "textrnn", "transformer", "charcnn")
NO_CHECKPOINTS = ("--eval_strategy", "no", "--save_strategy", "no", "--load_best_model_at_end", "no")


def training_rows(dataset: str, size: Size) -> Iterator[Row]:
    """Runs every comparison of training."""
    yield from loss_rows(size)
    for name in MODELS:
        bench = Bench(name, dataset, size.rows)
        yield from refinement_rows(bench, size)
        if name == "fasttext":
            yield from trainer_rows(bench, size)
            yield from fasttext_rows(bench, size)
        else:
            yield from peer_rows(bench, size)


def loss_rows(size: Size) -> Iterator[Row]:
    """Compares the loss alone with cross-entropy."""
    for (num_rows, num_labels), reach in {(128, 4): 1.5, (1024, 10): 2.0, (4096, 100): 3.0, (128, 1000): 3.0}.items():
        logits = torch.randn(num_rows, num_labels, requires_grad=True)
        labels = torch.randint(num_labels, (num_rows,))
        criterion = KRLoss(num_labels, label_smoothing=0.1)
        cross_entropy = partial(F.cross_entropy, label_smoothing=0.1)
        torch.testing.assert_close(criterion.parts(logits, labels).hard, cross_entropy(logits, labels))

        def step(
            loss: Callable[..., Tensor], logits: Tensor = logits, labels: Tensor = labels, criterion: KRLoss = criterion
        ) -> None:
            logits.grad = criterion.residual_matrix.grad = None
            loss(logits, labels).backward()

        calls = max(1, round(size.seconds / seconds(partial(step, criterion))))

        def steps(loss: Callable[..., Tensor], calls: int = calls, step: Callable[..., None] = step) -> None:
            for _ in range(calls):
                step(loss)

        timed = in_turn(partial(steps, criterion), partial(steps, cross_entropy), size.rounds)
        path, work = f"KRLoss, {num_rows} x {num_labels}", "forward and backward"
        yield Row(path, "F.cross_entropy, smoothed", work, reach, ratios(timed), "x", timed)


class Bench:
    """A data set and a model with its recipe; every training starts from the same weights."""

    def __init__(self, name: str, dataset: str, rows: int | None) -> None:
        self.name = name
        self.flags = ["--model", name, "--dataset", dataset, "--recipe", benchmark_recipe_name(dataset)]
        self.flags += ["--max_train_rows", str(rows)] if rows else []
        run, args = self.settings()
        self.data = load(dataset, max_train_rows=rows)
        set_seed(0)
        self.tokenizer, self.model = build(run, self.data)
        self.encoded = encode(self.data, self.tokenizer)
        self.batch_size = args.per_device_train_batch_size

    def settings(self, *flags: str) -> Any:
        """Parses flags as `kr-text train` does, and turns evaluation and checkpoints off."""
        folder = tempfile.mkdtemp(prefix="benchmark-")
        argv = [*self.flags, *NO_CHECKPOINTS, "--disable_tqdm", "yes", "--output_dir", folder, *flags]
        return parse_training(argv, "benchmark")

    def rows(self, split: str = "train") -> Batches:
        """The encoded rows of a split."""
        return batches_for(self.model, self.tokenizer, self.encoded[split].with_format("arrow")[:])

    def batches(self, count: int) -> list[dict[str, Tensor]]:
        """Up to `count` batches of the recipe's size, each of texts of similar length, in a fixed order."""
        lengths = torch.tensor(self.encoded["train"].with_format("numpy")["length"][:])
        order = lengths.argsort().split(self.batch_size)
        chosen = torch.randperm(len(order), generator=torch.Generator().manual_seed(0))[:count]
        rows = self.rows()
        return [rows.__getitems__(order[batch].tolist())[0] for batch in chosen.tolist()]

    def trainer(self, loss: str, *flags: str) -> ClassifierTrainer:
        """A trainer of a copy of the model."""
        model = deepcopy(self.model)
        _, args = self.settings(*flags)
        trainer = ClassifierTrainer(
            model=model,
            args=args,
            train_dataset=self.rows(),
            data_collator=whole_batch,
            processing_class=self.tokenizer,
            optimizers=(make_optimizer(model, args), None),
            loss=loss,
        )
        trainer.remove_callback(PrinterCallback)
        return trainer

    def train(self, loss: str, *flags: str) -> float:
        """Trains a copy of the model; returns the seconds of the Trainer's loop."""
        return float(self.trainer(loss, *flags).train().metrics["train_runtime"])


def refinement_rows(bench: Bench, size: Size) -> Iterator[Row]:
    """Compares training steps with KR-LS and with cross-entropy."""
    steps = ("--max_steps", str(size.steps))
    timed = in_turn(partial(bench.train, "kr-ls", *steps), partial(bench.train, "ce", *steps), size.rounds)
    yield Row(
        f"{bench.name}, KR-LS", "cross-entropy", f"{size.steps} steps of the Trainer", 1.01, ratios(timed), "x", timed
    )


def peer_rows(bench: Bench, size: Size) -> Iterator[Row]:
    """Compares training in the recipe's precision with PyTorch's layers in float32, and with the machine's peak."""
    make_peer, name = PEERS[bench.name]
    batches, ours = bench.batches(size.steps), deepcopy(bench.model)
    peer = make_peer(cast(Any, ours))
    with torch.no_grad():
        inputs = {name: column for name, column in batches[0].items() if name != "labels"}
        logits = ours.eval()(**inputs).logits
        torch.testing.assert_close(peer.eval()(**inputs), logits, rtol=0, atol=1e-4)
    _, args = bench.settings()

    def train(model: nn.Module, bf16: bool) -> None:
        model.train()
        optimizer = torch.optim.AdamW(model.parameters(), fused=True)
        for batch in batches:
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                output = model(**{name: column for name, column in batch.items() if name != "labels"})
            optimizer.zero_grad()
            logits = output if isinstance(output, Tensor) else output.logits
            F.cross_entropy(logits.float(), batch["labels"]).backward()
            optimizer.step()

    timed = in_turn(partial(train, ours, args.bf16), partial(train, peer, False), size.rounds)
    precision = "bf16" if args.bf16 else "float32"
    work = f"{size.steps} steps of {bench.batch_size} rows, ours in {precision}, logits in float32 equal to 1e-4"
    yield Row(f"{bench.name}, training", name, work, {"charcnn": 1 / 6}.get(bench.name, 0.5), ratios(timed), "x", timed)

    operations = sum(count_operations(ours, batch) for batch in batches)
    factors = [torch.randn(2048, 2048, dtype=torch.bfloat16 if args.bf16 else torch.float32) for _ in range(2)]
    products = max(1, round(operations / (2 * 2048**3)))

    def at_peak() -> None:
        for _ in range(products):
            torch.mm(*factors)

    timed = in_turn(partial(train, ours, args.bf16), at_peak, size.rounds)
    per_step = operations / size.steps / 1e9
    work = f"the {per_step:.1f} GFLOP of a step's products"
    share = {"charcnn": 0.6, "transformer": 0.45, "textrnn": 0.35}[bench.name]
    yield Row(
        f"{bench.name}, training", f"products of 2048 x 2048 in {precision}", work, 1 / share, ratios(timed), "x", timed
    )


def count_operations(model: nn.Module, batch: dict[str, Tensor]) -> float:
    """Counts the floating-point operations of a step's matrix products, except for attention."""

    def count_addmm(_: Any, a: torch.Size, b: torch.Size, **others: Any) -> int:
        return 2 * a[0] * a[1] * b[1]

    counter = FlopCounterMode(display=False, custom_mapping={torch.ops.aten.addmm_: count_addmm})
    with counter:
        model(**batch).loss.backward()
    cells = [module for module in model.modules() if isinstance(module, nn.RNNBase)]
    weights = sum(weight.numel() for cell in cells for weight in cell.parameters() if weight.dim() == 2)
    return counter.get_total_flops() + 6.0 * weights * batch["input_ids"].numel()  # the counter skips recurrent cells


def trainer_rows(bench: Bench, size: Size) -> Iterator[Row]:
    """Compares the Trainer with a bare loop, on steps of FastText with KR-LS."""
    count = 8 * size.steps
    flags = ("--max_steps", str(count), "--per_device_train_batch_size", "256")

    def bare() -> float:
        model = deepcopy(bench.model).train()
        _, args = bench.settings(*flags)
        optimizer = cast(torch.optim.Optimizer, make_optimizer(model, args))
        criterion = KRLoss(cast(int, bench.model.config.num_labels), label_smoothing=0.1)
        matrix_optimizer = torch.optim.Adam(criterion.parameters(), lr=1e-2)
        loader: Any = DataLoader(bench.rows(), 256, shuffle=True, collate_fn=whole_batch, drop_last=True)
        began = time.perf_counter()
        done = 0
        while done < count:
            for batch in islice(loader, count - done):
                labels = batch.pop("labels")
                criterion(model(**batch).logits, labels).backward()
                for each in (optimizer, matrix_optimizer):
                    each.step()
                    each.zero_grad()
                done += 1
        return time.perf_counter() - began

    timed = in_turn(partial(bench.train, "kr-ls", *flags), bare, size.rounds)
    extra = [1000 * (ours - theirs) / count for ours, theirs in timed]
    yield Row(
        "a step of the Trainer, less the model", "bare loop", f"{count} steps of FastText", 1.0, extra, "ms", timed
    )


def fasttext_rows(bench: Bench, size: Size) -> Iterator[Row]:
    """Compares FastText's training loop in the Trainer with the fastText library's, on the same tokens."""
    folder = Path(tempfile.mkdtemp(prefix="benchmark-"))
    for split in ("train", "test"):
        rows = bench.encoded[split]
        lines = (
            f"__label__{label} {' '.join(map(str, ids))}\n"
            for ids, label in zip(rows["input_ids"], rows["labels"], strict=True)
        )
        (folder / split).write_text("".join(lines))
    errors: dict[str, float] = {}
    num_epochs = int(bench.settings()[1].num_train_epochs)

    def ours() -> float:
        trainer = bench.trainer("kr-ls")
        took = float(trainer.train().metrics["train_runtime"])
        prediction = trainer.predict(cast(Any, bench.rows("test")))  # `label_ids` are in the same order
        wrong = cast(Any, prediction.predictions).argmax(1) != prediction.label_ids
        errors["kr-text"] = float(100 * wrong.mean())
        return took

    def theirs() -> float:
        took = []
        for epochs in (1, 9, num_epochs):  # the difference of the first two is 8 epochs without reading
            began = time.perf_counter()
            sizes = {"dim": 10, "wordNgrams": 2, "epoch": epochs, "thread": 2, "lr": 0.5, "bucket": 500_000}
            model = fasttext.train_supervised(str(folder / "train"), verbose=0, **sizes)
            took.append(time.perf_counter() - began)
        errors["fastText"] = 100 * (1 - model.test(str(folder / "test"))[1])
        return (took[1] - took[0]) * num_epochs / 8

    timed = in_turn(ours, theirs, size.rounds)
    found = ", ".join(f"{name} {error:.2f}%" for name, error in errors.items())
    work = f"{num_epochs} epochs, dim 10, bigrams; errors {found}"
    yield Row("fasttext, training loop of the Trainer", "fastText, 2 threads", work, 1.0, ratios(timed), "x", timed)
