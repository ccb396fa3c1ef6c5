"""The kernels against transformers' own models, on generated sizes; and the promises of the package."""

import os
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from int8_encoder import POOLINGS, PackedEncoder, Shape, packed_bytes, variants

VARIANTS = variants()
# Seven bits of an activation where the processor lacks VNNI.
MIN_COSINE = dict.fromkeys(VARIANTS, 0.99) | {"avx512": 0.97, "avx2": 0.97}
ACTIVATION_NAMES = {"gelu": "gelu", "gelu_tanh": "gelu_new", "relu": "relu"}
Tokens = npt.NDArray[np.int32]


def bert(shape: Shape, seed: int) -> Any:
    """transformers' BERT, or RoBERTa where a padding token takes no position, with weights that matter."""
    sizes = {
        "vocab_size": shape.vocabulary, "hidden_size": shape.hidden, "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads, "intermediate_size": shape.ffn, "layer_norm_eps": shape.norm_eps,
        "max_position_embeddings": shape.positions, "hidden_act": ACTIVATION_NAMES[shape.activation],
    }  # fmt: skip
    if shape.padding_id >= 0:
        config: Any = transformers.RobertaConfig(**sizes, pad_token_id=shape.padding_id, type_vocab_size=1)
        model: Any = transformers.RobertaModel(config, add_pooling_layer=False)
    else:
        model = transformers.BertModel(transformers.BertConfig(**sizes), add_pooling_layer=False)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            scale = 0.2 if parameter.ndim == 1 else 1.0 if "embeddings" in name else 1.2 * shape.hidden**-0.5
            parameter.copy_(scale * noise + ("LayerNorm.weight" in name))
    return model.eval()


def pack(model: Any, shape: Shape, variant: str | None = None, buffer: Any = None) -> PackedEncoder:
    encoder = PackedEncoder(shape, variant, buffer)
    tensors = {name: tensor.detach().numpy() for name, tensor in model.state_dict().items()}
    encoder.set_words(tensors["embeddings.word_embeddings.weight"])
    types = tensors["embeddings.token_type_embeddings.weight"]
    encoder.set_positions(tensors["embeddings.position_embeddings.weight"] + types[0])
    encoder.set_norm("embedding", *_pair(tensors, "embeddings.LayerNorm"))
    for i in range(shape.layers):
        layer = f"encoder.layer.{i}."
        encoder.set_matrix(i, "query", *_pair(tensors, layer + "attention.self.query"))
        encoder.set_matrix(i, "key", *_pair(tensors, layer + "attention.self.key"))
        encoder.set_matrix(i, "value", *_pair(tensors, layer + "attention.self.value"))
        encoder.set_matrix(i, "projection", *_pair(tensors, layer + "attention.output.dense"))
        encoder.set_matrix(i, "up", *_pair(tensors, layer + "intermediate.dense"))
        encoder.set_matrix(i, "down", *_pair(tensors, layer + "output.dense"))
        encoder.set_norm("attention", *_pair(tensors, layer + "attention.output.LayerNorm"), i)
        encoder.set_norm("ffn", *_pair(tensors, layer + "output.LayerNorm"), i)
    return encoder


def _pair(tensors: dict[str, Any], name: str) -> tuple[Any, Any]:
    return tensors[name + ".weight"], tensors[name + ".bias"]


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    heads, head = draw(st.integers(1, 4)), draw(st.sampled_from([4, 8, 16, 17, 32, 33, 64]))
    padding = draw(st.sampled_from([-1, 1]))
    return Shape(
        hidden=heads * head,
        heads=heads,
        layers=draw(st.integers(1, 3)),
        ffn=draw(st.integers(1, 40)) * 7,
        vocabulary=60,
        positions=draw(st.integers(20, 90)),
        first_position=padding + 1,
        padding_id=padding,
        activation=draw(st.sampled_from(sorted(ACTIVATION_NAMES))),
        norm_eps=1e-5,
    )


def texts_of(shape: Shape, lengths: list[int], seed: int) -> list[Tokens]:
    draw, most = np.random.default_rng(seed), shape.positions - shape.first_position
    return [draw.integers(2, shape.vocabulary, min(n, most), dtype=np.int32) for n in lengths]


def reference_states(model: Any, text: Tokens) -> npt.NDArray[np.float32]:
    with torch.no_grad():
        states: npt.NDArray[np.float32] = model(torch.from_numpy(text.astype(np.int64))[None])[0][0].numpy()
    return states


POOLED: dict[str, Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]] = {
    "mean": lambda x: x.mean(0),
    "cls": lambda x: x[0],
    "lasttoken": lambda x: x[-1],
    "max": lambda x: x.max(0),
    "mean_sqrt_len_tokens": lambda x: x.sum(0) / np.sqrt(len(x)),
}


