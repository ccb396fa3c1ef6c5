"""The wiring of the web process: settings, service, metrics, and the HTTP edge over them."""

from flask_openapi3 import Info, OpenAPI

from model_api import problems
from model_api.calls import ModelService
from model_api.metrics import Metrics
from model_api.routes import register_routes, responses
from model_api.routes.requests import ApiRequest
from model_api.routes.schemas import Problem
from model_api.settings import Settings


def build_app(service: ModelService, settings: Settings, metrics: Metrics | None = None) -> OpenAPI:
    """The WSGI app over a service. Starts no thread, reads no file, asks the service nothing."""
    app = OpenAPI(
        "model_api",
        info=Info(
            title="Model API",
            version="1",
            description="Models published once on a shared file system, served by every instance.",
        ),
        security_schemes={},
        validation_error_model=Problem,
        validation_error_callback=problems.raise_invalid_body,
        doc_ui=False,
        static_folder=None,
    )
    app.request_class = ApiRequest
    app.url_map.merge_slashes = False  # a redirect would be an HTML page; //sim is no route
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body_bytes
    app.extensions["model_api"] = service
    app.extensions["model_api_settings"] = settings
    app.extensions["model_api_metrics"] = metrics or Metrics()
    responses.register(app)
    problems.register(app)
    register_routes(app)
    return app
