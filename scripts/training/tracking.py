"""Where a training run is written down: MLflow where it is installed, a JSON file beside the model always."""

import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

EXPERIMENT = "sentiment"


def record_run(parameters: Mapping[str, Any], metrics: Mapping[str, float], path: Path) -> str:
    """Write the run to `path`, and to MLflow (its environment variables say where). Returns where it was written.

    A tracking store that can't be had costs its record, never the model that was just trained.
    """
    path.write_text(json.dumps({"parameters": dict(parameters), "metrics": dict(metrics)}, indent=1) + "\n")
    if importlib.util.find_spec("mlflow") is None:
        return str(path)
    import mlflow

    try:
        mlflow.set_experiment(EXPERIMENT)
        with mlflow.start_run() as run:
            mlflow.log_params(dict(parameters))
            mlflow.log_metrics(dict(metrics))
    except mlflow.exceptions.MlflowException as error:
        return f"{path}, but not to MLflow ({error})"
    return f"{path} and MLflow run {run.info.run_id}"
