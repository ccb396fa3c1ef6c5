"""What sentence-transformers answers in float32. usage: MODEL BODIES.jsonl; prints one JSON list of scores per body."""

import json
import sys

from sentence_transformers import SentenceTransformer

model = SentenceTransformer(sys.argv[1], device="cpu")
with open(sys.argv[2]) as bodies:  # noqa: PTH123
    for line in bodies:
        body = json.loads(line)
        vectors = model.encode([body["target"], *body["texts"]], normalize_embeddings=True, show_progress_bar=False)
        print(json.dumps((vectors[1:] @ vectors[0]).tolist()))
