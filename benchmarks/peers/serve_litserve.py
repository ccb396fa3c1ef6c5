"""LitServe around sentence-transformers: its own queue and batching, as many workers as the settings say."""

import json
import os
from itertools import accumulate, pairwise

import litserve
import torch
from sentence_transformers import SentenceTransformer

settings = json.loads(os.environ["BENCH_SETTINGS"])


class Similarity(litserve.LitAPI):
    def setup(self, device):
        torch.set_num_threads(settings["threads"])
        dtype = getattr(torch, settings["dtype"])
        self.model = SentenceTransformer(os.environ["BENCH_MODEL"], device="cpu", model_kwargs={"dtype": dtype})

    def decode_request(self, request):
        return request["target"], request["texts"]

    def batch(self, inputs):
        return inputs

    def predict(self, batch):
        requests = batch if isinstance(batch, list) else [batch]
        flat = [text for target, texts in requests for text in (target, *texts)]
        vectors = self.model.encode(
            flat,
            batch_size=settings["encode_batch"],
            normalize_embeddings=True,
            convert_to_tensor=True,
            show_progress_bar=False,
        ).float()
        edges = accumulate((1 + len(texts) for _, texts in requests), initial=0)
        sims = [(vectors[low + 1 : high] @ vectors[low]).tolist() for low, high in pairwise(edges)]
        answers = [(target, texts, values) for (target, texts), values in zip(requests, sims, strict=True)]
        return answers if isinstance(batch, list) else answers[0]

    def unbatch(self, output):
        return output

    def encode_response(self, output):
        target, texts, sims = output
        return {"type": "sentence similarity", "context": {"target": target, "texts": texts, "sims": sims}}


if __name__ == "__main__":
    api = Similarity(max_batch_size=settings["max_batch"], batch_timeout=settings["batch_timeout_s"], api_path="/sim")
    server = litserve.LitServer(
        api,
        accelerator="cpu",
        workers_per_device=settings["workers"],
        fast_queue=settings["fast_queue"],
        timeout=120,
    )
    server.run(
        host="127.0.0.1",
        port=int(os.environ["PORT"]),
        num_api_servers=1,
        generate_client_file=False,
        log_level="warning",
    )
