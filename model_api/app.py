"""The wiring of the web process: settings, service, metrics, and the HTTP edge over them."""

import logging

from flask_openapi3 import Info, OpenAPI

from model_api.history.opening import History
from model_api.jobs.opening import open_jobs
from model_api.jobs.start import Jobs
from model_api.serving.calls import ModelService
from model_api.serving.recorded import pair_scorer
from model_api.serving.start import start_service
from model_api.settings import Settings, unknown_settings
from model_api.web import problems, responses
from model_api.web.metrics import Metrics
from model_api.web.openapi import API_VERSION
from model_api.web.pages import docs as docs_page
from model_api.web.pages import home, render
from model_api.web.protocols import openai, openai_files, openai_shape, spoken, summaries_log
from model_api.web.requests import ApiRequest
from model_api.web.routes import (
    cache,
    docs,
    health,
    history,
    jobs,
    models,
    predictions,
    reranking,
    scores,
    similarity,
    uploads,
    videos,
    worker,
)
from model_api.web.schemas import Problem
from model_api.web.security import gate

log = logging.getLogger(__name__)


def create_app(settings: Settings | None = None) -> OpenAPI:
    """The running application: the edge over a started service. Raises SettingsError.

    Models load in the background; the caller may answer liveness at once. Call `stop_app` to end what was started.
    """
    settings = settings or Settings.from_env()
    for name in unknown_settings():
        log.warning("no such setting", extra={"fields": {"name": name}})
    metrics = Metrics()
    kept = History(settings, metrics)
    service = start_service(settings, metrics, kept.recorder)
    kept.score = pair_scorer(service, settings.request_timeout_s)
    app = build_app(service, settings, metrics, kept)
    app.extensions["model_api_gate"].start()
    app.extensions["model_api_jobs"].start()
    kept.start()
    return app


def drain_app(app: OpenAPI) -> None:
    """Unready from now on, and no job is started; requests are still answered."""
    app.extensions["model_api"].begin_draining()
    app.extensions["model_api_jobs"].drain()


def stop_app(app: OpenAPI) -> None:
    """End all that `create_app` started: the jobs, then the model processes, then the history of what they gave."""
    app.extensions["model_api_gate"].stop()
    app.extensions["model_api_jobs"].stop()
    app.extensions["model_api"].stop()
    app.extensions["model_api_history"].stop()


def build_app(
    service: ModelService, settings: Settings, metrics: Metrics | None = None, kept: History | None = None
) -> OpenAPI:
    """The WSGI app over a service. Starts no thread, reads no file, asks the service nothing."""
    app = OpenAPI(
        "model_api",
        info=Info(
            title="Model API",
            version=API_VERSION,
            description="Models published once on a shared file system, served by every instance.",
        ),
        validation_error_model=Problem,
        validation_error_callback=problems.raise_invalid_body,
        doc_ui=False,
        static_folder=None,
        template_folder=str(render.TEMPLATES),
    )
    app.request_class = ApiRequest
    app.url_map.merge_slashes = False  # a redirect would be an HTML page
    app.url_map.strict_slashes = False  # /sim/ finds /sim
    app.extensions["model_api"] = service
    app.extensions["model_api_settings"] = settings
    guard_of = gate.register(app, settings).guard_of
    app.extensions["model_api_jobs"] = Jobs(
        service, settings, lambda: open_jobs(service, settings, problems.described, guard_of)
    )
    app.extensions["model_api_metrics"] = metrics = metrics or Metrics()
    app.extensions["model_api_history"] = kept or History(settings, metrics)
    responses.register(app)
    problems.register(app, {openai_shape.PREFIX: openai_shape.shaped, **spoken.SHAPES})
    for module in (
        similarity,
        predictions,
        reranking,
        scores,
        models,
        jobs,
        uploads,
        videos,
        history,
        worker,
        openai,
        openai_files,
        summaries_log,
        cache,
        health,
        home,
        docs_page,
        render,
    ):
        app.register_api(module.blueprint)
    for blueprint in spoken.BLUEPRINTS:
        app.register_api(blueprint)
    docs.register(app)
    return app
