"""Which route needs what: one decision for each, and for a route without one nobody's key is enough.

docs/security.md has the same table; tests/web/security/test_scopes.py holds both against the application's routes.
"""

from collections.abc import Mapping

OPEN = frozenset({"open"})  # anybody, always
BY_ADDRESS = frozenset({"address"})  # whoever has the address, which is signed and ends
BY_DAEMON = frozenset({"daemon"})  # the route itself answers 404 to all but the daemon on its own machine

PREDICT = frozenset({"predict"})
JOBS = frozenset({"jobs"})
OWN_JOBS = frozenset({"jobs", "predict"})  # a prediction may become a job, which its caller must find
HISTORY = frozenset({"history"})
STATUS = frozenset({"status"})
MODELS = frozenset({"status", "predict"})  # whoever may ask models may know which there are
OPERATE = frozenset({"operate"})
Need = frozenset[str]  # any one of these scopes, or one of the first three

# "METHOD rule", as the application writes its rules. HEAD is GET, and OPTIONS is open.
DECISIONS: Mapping[str, Need] = {
    "GET /": OPEN,
    "GET /healthz": OPEN,
    "GET /readyz": OPEN,
    "GET /docs": OPEN,
    "GET /docs/<name>": OPEN,
    "GET /openapi.json": OPEN,
    "GET /problems/<slug>": OPEN,
    "GET /static/<name>": OPEN,
    "POST /sim": PREDICT,
    "POST /predict": PREDICT,
    "POST /rerank": PREDICT,
    "POST /score": PREDICT,
    "POST /v1/embeddings": PREDICT,
    "POST /v1/chat/completions": PREDICT,
    "POST /v1/completions": PREDICT,
    "POST /tei/<model>/embed": PREDICT,
    "POST /tei/<model>/rerank": PREDICT,
    "POST /tei/<model>/predict": PREDICT,
    "POST /tei/<model>/similarity": PREDICT,
    "POST /hf/<model>": PREDICT,
    "POST /v2/models/<model>/infer": PREDICT,
    "POST /v2/models/<model>/versions/<version>/infer": PREDICT,
    "POST /invocations": PREDICT,
    "POST /endpoints/<model>/invocations": PREDICT,
    "POST /article/summarize": PREDICT,
    "POST /article/summarize_batch": PREDICT,
    "POST /model/score": PREDICT,
    "POST /online-predict": PREDICT,
    "POST /batch-predict": PREDICT,
    "GET /tei/<model>/info": MODELS,
    "GET /tei/<model>/health": MODELS,
    "GET /v2/models/<model>": MODELS,
    "GET /v2/models/<model>/ready": MODELS,
    "GET /v2/models/<model>/versions/<version>": MODELS,
    "GET /v2/models/<model>/versions/<version>/ready": MODELS,
    "POST /v2/repository/index": MODELS,
    "GET /v2": OPEN,
    "GET /v2/health/live": OPEN,
    "GET /v2/health/ready": OPEN,
    "GET /ping": OPEN,
    "GET /version": OPEN,
    "GET /models": MODELS,
    "GET /models/<name>": MODELS,
    "GET /v1/models": MODELS,
    "GET /v1/models/<path:name>": MODELS,
    "GET /mount_check": STATUS,
    "GET /metrics": STATUS,
    "POST /jobs": JOBS,
    "GET /jobs": OWN_JOBS,
    "GET /jobs/<id>": OWN_JOBS,
    "DELETE /jobs/<id>": OWN_JOBS,
    "GET /jobs/<id>/result": OWN_JOBS,
    "POST /jobs/<id>/retry": OWN_JOBS,
    "POST /uploads": JOBS,
    "GET /uploads": JOBS,
    "GET /uploads/<id>": JOBS,
    "GET /fetch": JOBS,
    "POST /v1/files": JOBS,
    "GET /v1/files": JOBS,
    "GET /v1/files/<file_id>": JOBS,
    "GET /v1/files/<file_id>/content": JOBS,
    "DELETE /v1/files/<file_id>": JOBS,
    "POST /v1/batches": JOBS,
    "GET /v1/batches": JOBS,
    "GET /v1/batches/<batch_id>": JOBS,
    "POST /v1/batches/<batch_id>/cancel": JOBS,
    "PUT /uploads/<id>": BY_ADDRESS,
    "GET /jobs/objects/<kind>/<name>": BY_ADDRESS,
    "POST /worker/jobs": BY_DAEMON,
    "POST /worker/cron/<name>": BY_DAEMON,
    "POST /log": HISTORY,
    "GET /history": HISTORY,
    "GET /history/counts": HISTORY,
    "GET /history/statistics": HISTORY,
    "GET /history/labels": HISTORY,
    "GET /history/samples": HISTORY,
    "GET /history/<id>": HISTORY,
    "PATCH /history/<id>": HISTORY,
    "POST /db/init": HISTORY,
    "POST /log/online": HISTORY,
    "POST /log/batch": HISTORY,
    "GET /sample/pair": HISTORY,
    "GET /sample/pairs": HISTORY,
    "GET /history/list": HISTORY,
    "GET /history/count": HISTORY,
    "GET /history/score": HISTORY,
    "DELETE /cache": OPERATE,
}
WITHOUT_KEY = (OPEN, BY_ADDRESS, BY_DAEMON)
# What MODEL_API_PUBLIC may open, by the words of that setting.
GROUPS: Mapping[str, frozenset[str]] = {
    "metrics": frozenset({"GET /metrics"}),
    "models": frozenset({"GET /models", "GET /models/<name>", "GET /v1/models", "GET /v1/models/<path:name>"})
    | {"GET /mount_check"},
    "ui": frozenset(route for route in DECISIONS if route.startswith("GET /ui")),
}
_NOBODY: Need = frozenset()


def need_of(method: str, rule: str, public: frozenset[str] = frozenset()) -> Need:
    """What a route needs; `public` are the groups that are open."""
    route = f"{'GET' if method == 'HEAD' else method} {rule}"
    if any(route in GROUPS[group] for group in public):
        return OPEN
    return DECISIONS.get(route, _NOBODY)
