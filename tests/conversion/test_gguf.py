"""scripts/convert of a GGUF file: the same model as was written into it, or a line that says why not."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from tests.needs import missing
from tests.rigs.project import ROOT
from tests.rigs.small_decoders import CHAT_TEMPLATE, save_small_decoder

NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "model.layers.": "blk.",
}


def convert(*arguments: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "scripts.conversion", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)


def interleaved(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """llama.cpp's order of the rows that positions turn."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def write_gguf(path: Path, model: transformers.LlamaForCausalLM, folder: Path) -> None:
    import gguf

    config = model.config
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    tokens = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().__getitem__)
    special = set(tokenizer.all_special_tokens)
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in special else 1 for token in tokens])
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_bos_token_id(config.bos_token_id)
    writer.add_eos_token_id(config.eos_token_id)
    writer.add_chat_template(CHAT_TEMPLATE)
    for name, tensor in model.state_dict().items():
        short = name
        for theirs, ours in NAMES.items():
            short = short.replace(theirs, ours)
        if ".attn_q." in short:
            tensor = interleaved(tensor, config.num_attention_heads)
        if ".attn_k." in short:
            tensor = interleaved(tensor, config.num_key_value_heads)
        writer.add_tensor(short, np.ascontiguousarray(tensor.float().numpy()))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_decoder_comes_out_as_it_went_in(tmp_path: Path) -> None:
    if importlib.util.find_spec("gguf") is None or importlib.util.find_spec("accelerate") is None:
        missing("requirements-gguf.txt is not installed")
    model = save_small_decoder(tmp_path / "source").to(torch.bfloat16)
    write_gguf(tmp_path / "tiny.gguf", model, tmp_path / "source")
    done = convert(tmp_path / "tiny.gguf", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    got, notes = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not notes["missing_keys"]
    assert not notes["unexpected_keys"]
    wanted = model.state_dict()
    assert got.state_dict().keys() == wanted.keys()
    for name, tensor in got.state_dict().items():
        assert torch.equal(tensor.to(torch.bfloat16), wanted[name]), name
    theirs, ours = (transformers.AutoTokenizer.from_pretrained(tmp_path / name) for name in ("source", "out"))
    assert ours.chat_template == CHAT_TEMPLATE
    for text in ("the film was good", "Schön, 東京 </s> x"):
        assert ours(text)["input_ids"] == theirs(text)["input_ids"]
    assert ours.model_max_length == model.config.max_position_embeddings


@pytest.mark.parametrize(
    ("content", "told"), [(b"nothing", "is not a GGUF file"), (b"GGUF" + b"\xff" * 100, "broken.gguf")]
)
def test_what_is_none_is_told(tmp_path: Path, content: bytes, told: str) -> None:
    if content[:4] == b"GGUF" and importlib.util.find_spec("gguf") is None:
        told = "requirements-gguf.txt"
    (tmp_path / "broken.gguf").write_bytes(content)
    done = convert(tmp_path / "broken.gguf", tmp_path / "out")
    assert (done.returncode, done.stderr.count("\n")) == (3, 1)
    assert told in done.stderr
    assert not (tmp_path / "out").exists()
