"""Families: a model of each, behind a mean pooling of sentence-transformers or bare."""

from typing import Any

from tests.catalogue.building import HIDDEN, POSITIONS, T5, Build, change, encoder, modules, then
from tests.catalogue.kind import Kind, bare_encoder, sentences

ROBERTA: dict[str, Any] = {"tokenizer": "RobertaTokenizer", "max_position_embeddings": POSITIONS + 2, "pad_token_id": 1}
XLMR: dict[str, Any] = {**ROBERTA, "tokenizer": "XLMRobertaTokenizer"}
DISTIL = {"dim": HIDDEN, "n_layers": 2, "n_heads": 4, "hidden_dim": 64}
SEGMENT = {"type_vocab_size": 1}
LLAMA = {"num_key_value_heads": 2, "head_dim": 8, "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
GPT = {"n_embd": HIDDEN, "n_layer": 2, "n_head": 4, "n_positions": POSITIONS, "bos_token_id": 0, "eos_token_id": 2}
BART = {
    "d_model": HIDDEN,
    **{f"{side}_{name}": n for side in ("encoder", "decoder") for name, n in (("layers", 2), ("attention_heads", 4))},
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
}
DEBERTA = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "pad_token_id": 1, "type_vocab_size": 0}

FAMILIES: dict[str, Build] = {
    "bert": encoder("bert"),
    "bert, gelu_new": encoder("bert", hidden_act="gelu_new"),
    "bert, silu": encoder("bert", hidden_act="silu"),
    "bert, one token type": encoder("bert", **SEGMENT),
    "bert, saved with its MLM head": encoder("bert", model_class="AutoModelForMaskedLM"),
    "bert, saved for pre-training": encoder("bert", model_class="AutoModelForPreTraining"),
    "roberta": encoder("roberta", **ROBERTA, **SEGMENT),
    "roberta, another pad id": encoder("roberta", **{**ROBERTA, "pad_token_id": 4}, **SEGMENT),
    "roberta, saved with its MLM head": encoder("roberta", model_class="AutoModelForMaskedLM", **ROBERTA, **SEGMENT),
    "xlm-roberta": encoder("xlm-roberta", **XLMR, **SEGMENT),
    "camembert": encoder("camembert", **{**XLMR, "tokenizer": "CamembertTokenizer"}, **SEGMENT),
    "distilbert": encoder("distilbert", **DISTIL),
    "distilbert, saved with its MLM head": encoder("distilbert", model_class="AutoModelForMaskedLM", **DISTIL),
    "mpnet": encoder("mpnet", tokenizer="MPNetTokenizer", max_position_embeddings=POSITIONS + 2, pad_token_id=1),
    "albert": encoder("albert", tokenizer="AlbertTokenizer", embedding_size=16, num_hidden_groups=1),
    "electra": encoder("electra", embedding_size=HIDDEN),
    "electra, a projection": encoder("electra", embedding_size=16),
    "electra, a discriminator": encoder("electra", model_class="AutoModelForPreTraining", embedding_size=16),
    "deberta": encoder("deberta", tokenizer="DebertaTokenizer", **DEBERTA),
    "deberta-v2": encoder("deberta-v2", tokenizer="DebertaV2Tokenizer", **DEBERTA),
    "modernbert": encoder("modernbert", tokenizer="RobertaTokenizer", pad_token_id=1, local_attention=16),
    "longformer": encoder("longformer", attention_window=[8, 8], **{**ROBERTA, "max_position_embeddings": 66}),
    "big_bird, full attention": encoder("big_bird", attention_type="original_full"),
    "convbert": encoder("convbert", embedding_size=HIDDEN, conv_kernel_size=3, head_ratio=2),
    "mobilebert": encoder("mobilebert", embedding_size=HIDDEN, true_hidden_size=HIDDEN, intra_bottleneck_size=HIDDEN),
    "roformer": encoder("roformer", embedding_size=HIDDEN),
    "ernie": encoder("ernie"),
    "megatron-bert": encoder("megatron-bert"),
    "layoutlm": encoder("layoutlm"),
    "data2vec-text": encoder("data2vec-text", **ROBERTA, **SEGMENT),
    "roberta-prelayernorm": encoder("roberta-prelayernorm", **ROBERTA, **SEGMENT),
    "xlm-roberta-xl": encoder("xlm-roberta-xl", **XLMR, **SEGMENT),
    "ibert": encoder("ibert", **ROBERTA, **SEGMENT),
    "luke": encoder("luke", entity_vocab_size=10, entity_emb_size=8, **ROBERTA, **SEGMENT),
    "squeezebert": encoder("squeezebert", embedding_size=HIDDEN),
    "rembert": encoder("rembert", input_embedding_size=16, output_embedding_size=16),
    "fnet": encoder("fnet"),
    "nomic_bert": encoder("nomic_bert"),
    "eurobert": encoder("eurobert", tokenizer="RobertaTokenizer", **LLAMA),
    "t5, its encoder": encoder("t5", tokenizer="T5Tokenizer", model_class="T5EncoderModel", **T5),
    "t5, whole": encoder("t5", tokenizer="T5Tokenizer", model_class="T5ForConditionalGeneration", **T5),
    "mt5, its encoder": encoder("mt5", tokenizer="T5Tokenizer", model_class="MT5EncoderModel", **T5),
    "umt5, its encoder": encoder("umt5", tokenizer="T5Tokenizer", model_class="UMT5EncoderModel", **T5),
    "longt5, its encoder": encoder("longt5", tokenizer="T5Tokenizer", model_class="LongT5EncoderModel", **T5),
    "bart": encoder("bart", tokenizer="BartTokenizer", **BART),
    "led": encoder(
        "led", tokenizer="LEDTokenizer", max_encoder_position_embeddings=POSITIONS, attention_window=[8, 8], **BART
    ),
    "gpt2": encoder("gpt2", tokenizer="GPT2Tokenizer", **GPT),
    "llama": encoder("llama", tokenizer="GPT2Tokenizer", **LLAMA),
    "mistral": encoder("mistral", tokenizer="GPT2Tokenizer", sliding_window=None, **LLAMA),
    "qwen2": encoder("qwen2", tokenizer="Qwen2Tokenizer", **LLAMA),
    "qwen3": encoder("qwen3", tokenizer="GPT2Tokenizer", **LLAMA),
    "qwen3, saved for text": encoder("qwen3", tokenizer="GPT2Tokenizer", model_class="AutoModelForCausalLM", **LLAMA),
    "gemma": encoder("gemma", tokenizer="GPT2Tokenizer", **LLAMA),
    "gemma3_text": encoder("gemma3_text", tokenizer="GPT2Tokenizer", sliding_window=16, **LLAMA),
    "gemma3_text, bidirectional": encoder(
        "gemma3_text", tokenizer="GPT2Tokenizer", sliding_window=16, use_bidirectional_attention=True, **LLAMA
    ),
}
_LAST = ("gpt2", "llama", "mistral", "qwen2", "qwen3", "qwen3, saved for text", "gemma")
_BARE = ("bert", "roberta", "xlm-roberta", "distilbert", "mpnet", "albert", "electra", "deberta-v2", "modernbert")

