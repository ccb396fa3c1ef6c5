"""The naive baseline: Flask around sentence-transformers, a model per gunicorn worker, no batching across requests."""

import json
import os

import torch
from flask import Flask, request
from sentence_transformers import SentenceTransformer

settings = json.loads(os.environ["BENCH_SETTINGS"])
torch.set_num_threads(settings["threads"])
model = SentenceTransformer(os.environ["BENCH_MODEL"], device="cpu")
application = Flask(__name__)


@application.get("/readyz")
def readyz():
    return {"ready": True}


@application.post("/sim")
def sim():
    body = request.get_json()
    target, texts = body["target"], body["texts"]
    vectors = model.encode([target, *texts], normalize_embeddings=True, show_progress_bar=False)
    sims = (vectors[1:] @ vectors[0]).tolist()
    return {"type": "sentence similarity", "context": {"target": target, "texts": texts, "sims": sims}}
