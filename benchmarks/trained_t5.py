"""A small T5 that has learnt to summarise: what int8 costs in accuracy shows on trained weights only.

The articles are made from templates: one sentence tells who did what where, and two to four others, some with names
of their own, don't matter. The summary tells the one sentence in other words. Everything follows from seeds.
"""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.environments import BUILD

STEPS, BATCH, LEARNING_RATE, WARMUP = 1500, 32, 1e-3, 100
SIZES = {"d_model": 128, "d_kv": 32, "d_ff": 512, "num_layers": 4, "num_heads": 4, "vocab_size": 500}
TRAINING_SEED, HELD_OUT_SEED = 1, 2
MAX_TOKENS = 256

_WORDS = dict(
    line.split(": ")
    for line in """\
first: Anna Bruno Carla David Elena Felix Greta Hugo Irene Jonas Karin Lukas Maria Nils Olga Pavel Rosa Simon
last: Abel Berger Costa Dahl Engel Fischer Gruber Hansen Jensen Keller Lang Moreau Novak Olsen Peters Rossi
place: Oslo Lyon Turin Porto Gdansk Bremen Malmo Graz Ghent Split Bergen Seville Dresden Basel Trieste Cork
role: mayor bishop governor architect treasurer librarian
thing: bridge library harbour theatre station museum school market tower garden stadium hospital
kind: old new little great stone wooden famous forgotten
day: Monday Tuesday Wednesday Thursday Friday Saturday Sunday
weather: rain snow fog wind sunshine hail""".splitlines()
)
_ACTS = {
    "cut the ribbon of": "opened",
    "shut the doors of": "closed",
    "put money into": "funded",
    "drew the plans of": "designed",
    "took apart": "demolished",
    "gave a new roof to": "repaired",
}


def pairs(seed: int, others: tuple[int, int] = (2, 4)) -> Iterator[tuple[str, str]]:
    """Articles with their summaries, without end; `others`: least and most sentences that don't matter."""
    choose = random.Random(seed)

    def a(name: str) -> str:
        return choose.choice(_WORDS[name].split())

    def beside_the_point() -> str:
        return choose.choice(
            (
                f"In {a('place')} there was {a('weather')} on {a('day')}.",
                f"{a('first')} {a('last')} wrote from {a('place')} that the {a('thing')} is {a('kind')}.",
                f"People talked about the {a('kind')} {a('thing')} until {a('day')}.",
                f"Nobody asked {a('first')} {a('last')} why.",
            )
        )

    while True:
        who, role, place, act = f"{a('first')} {a('last')}", a("role"), a("place"), choose.choice(list(_ACTS))
        thing, day = f"{a('kind')} {a('thing')}", a("day")
        sentences = [f"On {day} the {role} of {place}, {who}, {act} the {thing}."]
        sentences += [beside_the_point() for _ in range(choose.randint(*others))]
        choose.shuffle(sentences)
        yield " ".join(sentences), f"{who} {_ACTS[act]} the {thing} in {place} on {day}."


def model_folder() -> Path:
    """A Hugging Face folder with the trained model, made once, in minutes."""
    folder = BUILD / "t5-trained"
    if not (folder / "model.safetensors").exists():
        tokenizer = _save_tokenizer(folder)
        _train(tokenizer).save_pretrained(folder)
    return folder


def _save_tokenizer(folder: Path) -> Any:
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    texts = (text for _, pair in zip(range(4000), pairs(TRAINING_SEED), strict=False) for text in pair)
    special = ["<pad>", "</s>", "<unk>"]
    trainer = trainers.BpeTrainer(vocab_size=SIZES["vocab_size"], special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=MAX_TOKENS,
    )
    fast.save_pretrained(folder)
    return fast


def _train(tokenizer: Any) -> Any:
    import torch
    import transformers

    torch.manual_seed(TRAINING_SEED)
    config = transformers.T5Config(**(SIZES | {"vocab_size": len(tokenizer)}), decoder_start_token_id=0, dropout_rate=0)
    model = transformers.T5ForConditionalGeneration(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / WARMUP, max(0.02, 1 - step / STEPS))
    )
    source = pairs(TRAINING_SEED)
    for step in range(STEPS):
        articles, summaries = zip(*(next(source) for _ in range(BATCH)), strict=True)
        encoded = tokenizer(list(articles), padding=True, return_tensors="pt", return_token_type_ids=False)
        labels = tokenizer(list(summaries), padding=True, return_tensors="pt")["input_ids"]
        loss = model(**encoded, labels=labels.masked_fill(labels == 0, -100)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 100 == 99:
            print(f"trained_t5: step {step + 1} of {STEPS}, loss {loss.item():.4f}", flush=True)
    return model.eval()
