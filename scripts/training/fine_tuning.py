"""Fine-tune a BERT-family encoder with a classification head, and save it as a plain Hugging Face folder."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.training.dataset import LABELS, Example


@dataclass(frozen=True)
class Recipe:
    """What decides the result, beside the base weights and the examples."""

    epochs: int = 4
    batch_size: int = 16
    learning_rate: float = 2e-4
    head_learning_rate: float = 1e-3
    trained_layers: int = 3  # of the encoder, counted from the top; embeddings and the rest stay as they are
    warmup_fraction: float = 0.1
    weight_decay: float = 0.01
    max_tokens: int = 64
    seed: int = 7
    threads: int = 2


def fine_tune(
    base: Path,
    train: Sequence[Example],
    test: Sequence[Example],
    out: Path,
    recipe: Recipe,
    report: Callable[[str], None],
) -> dict[str, float]:
    """Train, save to `out` (weights, config with label names, tokenizer), and return the held-out metrics."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    torch.manual_seed(recipe.seed)
    torch.set_num_threads(recipe.threads)
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForSequenceClassification.from_pretrained(
        base,
        num_labels=len(LABELS),
        id2label=dict(enumerate(LABELS)),
        label2id={label: i for i, label in enumerate(LABELS)},
        problem_type="single_label_classification",
    )
    model.train()
    optimizer = torch.optim.AdamW(_groups(model, recipe), weight_decay=recipe.weight_decay)
    batches_per_epoch = -(-len(train) // recipe.batch_size)
    n_steps = recipe.epochs * batches_per_epoch
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min((step + 1) / max(1, recipe.warmup_fraction * n_steps), (n_steps - step) / n_steps),
    )
    shuffle = random.Random(recipe.seed)  # noqa: S311 - an order of examples, no secret
    for epoch in range(recipe.epochs):
        losses = []
        for batch in _batches(train, recipe.batch_size, shuffle):
            encoded = _encode(tokenizer, [e.text for e in batch], recipe)
            output = model(**encoded, labels=torch.tensor([e.label for e in batch]))
            output.loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            losses.append(output.loss.item())
        report(f"epoch {epoch + 1} of {recipe.epochs}: loss {sum(losses) / len(losses):.4f}")
    model.eval()
    metrics = {
        "train_accuracy": _accuracy(model, tokenizer, train, recipe),
        "test_accuracy": _accuracy(model, tokenizer, test, recipe),
    }
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    return metrics


def predicted_scores(folder: Path, texts: Sequence[str]) -> list[list[float]]:
    """Softmax scores of a saved folder, one list in the labels' order per text; each text alone, in float32."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        return [torch.softmax(model(**tokenizer(text, return_tensors="pt")).logits[0], 0).tolist() for text in texts]


def _groups(model: Any, recipe: Recipe) -> list[dict[str, Any]]:
    """Freeze what the recipe leaves alone; the head, which starts from nothing, learns faster than the layers."""
    for parameter in model.base_model.parameters():
        parameter.requires_grad_(False)
    top = list(model.base_model.encoder.layer[-recipe.trained_layers :]) if recipe.trained_layers else []
    layers = [parameter for layer in top for parameter in layer.parameters()]
    head = list(model.classifier.parameters())
    if getattr(model.base_model, "pooler", None) is not None:
        head += list(model.base_model.pooler.parameters())
    for parameter in layers + head:
        parameter.requires_grad_(True)
    return [{"params": layers, "lr": recipe.learning_rate}, {"params": head, "lr": recipe.head_learning_rate}]


def _batches(examples: Sequence[Example], size: int, shuffle: random.Random) -> Iterator[list[Example]]:
    order = list(examples)
    shuffle.shuffle(order)
    for start in range(0, len(order), size):
        yield order[start : start + size]


def _encode(tokenizer: Any, texts: Sequence[str], recipe: Recipe) -> Any:
    return tokenizer(list(texts), padding=True, truncation=True, max_length=recipe.max_tokens, return_tensors="pt")


def _accuracy(model: Any, tokenizer: Any, examples: Sequence[Example], recipe: Recipe) -> float:
    import torch

    n_right = 0
    with torch.inference_mode():
        for start in range(0, len(examples), 64):
            batch = examples[start : start + 64]
            chosen = model(**_encode(tokenizer, [e.text for e in batch], recipe)).logits.argmax(-1).tolist()
            n_right += sum(label == e.label for label, e in zip(chosen, batch, strict=True))
    return n_right / len(examples)
