"""Answering a request: choose the version, prepare, batch, finish. Knows nothing of HTTP."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from model_api.errors import CacheDown, InvalidInput, QueueFull
from model_api.instance.manager import Manager
from model_api.instance.polling import Mount
from model_api.instance.readiness import Readiness
from model_api.instance.version import Version
from model_api.serving.answering import answer_of, cached_answer, prepare, web_side, weights_of
from model_api.serving.batching import Batcher
from model_api.serving.cache import Cache, CachedAnswer, cache_key
from model_api.serving.cache_stores import StoreDown
from model_api.serving.calls import Answer, CallContext, Weights
from model_api.serving.pending import Outputs
from model_api.serving.reranking import require_reranking, reranking_model, reranking_pointer
from model_api.serving.scorer import Scorer, from_row, to_row
from model_api.serving.shares import Shares
from model_api.serving.similarity import require_embedding, similarities, similarity_model, similarity_pointer
from model_api.serving.streaming import Stream, open_stream
from model_api.serving.text_scores import score_costs
from model_api.settings import Settings
from model_api.tasks.contract import Prepared


class Service:
    """What the routes call, on many request threads at once."""

    def __init__(
        self, settings: Settings, manager: Manager, batcher: Batcher, scorer: Scorer, cache: Cache | None = None
    ) -> None:
        self._settings = settings
        self._manager = manager
        self._batcher = batcher
        self._scorer = scorer
        self._cache = cache
        self._entries = Shares(settings.max_queue_entries)
        self._draining = False

    def predict(self, model: str, inputs: Sequence[Any], parameters: Mapping[str, Any], context: CallContext) -> Answer:
        """One prediction per input, in order. Raises RequestError or ServingError."""
        context.admit(model)
        with self._entry(context), self._manager.serving.use(model, context.canary_key) as version:
            self._check_count(inputs, "inputs")
            if self._cache is None or version.precision is None or not version.repeats(parameters):
                return self._compute(version, inputs, parameters, context)
            key = cache_key(
                model=version.name,
                digest=version.manifest.digest,
                precision=version.precision,
                task=version.manifest.task,
                parameters=parameters,
                inputs=inputs,
            )
            computed: list[Answer] = []  # by this very request

            def compute() -> CachedAnswer:
                answer = self._compute(version, inputs, parameters, context)
                computed.append(answer)
                return CachedAnswer.of(answer.predictions, answer.n_tokens, answer.truncated)

            if context.no_cache:
                entry, age_s = self._cache.refresh(key, compute), None
            else:
                entry, age_s = self._cache.fetch(key, compute, context.deadline)
            if computed:
                return replace(computed[0], predictions=entry.fragments)
            context.guard.spend(version.name, entry.n_tokens)
            return cached_answer(version, entry, age_s)

    def stream(self, model: str, item: Any, parameters: Mapping[str, Any], context: CallContext) -> Stream:
        """The prediction for one input, as it grows. Returns when its first piece is there, or all of it; raises as
        predict does, and InvalidInput for a model that gives no answer in pieces."""
        with contextlib.ExitStack() as held:
            context.admit(model)
            held.enter_context(self._entry(context))
            version = held.enter_context(self._manager.serving.use(model, context.canary_key))
            return open_stream(self._batcher, version, item, parameters, context, held)

    def clear_cache(self, model: str | None) -> int:
        """Forget the cached answers of `model`, or all; how many. Raises CacheDown."""
        try:
            return 0 if self._cache is None else self._cache.clear(model)
        except StoreDown as error:
            raise CacheDown(f"the cache can't be reached ({error})") from error

    def similarity(
        self, target: str, texts: Sequence[str], model: str | None, parameters: Mapping[str, Any], context: CallContext
    ) -> Answer:
        """Similarity of `target` with each text, by the model's own measure, in order. Raises as predict does.

        `truncated` holds indices into `texts`, and -1 for the target.
        """
        name = context.admit(model or similarity_model(self._settings.sim_model, self._manager))
        with self._entry(context), self._manager.serving.use(name, context.canary_key) as version:
            require_embedding(version)
            self._check_count(texts, "texts")
            try:
                prepared, outputs = self._run(version, [target, *texts], parameters, "", context)
            except InvalidInput as error:
                raise InvalidInput(str(error), similarity_pointer(error.pointer)) from None
            prepared = replace(prepared, truncated=[index - 1 for index in prepared.truncated])
            return answer_of(version, similarities(version, prepared, outputs.arrays), prepared, outputs)

    def rerank(
        self, query: str, texts: Sequence[str], model: str | None, parameters: Mapping[str, Any], context: CallContext
    ) -> Answer:
        """How well each text answers `query`: the one prediction of a reranking model. Raises as predict does."""
        name = context.admit(model or reranking_model(self._manager))
        with self._manager.serving.use(name, context.canary_key) as version:
            require_reranking(version)
        self._check_count(texts, "texts")
        try:
            return self.predict(name, [{"query": query, "texts": texts}], parameters, context)
        except InvalidInput as error:
            raise InvalidInput(str(error), reranking_pointer(error.pointer)) from None

    def scores(
        self, targets: Sequence[str], predictions: Sequence[str], place: str, context: CallContext
    ) -> list[dict[str, float]]:
        """The five scores of each pair, in order; computed in a process of its own.

        Raises InvalidInput below `place` for what would take too long, and ServingError as predict does.
        """
        context.admit("")
        pairs = list(zip(targets, predictions, strict=True))
        costs = score_costs(pairs, place)
        self._scorer.ensure_started()
        with self._entry(context):
            outputs = self._batcher.run(
                self._scorer,
                [to_row(*pair) for pair in pairs],
                costs,
                {},
                caller=context.caller,
                deadline=context.deadline,
                has_left=context.has_left,
            )
        return [from_row(row) for row in outputs.arrays]

    def predict_weights(
        self, model: str, inputs: Sequence[Any], parameters: Mapping[str, Any], context: CallContext
    ) -> Weights:
        """What `predict` would ask. Refuses what it would refuse, and computes nothing."""
        with self._manager.serving.use(context.admit(model), context.canary_key) as version:
            self._check_count(inputs, "inputs")
            prepare(version, inputs, parameters, "/inputs", context)
            return weights_of(version, parameters)

    def similarity_weights(
        self, target: str, texts: Sequence[str], model: str | None, parameters: Mapping[str, Any], context: CallContext
    ) -> Weights:
        """What `similarity` would ask. Refuses what it would refuse, and computes nothing."""
        name = context.admit(model or similarity_model(self._settings.sim_model, self._manager))
        with self._manager.serving.use(name, context.canary_key) as version:
            require_embedding(version)
            self._check_count(texts, "texts")
            try:
                prepare(version, [target, *texts], parameters, "", context)
            except InvalidInput as error:
                raise InvalidInput(str(error), similarity_pointer(error.pointer)) from None
            return weights_of(version, parameters)

    def models(self) -> list[dict[str, Any]]:
        """Every model as GET /models shows it."""
        return [{k: v for k, v in model.items() if k != "versions"} for model in self._manager.describe()]

    def model(self, name: str) -> dict[str, Any]:
        """One model with its versions. Raises UnknownModel, or ModelNotReady before the first look at the store."""
        for model in self._manager.describe():
            if model["name"] == name:
                return model
        raise self._manager.serving.absent(name)

    def readiness(self) -> Readiness:
        ready = self._manager.is_ready() and not self._draining
        return Readiness(ready, self._manager.verdicts(), self._draining)

    def mount(self) -> Mount:
        """The last observation of the shared file system; never touches it."""
        return self._manager.mount()

    def begin_draining(self) -> None:
        """Unready from now on; requests are still answered."""
        self._draining = True

    def stop(self) -> None:
        """End all model processes and threads."""
        self._draining = True
        self._batcher.stop()
        self._scorer.stop()
        self._manager.stop()
        if self._cache is not None:
            self._cache.close()

    @contextmanager
    def _entry(self, context: CallContext) -> Iterator[None]:
        """A place among the requests that wait or run, whatever they wait for. Raises QueueFull at once."""
        if not self._entries.take(context.caller):
            waiting, own = self._entries.total(), self._entries.held(context.caller)
            raise QueueFull(f"{waiting} requests are waiting or running already, {own} of them yours")
        try:
            yield
        finally:
            self._entries.give_back(context.caller)

    def _check_count(self, items: Sequence[Any], name: str) -> None:
        if len(items) > self._settings.max_inputs:
            raise InvalidInput(f"{len(items)} {name}, at most {self._settings.max_inputs} are accepted", f"/{name}")

    def _compute(
        self, version: Version, inputs: Sequence[Any], parameters: Mapping[str, Any], context: CallContext
    ) -> Answer:
        prepared, outputs = self._run(version, inputs, parameters, "/inputs", context)
        assert version.web is not None
        with web_side(version, sum(array.nbytes for array in outputs.arrays), context):
            return answer_of(version, version.web.finish(prepared, outputs.arrays), prepared, outputs)

    def _run(
        self, version: Version, inputs: Sequence[Any], parameters: Mapping[str, Any], pointer: str, context: CallContext
    ) -> tuple[Prepared, Outputs]:
        group, prepared = prepare(version, inputs, parameters, pointer, context)
        outputs = self._batcher.run(
            group,
            prepared.arrays,
            prepared.costs,
            prepared.parameters,
            caller=context.caller,
            deadline=context.deadline,
            has_left=context.has_left,
        )
        context.guard.spend(version.name, prepared.n_tokens)
        return prepared, outputs
