"""One conversion in the sandbox: `python -m scripts.conversion.worker KIND SOURCE TARGET`, started by __main__.

Its answer is one line of JSON on standard output: {"notes": [...]} or {"refused": reason}.
"""

import json
import os
import pickle
import sys
from pathlib import Path

from model_api.processes import sandbox

MAX_CPU_S = 4 * 3600


def main() -> int:
    kind, source, target = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    if kind == "pickle":
        import torch

        from scripts.conversion.pickles import convert_pickle

        torch.set_num_threads(1)
        torch.zeros(1).contiguous().clone()  # what torch still has to open or start, it does before the door closes
    elif kind == "gguf":
        os.environ["HF_HUB_OFFLINE"] = "1"
        import gguf  # noqa: F401
        import torch
        import transformers

        from scripts.conversion.gguf import convert_gguf

        torch.set_num_threads(1)
        _ = (transformers.AutoModelForCausalLM, transformers.AutoTokenizer, transformers.LlamaForCausalLM)
    else:
        from scripts.conversion.tensorflow import convert_checkpoint
    size_bytes = sum(f.stat().st_size for f in source.parent.glob(f"{source.name}*"))
    writable = target if target.is_dir() else target.parent
    missing = sandbox.close(writable, 16 * 2**30 + 6 * size_bytes, MAX_CPU_S)
    answer: dict[str, object]
    try:
        if kind == "pickle":
            notes = convert_pickle(source, target)
        elif kind == "gguf":
            notes = convert_gguf(source, target)
        else:
            notes = convert_checkpoint(source, source.parent, target)
        answer = {"notes": [*notes, *(f"the sandbox could not keep it from: {what}" for what in missing)]}
    except pickle.UnpicklingError as error:
        why = str(error).split("\n")[0].strip()
        answer = {"refused": f"it holds more than tensors, so it isn't opened ({why[:300]})"}
    except Exception as error:
        answer = {"refused": " ".join(str(error).split())[:400] or type(error).__name__}
    answers.write(json.dumps(answer) + "\n")
    answers.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
