"""`python -m model_api.jobs.run_daily NAME`: a pipeline's job of the day, on a running server, and what came of it.

Twice on one day is once: the second call waits for the same job. Exit codes: 0 done, 1 some rows have errors, 2 wrong
arguments, 3 the job failed or the server can't be asked, 130 interrupted (the job goes on).
"""

import argparse
import json
import sys

from model_api.jobs.files.predictors import Hopeless
from model_api.jobs.files.remote import ask, finished


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="run-daily", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", metavar="NAME", help="a pipeline of the server's MODEL_API_PIPELINES")
    parser.add_argument("--date", metavar="DAY", help="as 2026-12-31; default: today, in UTC")
    parser.add_argument(
        "--url", default="http://127.0.0.1:8000", help="the server (%(default)s), asked with the key in MODEL_API_KEY"
    )
    parser.add_argument("--again", action="store_true", help="try it again, if it failed or was cancelled")
    parsed = parser.parse_args(arguments)
    base = parsed.url.rstrip("/") + "/"
    body = {"kind": "daily", "pipeline": parsed.name, **({"date": parsed.date} if parsed.date else {})}
    try:
        job = ask("POST", f"{base}jobs", body)
        if parsed.again and job["status"] in ("failed", "cancelled"):
            ask("POST", f"{base}jobs/{job['id']}/retry", {})
        job = finished(base, job["id"], _show)
        print(json.dumps(ask("GET", f"{base}jobs/{job['id']}/result"), indent=1))
    except (Hopeless, OSError) as error:
        print(f"run-daily: {error}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        print("run-daily: interrupted; the job goes on", file=sys.stderr)
        return 130
    return 1 if job["progress"].get("errors") else 0


def _show(done: int, total: int) -> None:
    print(f"run-daily: {done} of {total} rows", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
