"""An empty Flask app: what Flask and gunicorn cost by themselves, whatever is answered.

For gunicorn with this project's gunicorn.conf.py: `benchmarks.empty_flask:application`.
"""

from flask import Flask


class _NoService:
    """Stands where gunicorn.conf.py looks for the service to end."""

    def begin_draining(self) -> None: ...

    def stop(self) -> None: ...


application = Flask(__name__)
application.extensions["model_api"] = _NoService()


@application.get("/healthz")
def healthz() -> str:
    return ""


@application.post("/predict")
def predict() -> str:
    return ""
