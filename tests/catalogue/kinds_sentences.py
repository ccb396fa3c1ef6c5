"""sentence-transformers' configuration: poolings, layers, prompts, places, releases."""

import shutil
from pathlib import Path
from typing import Any

from tests.catalogue.building import HIDDEN, Build, encoder, modules, save_tokenizer, then, without, write
from tests.catalogue.kind import Kind, sentences

BERT = encoder("bert")
PROMPTS = {"prompts": {"query": "query: ", "passage": "passage: ", "empty": ""}, "default_prompt_name": None}
DENSE = {
    "in_features": HIDDEN,
    "out_features": 16,
    "bias": True,
    "activation_function": "torch.nn.modules.activation.Tanh",
}
SAME = {**DENSE, "out_features": HIDDEN}
NORM = {"dimension": HIDDEN}
_POOLINGS = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")


def bert(*after: Any, **how: Any) -> Build:
    return then(BERT, modules(*after, **how))


def saved_by_release_6(*parts: str, **settings: Any) -> Build:
    """By the library itself."""

    def build(folder: Path) -> None:
        import sentence_transformers
        from sentence_transformers.sentence_transformer import modules as kinds

        inner = folder / "encoder"
        inner.mkdir()
        BERT(inner)
        transformer = kinds.Transformer(str(inner))
        more = {
            "Pooling": lambda: kinds.Pooling(HIDDEN, ("cls", "mean")),
            "Dense": lambda: kinds.Dense(2 * HIDDEN, 8),
            "Normalize": kinds.Normalize,
        }
        model = sentence_transformers.SentenceTransformer(
            modules=[transformer, *(more[part]() for part in parts)], device="cpu", **settings
        )
        model.save_pretrained(str(folder), create_model_card=False)
        shutil.rmtree(inner)

    return build


def static(*, normalize: bool = False, settings: Any = None, **tensors: Any) -> Build:
    def build(folder: Path) -> None:
        import torch
        from safetensors.torch import save_file

        n_ids = save_tokenizer(folder, "BertTokenizer")
        for name in ("tokenizer_config.json", "special_tokens_map.json"):
            (folder / name).unlink(missing_ok=True)
        table = torch.randn(n_ids, HIDDEN, generator=torch.Generator().manual_seed(3))
        save_file(
            {"embedding.weight": table} if not tensors else {"embeddings": table, **tensors},
            folder / "model.safetensors",
        )
        listed = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.StaticEmbedding"}]
        if normalize:
            listed.append(
                {"idx": 1, "name": "1", "path": "1_Normalize", "type": "sentence_transformers.models.Normalize"}
            )
        write("modules.json", listed)(folder)
        write("config.json", {"model_type": "model2vec", "architectures": ["StaticModel"]})(folder)
        write("config_sentence_transformers.json", {"prompts": {}, **(settings or {})})(folder)

    return build


