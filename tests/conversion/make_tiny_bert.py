"""How tests/conversion/tiny_bert was made, by TensorFlow 2.21 itself: `python make_tiny_bert.py FOLDER`.

In an environment with tensorflow-cpu. Names and shapes are those of Google's BERT release; a variable's values follow
from its name.
"""

import json
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

HIDDEN, FFN, WORDS, POSITIONS, LAYERS = 16, 24, 40, 32, 2
CONFIG = {
    "attention_probs_dropout_prob": 0.1,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": HIDDEN,
    "initializer_range": 0.02,
    "intermediate_size": FFN,
    "max_position_embeddings": POSITIONS,
    "num_attention_heads": 2,
    "num_hidden_layers": LAYERS,
    "type_vocab_size": 2,
    "vocab_size": WORDS,
}


def shapes() -> dict[str, tuple[int, ...]]:
    """Variable -> shape, as google-research/bert names them."""

    def dense(name: str, n_in: int, n_out: int) -> dict[str, tuple[int, ...]]:
        return {f"{name}/kernel": (n_in, n_out), f"{name}/bias": (n_out,)}

    def norm(name: str) -> dict[str, tuple[int, ...]]:
        return {f"{name}/LayerNorm/gamma": (HIDDEN,), f"{name}/LayerNorm/beta": (HIDDEN,)}

    found: dict[str, tuple[int, ...]] = {
        "bert/embeddings/word_embeddings": (WORDS, HIDDEN),
        "bert/embeddings/position_embeddings": (POSITIONS, HIDDEN),
        "bert/embeddings/token_type_embeddings": (2, HIDDEN),
        **norm("bert/embeddings"),
    }
    for i in range(LAYERS):
        layer = f"bert/encoder/layer_{i}"
        for part in ("query", "key", "value"):
            found |= dense(f"{layer}/attention/self/{part}", HIDDEN, HIDDEN)
        found |= dense(f"{layer}/attention/output/dense", HIDDEN, HIDDEN) | norm(f"{layer}/attention/output")
        found |= dense(f"{layer}/intermediate/dense", HIDDEN, FFN)
        found |= dense(f"{layer}/output/dense", FFN, HIDDEN) | norm(f"{layer}/output")
    found |= dense("bert/pooler/dense", HIDDEN, HIDDEN)
    found |= dense("cls/predictions/transform/dense", HIDDEN, HIDDEN) | norm("cls/predictions/transform")
    found |= {"cls/predictions/output_bias": (WORDS,), "cls/seq_relationship/output_weights": (2, HIDDEN)}
    found |= {"cls/seq_relationship/output_bias": (2,), "bert/pooler/dense/bias/adam_m": (HIDDEN,), "global_step": ()}
    return found


def values(name: str, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    if name == "global_step":
        return np.array(1000, np.int64)
    noise = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape).astype(np.float32)
    return np.asarray(1 + noise / 5 if name.endswith("gamma") else noise / 4)


def main(folder: Path) -> None:
    import tensorflow.compat.v1 as tf

    tf.disable_eager_execution()
    for name, shape in shapes().items():
        tf.get_variable(name, initializer=values(name, shape))
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        tf.train.Saver().save(session, str(folder / "bert_model.ckpt"), write_state=False, write_meta_graph=False)
    (folder / "bert_config.json").write_text(json.dumps(CONFIG, indent=1) + "\n")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "The", "cat", "dog", "##s", "é"]
    words += [chr(ord("a") + i) for i in range(26)] + ["##a", "##e", "##o", "."]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
