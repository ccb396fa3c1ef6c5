"""What answers say, as results: of a request, or of the job that it became."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from model_api_client.results import Job, Prediction, Scores, Similarity


def weights_of(document: Mapping[str, Any], headers: Mapping[str, str], job: Job | None = None) -> dict[str, Any]:
    """The first fields of every Answer."""

    def told(name: str, header: str) -> str | None:
        return document.get(name) or headers.get(header) or getattr(job, name, None)

    return {
        "model": told("model", "x-model"),
        "version": told("version", "x-model-version"),
        "digest": told("digest", "x-model-digest"),
        "request_id": headers.get("x-request-id"),
        "cached_s": float(headers["age"]) if "age" in headers else None,
    }


def read_prediction(document: Any, headers: Mapping[str, str], job: Job | None = None) -> Prediction:
    return Prediction(
        **weights_of(document, headers, job),
        task=document["task"],
        predictions=document["predictions"],
        tokens=document["usage"]["tokens"],
        truncated=document.get("truncated", []),
    )


def read_similarity(document: Any, headers: Mapping[str, str], job: Job | None = None) -> Similarity:
    context = document["context"]
    return Similarity(
        **weights_of({}, headers, job),
        target=context["target"],
        texts=context["texts"],
        sims=context["sims"],
        truncated=context.get("truncated", []),
    )


def read_scores(document: Any, headers: Mapping[str, str], job: Job | None = None) -> Scores:
    return Scores(
        **weights_of(document, headers, job),
        mean=document["scores"],
        items=document["items"],
        predictions=document.get("predictions"),
    )
