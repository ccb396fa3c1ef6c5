"""The client with asyncio: the same calls as client.py has, awaited."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import httpx

from model_api_client import _calls, _connection, _mapping
from model_api_client._calls import JobProgress
from model_api_client._flows import Flow, Pause, Progress, Request
from model_api_client.jobs import AsyncJobs
from model_api_client.results import Job, Model, Prediction, Ranking, Scores, Similarity, Upload

T = TypeVar("T")


class AsyncClient:
    """A server, asked by calls that are awaited. One is enough for any number of tasks of one event loop.

    `url` is that of the server, with the path of a proxy if there is one; default: MODEL_API_URL in the environment,
    else this machine. `api_key` goes into Authorization; default: MODEL_API_KEY. `timeout_s` is for an answer; the
    server's own limit is 30 s by default. A request is sent again up to `retries` times, within `retry_within_s`, where
    the server says when to come back. Close it, or use it in an `async with`.

    >>> async def main():
    ...     async with AsyncClient(url) as client:
    ...         one, other = await asyncio.gather(client.predict("minilm", "a"), client.predict("minilm", "b"))
    ...         return len(one[0]), [len(vector) async for vector in client.map(["a", "b"], "minilm")]
    >>> asyncio.run(main())
    (384, [384, 384])
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        timeout_s: float = 65.0,
        retries: int = 5,
        retry_within_s: float = 60.0,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Raises ValueError for what is no URL."""
        self._patience = _connection.patience(retries, retry_within_s)
        self._http = httpx.AsyncClient(**_connection.options(url, api_key, timeout_s, headers))
        self.jobs = AsyncJobs(self._run, self._patience)

    @property
    def url(self) -> str:
        return str(self._http.base_url).rstrip("/")

    async def predict(
        self, model: str, inputs: Any, parameters: Mapping[str, Any] | None = None, *, no_cache: bool = False
    ) -> Prediction:
        """Ask `model` (`name`, `name@version` or `name@canary`) about one input or a list of them."""
        return await self._run(_calls.predict(self._patience, model, inputs, parameters, no_cache))

    async def sim(
        self,
        target: str,
        texts: Iterable[str],
        model: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        *,
        no_cache: bool = False,
    ) -> Similarity:
        """Compare texts with a target."""
        return await self._run(_calls.sim(self._patience, target, texts, model, parameters, no_cache))

    async def rerank(
        self,
        query: str,
        texts: Iterable[str],
        model: str | None = None,
        *,
        top_k: int | None = None,
        parameters: Mapping[str, Any] | None = None,
        no_cache: bool = False,
    ) -> Ranking:
        """Order texts by how well they answer a query."""
        return await self._run(_calls.rerank(self._patience, query, texts, model, top_k, parameters, no_cache))

    async def score(
        self,
        targets: Iterable[str],
        predictions: Iterable[str] | None = None,
        *,
        model: str | None = None,
        inputs: Iterable[Any] | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> Scores:
        """ROUGE and BLEU of predictions against targets, or of what `model` predicts for `inputs`."""
        return await self._run(_calls.score(self._patience, targets, predictions, model, inputs, parameters))

    async def models(self) -> list[Model]:
        """Every published model."""
        return await self._run(_calls.models(self._patience))

    async def model(self, name: str) -> Model:
        """One model; its versions are in `document`."""
        return await self._run(_calls.model(self._patience, name))

    def map(
        self,
        inputs: _mapping.Inputs,
        model: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        chunk_size: int = 32,
        at_once: int = 4,
        on_error: str = "raise",
        pin: bool = True,
        progress: Progress | None = None,
    ) -> AsyncIterator[Any]:
        """A prediction per input, in order, as they come; `inputs` may be asynchronous too.

        They are read no further ahead than they are asked for. `at_once` chunks of `chunk_size` inputs are asked for at
        a time. An input that is refused raises its error, with the input's number in `index`; with
        `on_error="return"` the error stands in the prediction's place. `pin`: all
        inputs are asked of the version that answered the first ones, so a swap in between mixes nothing; once the
        server has let go of that version, VersionNotLoaded is raised. `progress(done, total)`; total is -1 where it
        can't be known.
        """
        total = _mapping.size_of(inputs)
        mapped = _mapping.Mapped(self._patience, model, parameters, chunk_size, at_once, on_error, pin, progress, total)
        return _mapping.run_async(mapped, inputs, self._run)

    async def upload(
        self,
        path: str | Path,
        *,
        content_type: str | None = None,
        job: Mapping[str, Any] | None = None,
        progress: Progress | None = None,
    ) -> Upload:
        """Send a CSV, JSONL or video file; `job` (as POST /jobs has it) starts when it is there.
        `progress(sent, total)` in bytes."""
        return await self._run(_calls.send_file(self._patience, Path(path), content_type, job, progress))

    async def predict_file(
        self,
        path: str | Path,
        model: str,
        column: str,
        out: str | Path,
        *,
        parameters: Mapping[str, Any] | None = None,
        timeout_s: float | None = None,
        sending: Progress | None = None,
        progress: JobProgress | None = None,
    ) -> Job:
        """A whole CSV or JSONL file through a model, into `out`, which gets the columns `prediction` and `error`.

        The server goes on without us: the same call again comes back to the same job. `sending(sent, total)` in bytes,
        `progress(job)` while it runs.
        """
        job = await self.jobs.submit_file(path, model, column, parameters=parameters, progress=sending)
        done = await self.jobs.wait(job, timeout_s, progress=progress)
        await self.jobs.download(done, out)
        return done

    async def close(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _run(self, flow: Flow[T]) -> T:
        """Do what a flow asks for, in this task."""
        reply: httpx.Response | Exception | None = None
        try:
            while True:
                step = flow.throw(reply) if isinstance(reply, Exception) else flow.send(reply)
                if isinstance(step, Pause):
                    await asyncio.sleep(step.seconds)
                    reply = None
                    continue
                try:
                    reply = await self._send(step)
                except (httpx.RequestError, httpx.InvalidURL) as error:
                    reply = error
        except StopIteration as stop:
            found: T = stop.value
            return found

    async def _send(self, request: Request) -> httpx.Response:
        built = request.build(self._http)
        if request.sink is None:
            return await self._http.send(built)
        request.sink.seek(0)
        request.sink.truncate()
        response = await self._http.send(built, stream=True)
        try:
            if response.is_success:
                async for chunk in response.aiter_bytes():
                    await asyncio.to_thread(request.sink.write, chunk)
            else:
                await response.aread()
        finally:
            await response.aclose()
        return response