ENCODERS = [
    *(
        Kind(f"{name}, {'last token' if name in _LAST else 'mean'}", then(build, modules(pooling=pooling)), sentences)
        for name, build in FAMILIES.items()
        for pooling in [("lasttoken" if name in _LAST else "mean")]
    ),
    *(Kind(f"{name}, bare", FAMILIES[name], bare_encoder) for name in _BARE),
    # As long as the model takes: the last positions too.
    *(
        Kind(f"{name}, to its last position", then(FAMILIES[name], modules(own={"max_seq_length": None})), sentences)
        for name in ("roberta", "mpnet", "xlm-roberta", "distilbert", "led", "gpt2")
    ),
    Kind(
        "big_bird, sparse attention",
        then(FAMILIES["big_bird, full attention"], change("config.json", attention_type="block_sparse"), modules()),
        refused="block_sparse",
    ),
    Kind(
        "xlnet",
        then(
            encoder("xlnet", tokenizer="XLNetTokenizer", d_model=HIDDEN, n_layer=2, n_head=4, d_inner=64),
            modules(),
        ),
        refused="token types",
    ),
    Kind(
        "funnel",
        then(
            encoder(
                "funnel",
                tokenizer="FunnelTokenizer",
                model_class="FunnelModel",
                how={f"{name.lower()}_token": f"[{name}]" for name in ("UNK", "SEP", "PAD", "CLS", "MASK")},
                d_model=HIDDEN,
                n_head=4,
                d_head=8,
                d_inner=64,
                block_sizes=[1, 1],
            ),
            modules(),
        ),
        refused="token types",
    ),
]
