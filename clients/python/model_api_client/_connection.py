"""How a client reaches its server: what both kinds of client are made of."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import httpx

from model_api_client._flows import Patience

CONNECT_TIMEOUT_S = 10.0
URL_VARIABLE, KEY_VARIABLE = "MODEL_API_URL", "MODEL_API_KEY"
DEFAULT_URL = "http://127.0.0.1:8000"


def package_version() -> str:
    try:
        return version("model-api-client")
    except PackageNotFoundError:  # run from its source, not installed
        return "0"


def options(
    url: str | None, api_key: str | None, timeout_s: float, headers: Mapping[str, str] | None
) -> dict[str, Any]:
    """Of httpx's client. Raises ValueError for what is no URL of a server."""
    address = url or os.environ.get(URL_VARIABLE) or DEFAULT_URL
    try:
        parsed = httpx.URL(address)
    except httpx.InvalidURL:
        parsed = httpx.URL("")
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ValueError(f"{address[:80]!r} is no URL; one looks like {DEFAULT_URL}")
    sent = {"User-Agent": f"model-api-client/{package_version()}", "Accept": "application/json, */*;q=0.5"}
    key = api_key or os.environ.get(KEY_VARIABLE)
    if key:
        sent["Authorization"] = f"Bearer {key}"
    return {
        "base_url": parsed,
        "headers": {**sent, **(headers or {})},
        "timeout": httpx.Timeout(timeout_s, connect=min(CONNECT_TIMEOUT_S, timeout_s)),
        "follow_redirects": True,
        "limits": httpx.Limits(max_connections=None, max_keepalive_connections=32),
    }


def patience(retries: int, within_s: float) -> Patience:
    if retries < 0 or within_s < 0:
        raise ValueError("retries and retry_within_s can't be negative")
    return Patience(retries, within_s)
