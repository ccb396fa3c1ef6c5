"""Vectors of tokens, as transformers' pipeline extracts features."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.catalogue.building import Build, change, encoder, then
from tests.catalogue.kind import Kind
from tests.catalogue.kinds_encoders import FAMILIES


def features(folder: Path, inputs: Sequence[Any], parameters: Mapping[str, Any]) -> list[Any]:
    import transformers

    where = folder if (folder / "config.json").exists() else folder / "transformer"
    pipe = transformers.pipeline("feature-extraction", str(where), device="cpu", dtype="float32")
    return [pipe(text, truncation=True)[0] for text in inputs]


def _kind(name: str, build: Build) -> Kind:
    return Kind(f"features, {name}", build, features, task="feature-extraction")


_NAMES = (
    *("bert", "roberta", "xlm-roberta", "camembert", "distilbert", "mpnet", "albert", "electra", "deberta-v2"),
    *("modernbert", "bert, saved with its MLM head"),
)
FEATURES = [
    *(_kind(name, FAMILIES[name]) for name in _NAMES),
    _kind("of a classifier's encoder", encoder("bert", model_class="AutoModelForSequenceClassification")),
    Kind(
        "features, code of its own",
        then(FAMILIES["bert"], change("config.json", auto_map={"AutoModel": "modeling_x.XModel"})),
        task="feature-extraction",
        refused="auto_map",
    ),
]