SENTENCES = [
    *(Kind(f"pooling {mode}", bert(pooling=mode), sentences) for mode in _POOLINGS),
    Kind("poolings cls and mean", bert(pooling=["cls", "mean"]), sentences),
    Kind("poolings of all kinds", bert(pooling=list(_POOLINGS)), sentences),
    Kind(
        "poolings max and mean, then Dense",
        bert(("Dense", "2_Dense", {**DENSE, "in_features": 64}), pooling=["max", "mean"]),
        sentences,
    ),
    Kind(
        "pooling as a word",
        then(BERT, modules(), write("1_Pooling/config.json", {"embedding_dimension": 32, "pooling_mode": "cls"})),
        sentences,
    ),
    Kind(
        "pooling as a list",
        then(
            BERT, modules(), write("1_Pooling/config.json", {"embedding_dimension": 32, "pooling_mode": ["cls", "max"]})
        ),
        sentences,
    ),
    Kind("pooling with no flag", bert(pooling=[]), sentences),
    Kind("pooling elsewhere", bert(pooling_at="pool/a"), sentences),
    Kind(
        "pooling unknown",
        then(BERT, modules(), write("1_Pooling/config.json", {"pooling_mode": "median"})),
        refused="median",
    ),
    Kind("no pooling", bert(pooling=None), refused="no Pooling module"),
    Kind("pooling by a misspelt option", bert(pooling="cls"), refused="unknown option", options={"poolin": "mean"}),
    Kind("transformer in a sub-folder", bert(transformer_at="0_Transformer"), sentences),
    Kind(
        "transformer in a sub-folder, Dense, Normalize",
        bert(("Dense", "2_Dense", DENSE), ("Normalize", "3_Normalize", {}), transformer_at="0_BERT"),
        sentences,
    ),
    Kind("Normalize", bert(("Normalize", "2_Normalize", {})), sentences),
    Kind("Dropout", bert(("Dropout", "2_Dropout", {"dropout": 0.5})), sentences),
    Kind("LayerNorm", bert(("LayerNorm", "2_LayerNorm", NORM)), sentences),
    Kind("LayerNorm, Normalize", bert(("LayerNorm", "2_LayerNorm", NORM), ("Normalize", "3", {})), sentences),
    Kind("Dense (LaBSE)", bert(("Dense", "2_Dense", SAME), ("Normalize", "3_Normalize", {}), pooling="cls"), sentences),
    Kind("Dense, smaller (distiluse)", bert(("Dense", "2_Dense", DENSE)), sentences),
    Kind(
        "Dense without bias and activation (sentence-t5, gtr)",
        bert(
            ("Dense", "2_Dense", {**DENSE, "bias": False, "activation_function": "torch.nn.modules.linear.Identity"}),
            ("Normalize", "3_Normalize", {}),
        ),
        sentences,
    ),
    Kind(
        "two Dense (EmbeddingGemma)",
        bert(
            ("Dense", "2_Dense", {**DENSE, "out_features": 64}),
            ("Dense", "3_Dense", {**DENSE, "in_features": 64}),
            ("Normalize", "4_Normalize", {}),
        ),
        sentences,
    ),
    Kind("Dense by default", bert(("Dense", "2_Dense", {"in_features": HIDDEN, "out_features": 16})), sentences),
    Kind(
        "Dense with ReLU",
        bert(("Dense", "2_Dense", {**DENSE, "activation_function": "torch.nn.modules.activation.ReLU"})),
        sentences,
    ),
    Kind(
        "Dense with GELU",
        bert(("Dense", "2_Dense", {**DENSE, "activation_function": "torch.nn.modules.activation.GELU"})),
        sentences,
    ),
    Kind("Dense with a residual", bert(("Dense", "2_Dense", {**SAME, "use_residual": True})), sentences),
    Kind("Dense with a projected residual", bert(("Dense", "2_Dense", {**DENSE, "use_residual": True})), sentences),
    Kind(
        "Dense with an activation of its own",
        bert(("Dense", "2_Dense", {**DENSE, "activation_function": "mine.Wave"})),
        refused="activation_function",
    ),
    Kind(
        "Dense on the tokens",
        bert(("Dense", "2_Dense", {**DENSE, "module_input_name": "token_embeddings"})),
        refused="module_input_name",
    ),
    Kind(
        "Dense without weights",
        then(bert(("Dense", "2_Dense", DENSE)), without("2_Dense/model.safetensors")),
        refused="2_Dense/model.safetensors",
    ),
    Kind(
        "Dense of another size",
        then(bert(("Dense", "2_Dense", {**DENSE, "in_features": 48}))),
        refused="in_features is 48",
    ),
    Kind("Normalize before Dense", bert(("Normalize", "2_Normalize", {}), ("Dense", "3_Dense", DENSE)), sentences),
    Kind("Normalize twice", bert(("Normalize", "2", {}), ("Normalize", "3", {})), sentences),
    *(
        Kind(f"module {kind}", bert((kind, f"2_{kind}", {"x": 1})), refused=kind)
        for kind in ("WeightedLayerPooling", "CNN", "LSTM", "BoW", "WordEmbeddings", "SpladePooling", "Router")
    ),
    Kind(
        "a module of its own",
        then(
            BERT,
            modules(),
            write("modules.json", [{"idx": 0, "name": "0", "path": "", "type": "custom_st.Transformer"}]),
        ),
        refused="custom_st.Transformer",
    ),
    Kind(
        "a PyLate Dense (ColBERT)",
        then(
            BERT,
            modules(pooling=None),
            write(
                "modules.json",
                [
                    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
                    {"idx": 1, "name": "1", "path": "1_Dense", "type": "pylate.models.Dense.Dense"},
                ],
            ),
        ),
        refused="pylate",
    ),
    Kind(
        "do_lower_case",
        then(encoder("bert", how={"do_lower_case": False}), modules(own={"do_lower_case": True})),
        sentences,
    ),
    Kind(
        "max_seq_length above the tokenizer's",
        then(encoder("bert", how={"max_tokens": 20}), modules(own={"max_seq_length": 40})),
        sentences,
    ),
    Kind("max_seq_length below the tokenizer's", bert(own={"max_seq_length": 16}), sentences),
    Kind(
        "no max_seq_length",
        then(encoder("bert", how={"max_tokens": 20}), modules(own={"max_seq_length": None})),
        sentences,
    ),
    Kind(
        "no max_seq_length and no limit",
        then(encoder("bert", how={"max_tokens": 10**30}), modules(own={"max_seq_length": None})),
        sentences,
    ),
    Kind(
        "sentence_roberta_config.json",
        then(
            BERT,
            modules(),
            without("sentence_bert_config.json"),
            write("sentence_roberta_config.json", {"max_seq_length": 12, "do_lower_case": False}),
        ),
        sentences,
    ),
    Kind("a default prompt", bert(settings={**PROMPTS, "default_prompt_name": "query"}), sentences),
    Kind(
        "a default prompt, another named",
        bert(settings={**PROMPTS, "default_prompt_name": "query"}),
        sentences,
        parameters={"prompt_name": "passage"},
    ),
    Kind(
        "a default prompt, an empty one named",
        bert(settings={**PROMPTS, "default_prompt_name": "query"}),
        sentences,
        parameters={"prompt_name": "empty"},
    ),
    Kind(
        "a default prompt, another given",
        bert(settings={**PROMPTS, "default_prompt_name": "query"}),
        sentences,
        parameters={"prompt": "day: "},
    ),
    Kind(
        "a default prompt, none given",
        bert(settings={**PROMPTS, "default_prompt_name": "query"}),
        sentences,
        parameters={"prompt": ""},
    ),
    Kind("prompts without a default", bert(settings=PROMPTS), sentences),
    Kind(
        "prompts without a default, one named", bert(settings=PROMPTS), sentences, parameters={"prompt_name": "query"}
    ),
    Kind("a prompt named that every model has", bert(), sentences, parameters={"prompt_name": "document"}),
    Kind(
        "a default prompt that isn't there",
        bert(settings={**PROMPTS, "default_prompt_name": "qery"}),
        refused="default_prompt_name 'qery'",
    ),
    *(
        Kind(
            f"include_prompt false, {mode}",
            bert(pooling=mode, include_prompt=False, settings={**PROMPTS, "default_prompt_name": "query"}),
            sentences,
        )
        for mode in _POOLINGS
    ),
    Kind(
        "include_prompt false, a prompt given",
        bert(include_prompt=False, settings=PROMPTS),
        sentences,
        parameters={"prompt": "the train: "},
    ),
    Kind("dimensions as a parameter", bert(), sentences, parameters={"dimensions": 8}),
    Kind("dimensions, Normalize before", bert(("Normalize", "2", {})), sentences, parameters={"dimensions": 8}),
    Kind(
        "dimensions, normalised after",
        bert(("Normalize", "2", {})),
        sentences,
        parameters={"dimensions": 8, "normalize": True},
    ),
    Kind("truncate_dim", bert(settings={"truncate_dim": 12}), sentences),
    Kind(
        "truncate_dim, another as a parameter",
        bert(settings={"truncate_dim": 12}),
        sentences,
        parameters={"dimensions": 20},
    ),
    *(
        Kind(f"similarity {name}", bert(settings={"similarity_fn_name": name}), sentences)
        for name in ("dot", "euclidean")
    ),
    Kind("similarity of its own", bert(settings={"similarity_fn_name": "maxsim"}), refused="maxsim"),
    Kind("saved by release 6", saved_by_release_6("Pooling", "Dense", "Normalize"), sentences),
    Kind(
        "saved by release 6, with prompts",
        saved_by_release_6("Pooling", prompts={"query": "q: "}, default_prompt_name="query", truncate_dim=9),
        sentences,
    ),
    Kind("StaticEmbedding", static(), sentences),
    Kind("StaticEmbedding, Normalize (model2vec)", static(normalize=True), sentences),
    Kind(
        "StaticEmbedding with prompts",
        static(settings={"prompts": {"query": "day "}, "default_prompt_name": "query"}),
        sentences,
    ),
    Kind("model_args with another width", bert(own={"model_args": {"hidden_size": 64}}), refused="model_args"),
    Kind("model_args that change nothing", bert(own={"model_args": {"attn_implementation": "eager"}}), sentences),
    Kind("tokenizer_args", bert(own={"tokenizer_args": {"padding_side": "left"}}), refused="tokenizer_args"),
    *(
        Kind(f"a {kind}", bert(settings={"model_type": kind}), refused=kind)
        for kind in ("SparseEncoder", "MultiVectorEncoder")
    ),
    Kind("its modules.json is gone", then(bert(), without("modules.json")), refused="modules.json"),
]
