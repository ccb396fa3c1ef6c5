"""The HTTP routes, a module per noun. `register_routes` puts them all on an app."""

from flask_openapi3 import OpenAPI


def register_routes(app: OpenAPI) -> None:
    # Here and not above: problems.py, which the routes import, itself imports routes.requests.
    from model_api.web.routes import cache, health, models, predictions, similarity
    from model_api.web.routes import docs as pages
    from model_api.web.routes import scores as scoring

    for module in (similarity, predictions, scoring, models, cache, health):
        app.register_api(module.blueprint)
    pages.register(app)
