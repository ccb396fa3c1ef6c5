"""The client without asyncio."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import httpx

from model_api_client import _calls, _connection, _mapping
from model_api_client._calls import JobProgress
from model_api_client._flows import Flow, Pause, Progress, Request
from model_api_client.jobs import Jobs
from model_api_client.results import Job, Model, Prediction, Ranking, Scores, Similarity, Upload

T = TypeVar("T")


class Client:
    """A server, asked by calls that return when the answer is there. One is enough for any number of threads.

    `url` is that of the server, with the path of a proxy if there is one; default: MODEL_API_URL in the environment,
    else this machine. `api_key` goes into Authorization; default: MODEL_API_KEY. `timeout_s` is for an answer; the
    server's own limit is 30 s by default. A request is sent again up to `retries` times, within `retry_within_s`, where
    the server says when to come back. Close it, or use it in a `with`.
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
        self._http = httpx.Client(**_connection.options(url, api_key, timeout_s, headers))
        self.jobs = Jobs(self._run, self._patience)

    @property
    def url(self) -> str:
        return str(self._http.base_url).rstrip("/")

    def predict(
        self, model: str, inputs: Any, parameters: Mapping[str, Any] | None = None, *, no_cache: bool = False
    ) -> Prediction:
        """Ask `model` (`name`, `name@version` or `name@canary`) about one input or a list of them.

        >>> found = client.predict("minilm", ["A first sentence.", "And a second."], {"normalize": True})
        >>> found.model, found.version, found.task, len(found), len(found[0])
        ('minilm', '1', 'embedding', 2, 384)
        """
        return self._run(_calls.predict(self._patience, model, inputs, parameters, no_cache))

    def sim(
        self,
        target: str,
        texts: Iterable[str],
        model: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        *,
        no_cache: bool = False,
    ) -> Similarity:
        """Compare texts with a target.

        >>> client.sim("A cat sits on the mat.", ["A kitten is sitting on a rug."]).sims
        [0.69...]
        """
        return self._run(_calls.sim(self._patience, target, texts, model, parameters, no_cache))

    def rerank(
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
        return self._run(_calls.rerank(self._patience, query, texts, model, top_k, parameters, no_cache))

    def score(
        self,
        targets: Iterable[str],
        predictions: Iterable[str] | None = None,
        *,
        model: str | None = None,
        inputs: Iterable[Any] | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> Scores:
        """ROUGE and BLEU of predictions against targets, or of what `model` predicts for `inputs`.

        >>> client.score(["The bridge opens on Monday."], ["The bridge opens Monday."]).mean["rouge1"]
        0.88...
        """
        return self._run(_calls.score(self._patience, targets, predictions, model, inputs, parameters))

    def models(self) -> list[Model]:
        """Every published model.

        >>> [(model.name, model.state) for model in client.models()]
        [('minilm', 'serving')]
        """
        return self._run(_calls.models(self._patience))

    def model(self, name: str) -> Model:
        """One model; its versions are in `document`."""
        return self._run(_calls.model(self._patience, name))

    def map(
        self,
        inputs: Iterable[Any],
        model: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        chunk_size: int = 32,
        at_once: int = 4,
        on_error: str = "raise",
        pin: bool = True,
        progress: Progress | None = None,
    ) -> Iterator[Any]:
        """A prediction per input, in order, as they come. Reads `inputs` no further ahead than it asks for.

        `at_once` chunks of `chunk_size` inputs are asked for at a time. An input that is refused raises its error, with
        the input's number in `index`; with `on_error="return"` the error stands in the prediction's place. `pin`: all
        inputs are asked of the version that answered the first ones, so a swap in between mixes nothing; once the
        server has let go of that version, VersionNotLoaded is raised. `progress(done, total)`; total is -1 where it
        can't be known.

        >>> vectors = client.map((f"Sentence {i}." for i in range(70)), "minilm")
        >>> sum(len(vector) for vector in vectors)
        26880
        """
        total = _mapping.size_of(inputs)
        mapped = _mapping.Mapped(self._patience, model, parameters, chunk_size, at_once, on_error, pin, progress, total)
        return _mapping.run(mapped, inputs, self._run)

    def upload(
        self,
        path: str | Path,
        *,
        content_type: str | None = None,
        job: Mapping[str, Any] | None = None,
        progress: Progress | None = None,
    ) -> Upload:
        """Send a CSV, JSONL or video file; `job` (as POST /jobs has it) starts when it is there.
        `progress(sent, total)` in bytes."""
        return self._run(_calls.send_file(self._patience, Path(path), content_type, job, progress))

    def predict_file(
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
        job = self.jobs.submit_file(path, model, column, parameters=parameters, progress=sending)
        done = self.jobs.wait(job, timeout_s, progress=progress)
        self.jobs.download(done, out)
        return done

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, flow: Flow[T]) -> T:
        """Do what a flow asks for, on this thread."""
        reply: httpx.Response | Exception | None = None
        try:
            while True:
                step = flow.throw(reply) if isinstance(reply, Exception) else flow.send(reply)
                if isinstance(step, Pause):
                    time.sleep(step.seconds)
                    reply = None
                    continue
                try:
                    reply = self._send(step)
                except (httpx.RequestError, httpx.InvalidURL) as error:
                    reply = error
        except StopIteration as stop:
            found: T = stop.value
            return found

    def _send(self, request: Request) -> httpx.Response:
        built = request.build(self._http)
        if request.sink is None:
            return self._http.send(built)
        request.sink.seek(0)
        request.sink.truncate()
        response = self._http.send(built, stream=True)
        try:
            if response.is_success:
                for chunk in response.iter_bytes():
                    request.sink.write(chunk)
            else:
                response.read()
        finally:
            response.close()
        return response
