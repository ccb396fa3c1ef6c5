"""gunicorn's settings, the same on a laptop and on Beanstalk. One worker: it holds the queue; the models' processes use
the cores."""

import os
import signal
import threading
from types import FrameType
from typing import Any

from model_api.errors import SettingsError
from model_api.settings import Settings
from model_api.web.logs import logging_config

try:
    _settings = Settings.from_env()
except SettingsError as error:
    raise SystemExit(f"settings: {error}") from None

# Threads beyond the queue's capacity, so that "queue full" and the health checks are answered at once.
THREADS_IN_RESERVE = 16

bind = f"{_settings.bind}:{_settings.port}"
wsgi_app = "application:application"
workers = 1
worker_class = "model_api.web.server.worker.ProblemWorker"
threads = (_settings.max_queue_entries + THREADS_IN_RESERVE) * 3 // 2  # a third of them may linger, see the worker
worker_connections = 2 * threads
backlog = 512
preload_app = False  # a fork after the manager's threads began would lose them
# The worker's main thread only passes connections on; if it is stuck this long, something is badly wrong.
timeout = 30
# From SIGTERM to the end: the balancer's notice, then the slowest request.
graceful_timeout = int(_settings.drain_delay_s + _settings.request_timeout_s + 10)
keepalive = 75  # longer than the proxy in front keeps an idle connection, or it would meet a closed one
secure_scheme_headers = {"X-FORWARDED-PROTO": "https"}  # others that a proxy farther out set may contradict it
forwarder_headers = ""  # no header of a caller's (SCRIPT_NAME, PATH_INFO) may say which path was asked
control_socket_disable = True  # nothing but HTTP controls this process
accesslog = None  # the application writes one JSON line per request
errorlog = "-"
logconfig_dict = logging_config(_settings.log_level, _settings.log_format)
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: S108, PTH112 - the heartbeat file must not wait for a disk


def post_worker_init(worker: Any) -> None:
    """Drain on SIGTERM: unready first, and stop only after the balancer had time to notice."""

    def drain(number: int, frame: FrameType | None) -> None:
        from model_api.app import drain_app  # here: the arbiter, which reads this file, needs none of it

        drain_app(worker.wsgi)
        timer = threading.Timer(_settings.drain_delay_s, worker.handle_exit, (number, frame))
        timer.daemon = True
        timer.start()

    signal.signal(signal.SIGTERM, drain)


def worker_exit(server: Any, worker: Any) -> None:
    """The last requests are answered: end jobs and model processes."""
    if worker.wsgi is not None:
        from model_api.app import stop_app

        stop_app(worker.wsgi)
