"""The HTTP routes, a module per noun. `register_routes` puts them all on an app."""

from flask_openapi3 import OpenAPI


def register_routes(app: OpenAPI) -> None:
    # Here and not above: problems.py, which the routes import, itself imports routes.requests.
    from model_api.routes import health, models, pages, predictions, similarity

    for module in (similarity, predictions, models, health):
        app.register_api(module.blueprint)
    pages.register(app)
