"""Other people's clients, unmodified, against the server named in argv: what they got, as JSON. Runs in .venvs/clients,
but Hugging Face's own in .venv."""

import json
import sys
from collections.abc import Callable
from typing import Any

TEXTS = ["the train is good", "the film was bad"]


def refusal(call: Callable[[], Any]) -> dict[str, Any]:
    """What a client makes of an error: its class, and its words."""
    try:
        return {"class": None, "message": repr(call())}
    except Exception as error:
        status = getattr(error, "status", None)
        return {
            "class": type(error).__name__,
            "message": str(error),
            "status": status() if callable(status) else status,
        }


def triton(url: str) -> dict[str, Any]:
    import numpy as np
    from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
    from tritonclient.utils import InferenceServerException

    assert issubclass(InferenceServerException, Exception)
    client = InferenceServerClient(url.removeprefix("http://"))

    def tensor(texts: list[Any], datatype: str = "BYTES", binary: bool = True, name: str = "text") -> Any:
        given = InferInput(name, [len(texts)], datatype)
        kind = {"BYTES": np.object_, "INT32": np.int32, "FP32": np.float32}[datatype]
        given.set_data_from_numpy(np.array(texts, kind), binary_data=binary)
        return given

    def wrong_length() -> Any:
        given = tensor(TEXTS)
        given._raw_data = given._raw_data[:-3]
        given._parameters["binary_data_size"] -= 3
        return client.infer("tiny", [given])

    def short_body() -> Any:
        given = tensor(TEXTS)
        given._parameters["binary_data_size"] += 30
        return client.infer("tiny", [given])

    def wrong_shape() -> Any:
        given = tensor(TEXTS)
        given._shape = [3]
        return client.infer("tiny", [given])

    def vectors(given: Any, **options: Any) -> Any:
        return client.infer("tiny", [given], **options).as_numpy("embedding").tolist()

    wanted = [InferRequestedOutput("label"), InferRequestedOutput("score")]
    label = client.infer("mood", [tensor(TEXTS)], outputs=wanted)
    ranked = client.infer("ranker", [tensor(["a train"], name="query"), tensor(TEXTS, name="texts")])
    return {
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "model_ready": [
            client.is_model_ready("tiny"),
            client.is_model_ready("tiny", "1"),
            client.is_model_ready("tiny", "9"),
        ],
        "server": client.get_server_metadata(),
        "metadata": client.get_model_metadata("mood"),
        "index": client.get_model_repository_index(),
        "binary": vectors(tensor(TEXTS)),
        "json": vectors(tensor(TEXTS, binary=False), outputs=[InferRequestedOutput("embedding", binary_data=False)]),
        "gzip": vectors(tensor(TEXTS), request_compression_algorithm="gzip"),
        "normalized": vectors(tensor(TEXTS), parameters={"normalize": True}),
        "response": client.infer("tiny", [tensor(TEXTS)], request_id="r7", model_version="1").get_response(),
        "labels": [text.decode() for text in label.as_numpy("label")],
        "scores": label.as_numpy("score").tolist(),
        "ranked": ranked.as_numpy("score").tolist(),
        "refused": {
            "model": refusal(lambda: client.infer("nobody", [tensor(TEXTS)])),
            "dtype": refusal(lambda: client.infer("tiny", [tensor([1, 2], "INT32")])),
            "float": refusal(lambda: client.infer("tiny", [tensor([1.0], "FP32", binary=False)])),
            "length": refusal(wrong_length),
            "short": refusal(short_body),
            "shape": refusal(wrong_shape),
            "empty": refusal(lambda: client.infer("tiny", [tensor(["the", ""])])),
            "output": refusal(lambda: client.infer("tiny", [tensor(TEXTS)], outputs=[InferRequestedOutput("nothing")])),
            "two": refusal(lambda: client.infer("tiny", [tensor(TEXTS), tensor(TEXTS, name="b")])),
            "parameter": refusal(lambda: client.infer("tiny", [tensor(TEXTS)], parameters={"nonsense": 1})),
            "sequence": refusal(lambda: client.infer("tiny", [tensor(TEXTS)], sequence_id=4)),
            "utf8": refusal(lambda: client.infer("tiny", [tensor([b"\xff\xfe"])])),
        },
    }


