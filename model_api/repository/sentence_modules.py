"""What a sentence-transformers model is, by its own configuration: every key that its loading code reads is read here,
and what isn't served is refused by name, since leaving a part out changes every answer.

Stdlib only, Python 3.9: the publisher's far side runs it too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from model_api.errors import Refused
from model_api.repository.manifest import check_path
from model_api.repository.safetensors_header import Incomplete

ReadJson = Callable[[str], Any]

MODULES_FILE, SETTINGS_FILE = "modules.json", "config_sentence_transformers.json"
SIMILARITIES = ("cosine", "dot", "euclidean", "manhattan")
# Names of a pooling -> the flag that releases before 6 wrote, in the order in which several are joined.
_POOLING_FLAGS = {
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
    "mean": "pooling_mode_mean_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}
POOLINGS = tuple(_POOLING_FLAGS)
_TRANSFORMER_CONFIGS = tuple(
    f"sentence_{name}_config.json"
    for name in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
_SERVED_MODULES = "Transformer, StaticEmbedding, Pooling, Dense, LayerNorm, Normalize, Dropout"
# Classes of torch.nn that need no argument, as sentence-transformers makes them.
ACTIVATIONS = frozenset(
    {"Identity", "Tanh", "ReLU", "ReLU6", "GELU", "SiLU", "Sigmoid", "LogSigmoid", "ELU", "SELU", "CELU", "LeakyReLU"}
    | {"Mish", "Softplus", "Softsign", "Softshrink", "Hardtanh", "Hardswish", "Hardsigmoid", "Tanhshrink"}
)
_TEXT_TASKS = {"feature-extraction": "last_hidden_state", "sequence-classification": "logits"}
# What loads weights quicker or elsewhere, and changes no answer in float32.
_HARMLESS = frozenset(
    {"attn_implementation", "torch_dtype", "dtype", "low_cpu_mem_usage", "use_safetensors", "add_pooling_layer"}
    | {"revision", "cache_dir", "local_files_only", "token", "use_auth_token", "subfolder", "trust_remote_code"}
    | {"use_cache", "output_attentions", "use_fast", "device_map", "use_memory_efficient_attention", "unpad_inputs"}
)


@dataclass(frozen=True)
class Layer:
    """A module after the pooling; `folder` holds its config and weights. `kind`: Dense, LayerNorm or Normalize."""

    kind: str
    folder: str
    config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SentenceModules:
    """`transformer` is the folder of the first module, "" for the top; `static` says that it is a StaticEmbedding, no
    more than a table. `poolings` are joined in that order; none: it has no Pooling module. `layers` follow the
    pooling; `normalize` says that a Normalize ends them, which isn't among them. `files` are what a load reads of it.
    `max_tokens` and `lowercase` are of the transformer's own file. `prompts` has an entry for each name that a caller
    may give; `dimensions` cuts vectors."""

    files: tuple[str, ...]
    transformer: str = ""
    static: bool = False
    classifies: bool = False
    poolings: tuple[str, ...] = ()
    pools_prompt: bool = True
    layers: tuple[Layer, ...] = ()
    normalize: bool = False
    max_tokens: int | None = None
    lowercase: bool = False
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str = ""
    similarity: str = "cosine"
    dimensions: int | None = None


def transformer_folder(paths: Collection[str], read_json: ReadJson) -> str:
    """Where config.json, weights and tokenizer lie: "" but for the few models that keep them in a sub-folder. Asks for
    nothing else, so that what is wrong elsewhere is told elsewhere."""
    modules = read_json(MODULES_FILE) if MODULES_FILE in paths else None
    first = modules[0] if isinstance(modules, list) and modules else None
    folder = first.get("path") if isinstance(first, dict) else None
    return folder if isinstance(folder, str) and folder and check_path(folder) else ""


def model_kind(paths: Collection[str], read_json: ReadJson) -> str:
    """Which class of sentence-transformers saved it: SentenceTransformer, CrossEncoder, SparseEncoder, ...; "" where
    no file of it says so."""
    settings = read_json(SETTINGS_FILE) if SETTINGS_FILE in paths else None
    told = settings.get("model_type") if isinstance(settings, dict) else None
    return str(told) if told else ("SentenceTransformer" if MODULES_FILE in paths else "")


def read_modules(paths: Collection[str], read_json: ReadJson) -> SentenceModules | None:
    """What modules.json declares, with all that lies beside it; None for a bare transformer. Raises Refused for what
    isn't served, Incomplete for a module whose files aren't there."""
    if MODULES_FILE not in paths:
        return None
    modules = read_json(MODULES_FILE)
    if not isinstance(modules, list) or not modules or not all(_is_module(m) for m in modules):
        raise Refused(MODULES_FILE, "not a list of modules with a path and a type")
    kinds = [_kind(module["type"]) for module in modules]
    if kinds[0] not in ("Transformer", "StaticEmbedding"):
        raise Refused(MODULES_FILE, f"it begins with {kinds[0]}; served are {_SERVED_MODULES}")
    reading = _Reading(paths, read_json, [MODULES_FILE])
    found = reading.settings()
    found.update(reading.first(kinds[0], modules[0]["path"]))
    layers: list[Layer] = []
    for kind, module in list(zip(kinds, modules))[1:]:
        if kind == "Pooling":
            if "poolings" in found or layers:
                raise Refused(MODULES_FILE, "a Pooling module that isn't the second one is not served")
            found.update(reading.pooling(module["path"]))
        elif kind in ("Dense", "LayerNorm"):
            layers.append(reading.layer(kind, module["path"]))
        elif kind in ("Normalize", "Dropout"):  # the latter does nothing but in training
            reading.files += [path for path in (join(module["path"], "config.json"),) if path in paths]
            layers += [Layer(kind, "")] if kind == "Normalize" else []
        else:
            raise Refused(MODULES_FILE, f"its module {kind} is not served; served are {_SERVED_MODULES}")
    normalize = bool(layers) and layers[-1].kind == "Normalize"
    while layers and layers[-1].kind == "Normalize":
        layers.pop()
    return SentenceModules(tuple(reading.files), layers=tuple(layers), normalize=normalize, **found)


def _is_module(module: Any) -> bool:
    return isinstance(module, dict) and isinstance(module.get("path"), str) and isinstance(module.get("type"), str)


def _kind(dotted: str) -> str:
    """The class of a module. Raises Refused for one that isn't sentence-transformers' own."""
    if not dotted.startswith("sentence_transformers."):
        raise Refused(MODULES_FILE, f"its module {dotted} is code of the model's own, which is never run")
    return dotted.rsplit(".", 1)[-1]


@dataclass
class _Reading:
    """Reads the parts, and remembers the files."""

    paths: Collection[str]
    read_json: ReadJson
    files: list[str]

    def settings(self) -> dict[str, Any]:
        """Of the file that speaks of the model as a whole: prompts, similarity, dimensions."""
        if SETTINGS_FILE not in self.paths:
            return {"prompts": {"query": "", "document": ""}}
        self.files.append(SETTINGS_FILE)
        settings = self._object(SETTINGS_FILE)
        prompts = settings.get("prompts") or {}
        if not isinstance(prompts, dict) or not all(v is None or isinstance(v, str) for v in prompts.values()):
            raise Refused(SETTINGS_FILE, "its prompts aren't texts by name")
        prompts = {"query": "", "document": "", **{name: text or "" for name, text in prompts.items()}}
        default = settings.get("default_prompt_name")
        if default is not None and default not in prompts:
            raise Refused(SETTINGS_FILE, f"its default_prompt_name {default!r} is none of {', '.join(sorted(prompts))}")
        similarity = settings.get("similarity_fn_name") or SIMILARITIES[0]
        if similarity not in SIMILARITIES:
            raise Refused(SETTINGS_FILE, f"similarity_fn_name {similarity!r} is none of {', '.join(SIMILARITIES)}")
        dimensions = settings.get("truncate_dim")
        if dimensions is not None and not _is_count(dimensions):
            raise Refused(SETTINGS_FILE, f"truncate_dim is {dimensions!r}, not a positive number")
        return {
            "prompts": prompts,
            "default_prompt": prompts[default] if default is not None else "",
            "similarity": similarity,
            "dimensions": dimensions,
        }

    def first(self, kind: str, folder: str) -> dict[str, Any]:
        if folder and not any(path.startswith(f"{check_path(folder)}/") for path in self.paths):
            raise Incomplete(join(folder, "config.json"), f"missing; {MODULES_FILE} lists this module")
        found: dict[str, Any] = {"transformer": folder, "static": kind != "Transformer"}
        if found["static"]:
            return found
        path = next((p for p in (join(folder, name) for name in _TRANSFORMER_CONFIGS) if p in self.paths), None)
        if path is None:
            return found
        self.files.append(path)
        config = self._object(path)
        _check_transformer(config, path)
        limit = config.get("max_seq_length")
        limit = _given(config, "tokenizer_args", "processor_kwargs").get("model_max_length", limit)
        if limit is not None and not _is_count(limit):
            raise Refused(path, f"max_seq_length is {limit!r}, not a positive number")
        classifies = config.get("transformer_task") == "sequence-classification"
        lowercase = bool(config.get("do_lower_case"))
        return {**found, "max_tokens": limit, "lowercase": lowercase, "classifies": classifies}

    def pooling(self, folder: str) -> dict[str, Any]:
        path = self._config(folder)
        config = self._object(path)
        modes = config.get("pooling_mode")
        if modes is None:
            modes = [mode for mode, flag in _POOLING_FLAGS.items() if config.get(flag)] or ["mean"]
        modes = modes if isinstance(modes, list) else [modes]
        strange = [mode for mode in modes if mode not in POOLINGS]
        if strange or not modes:
            raise Refused(path, f"its poolings {modes} are not all of {', '.join(POOLINGS)}")
        return {"poolings": tuple(modes), "pools_prompt": bool(config.get("include_prompt", True))}

    def layer(self, kind: str, folder: str) -> Layer:
        path = self._config(folder)
        config = self._object(path)
        weights = join(folder, "model.safetensors")
        if weights not in self.paths:
            raise Incomplete(weights, f"missing; {MODULES_FILE} lists this module")
        self.files.append(weights)
        if kind == "Dense":
            _check_dense(config, path)
        return Layer(kind, folder, config)

    def _config(self, folder: str) -> str:
        path = join(folder, "config.json")
        if path not in self.paths:
            raise Incomplete(path, f"missing; {MODULES_FILE} lists this module")
        self.files.append(path)
        return path

    def _object(self, path: str) -> Mapping[str, Any]:
        document = self.read_json(path)
        if not isinstance(document, dict):
            raise Refused(path, "not a JSON object")
        return document


def join(folder: str, name: str) -> str:
    """`name` in `folder`, "" for the top."""
    return f"{check_path(folder)}/{name}" if folder else name


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _given(config: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    """The first of the objects of that name, which releases have called differently."""
    return next((config[name] for name in names if isinstance(config.get(name), dict)), {})


def _check_transformer(config: Mapping[str, Any], path: str) -> None:
    """Raises Refused for a setting that would make other vectors than are computed here."""
    task = config.get("transformer_task", "feature-extraction")
    if task not in _TEXT_TASKS:
        raise Refused(path, f"transformer_task {task!r} is not served; served are {', '.join(_TEXT_TASKS)}")
    how = config.get("modality_config")
    if how is not None and how != {"text": {"method": "forward", "method_output_name": _TEXT_TASKS[task]}}:
        raise Refused(path, f"modality_config is not served but for text by forward's {_TEXT_TASKS[task]}")
    for names in (("model_args", "model_kwargs"), ("config_args", "config_kwargs")):
        strange = sorted(_given(config, *names).keys() - _HARMLESS)
        if strange:
            raise Refused(path, f"{names[0]} with {strange[0]!r} is not served; save the model with that set")
    strange = sorted(_given(config, "tokenizer_args", "processor_kwargs").keys() - _HARMLESS - {"model_max_length"})
    if strange:
        raise Refused(path, f"tokenizer_args with {strange[0]!r} is not served; save the tokenizer with that set")
    for name in ("processing_kwargs", "query_length", "document_length", "query_expansion", "tokenizer_name_or_path"):
        if config.get(name):
            raise Refused(path, f"{name} is not served")


def _check_dense(config: Mapping[str, Any], path: str) -> None:
    for name in ("in_features", "out_features"):
        if not _is_count(config.get(name)):
            raise Refused(path, f"{name} is {config.get(name)!r}, not a positive number")
    activation = config.get("activation_function", "torch.nn.Tanh")
    known = isinstance(activation, str) and activation.startswith("torch.nn.")
    if not known or activation.rsplit(".", 1)[-1] not in ACTIVATIONS:
        raise Refused(
            path, f"activation_function {activation!r} is none of torch.nn's {', '.join(sorted(ACTIVATIONS))}"
        )
    for name in ("module_input_name", "module_output_name"):
        if config.get(name) not in (None, "sentence_embedding"):
            raise Refused(path, f"{name} {config[name]!r} is not served: only a Dense on the sentence's vector is")
