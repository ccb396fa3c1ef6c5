"""gunicorn's settings, the same on a laptop and on Beanstalk. One worker: it holds the queue; the models' processes use
the cores."""

import gc
import os
import signal
import threading
from types import FrameType
from typing import Any

import model_api.app
from model_api.errors import SettingsError
from model_api.processes.keeping import keep_model_processes, stop_keeping
from model_api.repository.known_tasks import TASKS
from model_api.settings import Settings
from model_api.tasks import find_task
from model_api.web.logs import logging_config
from model_api.web.server.limits import server_limits

try:
    _settings = Settings.from_env()
    server_limits(_settings)  # can the machine hold what the settings ask for?
except SettingsError as error:
    raise SystemExit(f"settings: {error}") from None

_host = f"[{_settings.bind}]" if ":" in _settings.bind else _settings.bind  # IPv6
bind = f"{_host}:{_settings.port}"
wsgi_app = "application:application"
workers = 1
worker_class = "model_api.web.server.worker.Worker"
backlog = 512
preload_app = False  # a fork after the manager's threads began would lose them
# The worker's main thread only waits for clients; if it is stuck this long, something is badly wrong.
timeout = 30
# From SIGTERM to the end: the balancer's notice, then the slowest request.
graceful_timeout = int(_settings.drain_delay_s + _settings.request_timeout_s + 10)
control_socket_disable = True  # nothing but HTTP controls this process
accesslog = None  # the application writes one JSON line per request
errorlog = "-"
logconfig_dict = logging_config(_settings.log_level, _settings.log_format)
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: S108, PTH112 - the heartbeat file must not wait for a disk


def on_starting(server: Any) -> None:
    """In the arbiter, before there is a web process: what one needs is imported here once, so that the next one starts
    in a moment; and model processes outlive it."""
    for name in TASKS:
        find_task(name)
    gc.collect()
    gc.freeze()  # a collection in a web process must not touch (and copy) the pages of what is imported
    keep_model_processes()


def on_exit(server: Any) -> None:
    stop_keeping()


def post_worker_init(worker: Any) -> None:
    """Drain on SIGTERM: unready first, and stop only after the balancer had time to notice."""

    def drain(number: int, frame: FrameType | None) -> None:
        model_api.app.drain_app(worker.wsgi)
        timer = threading.Timer(_settings.drain_delay_s, worker.handle_exit, (number, frame))
        timer.daemon = True
        timer.start()

    signal.signal(signal.SIGTERM, drain)


def worker_exit(server: Any, worker: Any) -> None:
    """The last requests are answered: end jobs and model processes."""
    if worker.wsgi is not None:
        model_api.app.stop_app(worker.wsgi)
