"""Write a copy of a model's folder with an ONNX graph in it, for infinity's ONNX engine. usage: FOLDER TARGET"""

import shutil
import sys
from pathlib import Path

import torch
from transformers import AutoModel

folder, target = Path(sys.argv[1]), Path(sys.argv[2])
NAMES = ("input_ids", "attention_mask", "token_type_ids")


class LastHiddenState(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.model = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()

    def forward(self, input_ids, attention_mask, token_type_ids):
        outputs = self.model(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)
        return outputs.last_hidden_state


shutil.copytree(folder, target, dirs_exist_ok=True)
(target / "onnx").mkdir(exist_ok=True)
ids = torch.ones(2, 7, dtype=torch.long)
axes = {0: "batch", 1: "length"}
torch.onnx.export(
    LastHiddenState(),
    (ids, ids, torch.zeros_like(ids)),
    str(target / "onnx" / "model.onnx"),
    input_names=list(NAMES),
    output_names=["last_hidden_state"],
    dynamic_axes=dict.fromkeys((*NAMES, "last_hidden_state"), axes),
    opset_version=17,
    dynamo=False,
)