def hugging_face(url: str) -> dict[str, Any]:
    from huggingface_hub import InferenceClient

    def at(model: str) -> Any:
        return InferenceClient(model=f"{url}/hf/{model}", token="any", timeout=60)

    return {
        "vectors": at("tiny").feature_extraction(TEXTS).tolist(),
        "one": at("tiny").feature_extraction(TEXTS[0], normalize=True).tolist(),
        "similar": at("tiny").sentence_similarity(TEXTS[0], other_sentences=TEXTS),
        "ranked": at("ranker").sentence_similarity("a train", other_sentences=TEXTS),
        "labels": [[one.label, one.score] for one in at("mood").text_classification(TEXTS[0])],
        "best": [one.label for one in at("mood").text_classification(TEXTS[0], top_k=1)],
        "summary": at("summary").summarization(" ".join(TEXTS), generate_parameters={"max_new_tokens": 8}).summary_text,
        "refused": {
            "model": refusal(lambda: at("nobody").feature_extraction("a")),
            "empty": refusal(lambda: at("tiny").feature_extraction("")),
            "tokens": refusal(lambda: at("tiny").feature_extraction([[1, 2]])),
            "left": refusal(lambda: at("tiny").feature_extraction("a", truncation_direction="left")),
            "parameter": refusal(lambda: at("mood").text_classification("a", function_to_apply="none")),
        },
    }


def embedding_classes(url: str) -> dict[str, Any]:
    import asyncio

    from langchain_openai import OpenAIEmbeddings
    from llama_index.embeddings.openai_like import OpenAILikeEmbedding
    from llama_index.embeddings.text_embeddings_inference import TextEmbeddingsInference

    chain = OpenAIEmbeddings(model="tiny", base_url=f"{url}/v1", api_key="any", check_embedding_ctx_length=False)
    like = OpenAILikeEmbedding(model_name="tiny", api_base=f"{url}/v1", api_key="any")
    tei = TextEmbeddingsInference(model_name="tiny", base_url=f"{url}/tei/tiny", timeout=60)
    return {
        "langchain": chain.embed_documents(TEXTS),
        "langchain_query": chain.embed_query(TEXTS[0]),
        "langchain_async": asyncio.run(chain.aembed_documents(TEXTS)),
        "llama_openai": like.get_text_embedding_batch(TEXTS),
        "llama_tei": tei.get_text_embedding_batch(TEXTS),
        "llama_tei_query": tei.get_query_embedding(TEXTS[0]),
        "llama_tei_async": asyncio.run(tei.aget_text_embedding(TEXTS[0])),
    }


def sagemaker(url: str) -> dict[str, Any]:
    import boto3
    from botocore.config import Config

    client = boto3.client(
        "sagemaker-runtime",
        endpoint_url=url,
        region_name="eu-west-1",
        aws_access_key_id="any",
        aws_secret_access_key="any",
        config=Config(retries={"total_max_attempts": 1}),
    )

    def invoke(model: str, body: Any, kind: str = "application/json") -> Any:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = client.invoke_endpoint(EndpointName=model, ContentType=kind, Body=data)
        return [json.loads(answer["Body"].read()), answer["InvokedProductionVariant"]]

    def failure(*call: Any) -> Any:
        try:
            return invoke(*call)
        except client.exceptions.ModelError as error:
            told = error.response
            return ["ModelError", told["OriginalStatusCode"], json.loads(told["OriginalMessage"])["type"]]
        except client.exceptions.ValidationError as error:
            return ["ValidationError", str(error)]

    return {
        "instances": invoke("tiny", {"instances": TEXTS}),
        "articles": invoke("summary", {"articles": TEXTS, "parameters": {"max_new_tokens": 8}}),
        "csv": invoke("tiny", f"text\n{TEXTS[0]}\n{TEXTS[1]}\n".encode(), "text/csv"),
        "refused": {
            "model": failure("nobody", {"instances": TEXTS}),
            "empty": failure("tiny", {"instances": [""]}),
            "form": failure("tiny", {"rows": TEXTS}),
            "type": failure("tiny", b"\x93NUMPY", "application/x-npy"),
        },
    }


def mlflow(url: str) -> dict[str, Any]:
    import numpy as np
    import pandas as pd
    from mlflow.pyfunc.scoring_server.client import ScoringServerClient

    host, port = url.removeprefix("http://").split(":")
    client = ScoringServerClient(host, int(port))
    client.wait_server_ready(timeout=30)
    table = pd.DataFrame({"text": TEXTS})
    return {
        "version": client.get_version(),
        "frame": json.loads(client.invoke(table).to_json())["predictions"],
        "array": json.loads(client.invoke(np.array(TEXTS)).to_json())["predictions"],
        "params": json.loads(client.invoke(table, params={"normalize": True}).to_json())["predictions"],
        "refused": {
            "empty": refusal(lambda: client.invoke(pd.DataFrame({"text": [""]}))),
            "numbers": refusal(lambda: client.invoke(pd.DataFrame({"a": [1.5], "b": [2.5]}))),
            "parameter": refusal(lambda: client.invoke(table, params={"nonsense": 1})),
        },
    }


CLIENTS = {one.__name__: one for one in (triton, hugging_face, embedding_classes, sagemaker, mlflow)}

if __name__ == "__main__":
    print(json.dumps(CLIENTS[sys.argv[1]](sys.argv[2]), default=str))