def cosine(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> float:
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


@pytest.mark.parametrize("variant", VARIANTS)
@settings(max_examples=12)
@given(shapes(), st.lists(st.integers(1, 90), min_size=1, max_size=5), st.integers(0, 2**31))
def test_it_agrees_with_transformers_at_any_size(variant: str, shape: Shape, lengths: list[int], seed: int) -> None:
    model, texts = bert(shape, seed), texts_of(shape, lengths, seed)
    encoder = pack(model, shape, variant)
    wanted = [reference_states(model, text) for text in texts]
    states = np.split(encoder.forward(texts), np.cumsum([len(t) for t in texts])[:-1])
    if shape.hidden >= 32:  # a norm over a few numbers tells little
        assert min(cosine(a.ravel(), b.ravel()) for a, b in zip(states, wanted, strict=True)) > MIN_COSINE[variant]
    for pooling, pooled in POOLED.items():
        got = encoder.forward(texts, pooling)
        for row, own in zip(got, states, strict=True):
            np.testing.assert_allclose(row, pooled(own), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
@settings(max_examples=12)
@given(shapes(), st.lists(st.integers(1, 90), min_size=2, max_size=30), st.sampled_from(POOLINGS))
def test_a_text_has_the_same_bits_alone_and_in_any_batch(
    variant: str, shape: Shape, lengths: list[int], pooling: str
) -> None:
    encoder = pack(bert(shape, 1), shape, variant)
    texts = texts_of(shape, lengths, 2)
    together = encoder.forward(texts, pooling)
    assert np.array_equal(together, np.concatenate([encoder.forward([text], pooling) for text in texts]))
    turned = encoder.forward(texts[::-1], "mean")
    assert np.array_equal(turned[::-1], encoder.forward(texts, "mean"))


SHAPE = Shape(64, 2, 2, 128, 60, 700)


@pytest.fixture(scope="module")
def model() -> Any:
    return bert(SHAPE, 3)


def test_more_tokens_than_a_piece_give_each_text_its_own_answer(model: Any) -> None:
    """Large calls are computed in pieces of some 512 tokens; a longer text is a piece of its own."""
    encoder = pack(model, SHAPE)
    texts = texts_of(SHAPE, [700, 3, 300, 300, 1, 650, 20], 4)
    for pooling in POOLINGS:
        alone = np.concatenate([encoder.forward([text], pooling) for text in texts])
        assert np.array_equal(encoder.forward(texts, pooling), alone)


def test_a_padding_token_spelled_out_takes_no_position() -> None:
    shape = Shape(64, 2, 1, 128, 60, 40, first_position=2, padding_id=1, norm_eps=1e-5)
    roberta = bert(shape, 5)
    text = np.array([0, 7, 1, 9, 1, 1, 30, 2], np.int32)
    with torch.no_grad():
        wanted = roberta(torch.from_numpy(text.astype(np.int64))[None])[0][0].numpy()
    got = pack(roberta, shape).forward([text])
    assert min(cosine(a, b) for a, b in zip(got, wanted, strict=True)) > 0.98


def test_word_tables_serve_as_they_are_stored(model: Any) -> None:
    encoder, texts = pack(model, SHAPE), texts_of(SHAPE, [9, 4], 6)
    table = model.state_dict()["embeddings.word_embeddings.weight"]
    for stored in (torch.float16, torch.bfloat16):
        rounded = table.to(stored)
        encoder.set_words(rounded.float().numpy())
        wanted = encoder.forward(texts)
        if stored is torch.bfloat16:
            encoder.set_words(rounded.view(torch.uint16).numpy(), bfloat16=True)
        else:
            encoder.set_words(rounded.numpy())
        assert np.array_equal(encoder.forward(texts), wanted)


def test_threads_and_forked_processes_share_one_model(model: Any) -> None:
    encoder, texts = pack(model, SHAPE), texts_of(SHAPE, [200, 5, 60], 7)
    wanted = encoder.forward(texts)
    answers: list[bool] = []
    threads = [
        threading.Thread(target=lambda: answers.append(np.array_equal(encoder.forward(texts), wanted)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [True] * 4
    pid = os.fork()
    if pid == 0:  # the child: nothing of pytest may run in it
        os._exit(0 if np.array_equal(encoder.forward(texts), wanted) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_model_lies_in_the_memory_that_it_was_given(model: Any) -> None:
    place = np.zeros(packed_bytes(SHAPE) + 64, np.uint8)
    aligned = place[-place.ctypes.data % 64 :][: packed_bytes(SHAPE)]
    encoder, texts = pack(model, SHAPE, buffer=aligned.data), texts_of(SHAPE, [9], 8)
    assert aligned.any()
    assert np.array_equal(encoder.forward(texts), pack(model, SHAPE).forward(texts))
    with pytest.raises(ValueError, match="too small"):
        PackedEncoder(SHAPE, buffer=aligned.data[:-64])


@pytest.mark.parametrize(
    ("text", "pooling", "message"),
    [
        ([], "mean", "no tokens"),
        ([1] * 701, "mean", "more than the model has positions"),
        ([1, 60], "mean", "outside of the vocabulary"),
        ([1, -1], "mean", "outside of the vocabulary"),
        ([1, 2], "median", "unknown pooling 'median'"),
    ],
)
def test_bad_texts_are_refused_in_words(model: Any, text: list[int], pooling: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pack(model, SHAPE).forward([np.array(text, np.int32), np.array([3], np.int32)], pooling)


def test_bad_models_are_refused_in_words(model: Any) -> None:
    encoder = pack(model, SHAPE)
    square, bias = np.ones((64, 64), np.float32), np.ones(64, np.float32)
    with pytest.raises(ValueError, match="NaN or infinite"):
        encoder.set_matrix(0, "query", square * np.nan, bias)
    with pytest.raises(ValueError, match="no such tensor"):
        encoder.set_matrix(2, "query", square, bias)
    with pytest.raises(ValueError, match="no such tensor"):
        encoder.set_matrix(0, "up", square, bias)
    with pytest.raises(ValueError, match="word table"):
        encoder.set_words(np.zeros((60, 63), np.float32))
    with pytest.raises(ValueError, match="impossible sizes"):
        PackedEncoder(Shape(64, 3, 1, 8, 8, 8))
    with pytest.raises(ValueError, match="can't run that variant"):
        PackedEncoder(SHAPE, "avx1024")
    with pytest.raises(ValueError, match="activation 'swish'"):
        PackedEncoder(Shape(64, 2, 1, 8, 8, 8, activation="swish"))
    assert encoder.forward([], "mean").shape == (0, 64)
    with pytest.raises(ValueError, match="no word table"):
        PackedEncoder(SHAPE).forward([np.array([1], np.int32)])
