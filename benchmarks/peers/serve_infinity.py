"""infinity-emb's asynchronous engine behind a FastAPI route with the /sim contract.

Its own server gives embeddings only; `"native": true` in the settings starts that instead.
"""

import importlib
import json
import os
import sys
from contextlib import asynccontextmanager

settings = json.loads(os.environ["BENCH_SETTINGS"])
if settings["engine"] == "optimum":
    # optimum imports names that torch has moved since; only its exporter would use them.
    moved = importlib.import_module("torch.onnx._internal.torchscript_exporter.symbolic_opset14")
    sys.modules["torch.onnx.symbolic_opset14"] = moved

import torch  # noqa: E402
import uvicorn  # noqa: E402
from fastapi import FastAPI, Request, Response  # noqa: E402
from infinity_emb import AsyncEmbeddingEngine, EngineArgs  # noqa: E402
from orjson import OPT_SERIALIZE_NUMPY, dumps, loads  # noqa: E402

torch.set_num_threads(settings["threads"])
arguments = {
    "model_name_or_path": os.environ["BENCH_MODEL"],
    "engine": settings["engine"],
    "batch_size": settings["max_batch"],
    "dtype": settings["dtype"],
    "device": "cpu",
    "compile": settings["compile"],
    "bettertransformer": settings["bettertransformer"],
    "lengths_via_tokenize": settings["lengths_via_tokenize"],
    "pooling_method": "mean",
    "model_warmup": False,
}


@asynccontextmanager
async def lifespan(application):
    engine = AsyncEmbeddingEngine.from_args(EngineArgs(**arguments))
    async with engine:
        application.state.engine = engine
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/readyz")
async def readyz():
    return {"ready": True}


@app.post("/sim")
async def sim(request: Request):
    body = loads(await request.body())
    target, texts = body["target"], body["texts"]
    vectors, _ = await app.state.engine.embed(sentences=[target, *texts])
    sims = [float(vector @ vectors[0]) for vector in vectors[1:]]
    answer = {"type": "sentence similarity", "context": {"target": target, "texts": texts, "sims": sims}}
    return Response(dumps(answer, option=OPT_SERIALIZE_NUMPY), media_type="application/json")


def native():
    """infinity's own application, as its command line makes it."""
    from infinity_emb.infinity_server import create_server

    return create_server(engine_args_list=[EngineArgs(**arguments, served_model_name="minilm")])


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(__file__))  # noqa: PTH120
    uvicorn.run(
        "serve_infinity:native" if settings["native"] else "serve_infinity:app",
        factory=settings["native"],
        host="127.0.0.1",
        port=int(os.environ["PORT"]),
        workers=settings["workers"],
        log_level="warning",
    )
