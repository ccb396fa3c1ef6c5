"""Now and then: is what the lanes run from still what was published? In a child of the leader's, in idle time."""

import logging
import os

import numpy as np

from model_api.local_store.parallel_copy import wrong_files
from model_api.processes.model_side.bring_up import Loaded
from model_api.processes.model_side.limits import run_in_the_background
from model_api.processes.spec import LeaderSpec

log = logging.getLogger(__name__)

DAMAGED = 3  # exit status: the version must be loaded anew, which verifies the copy and fetches it again


def recheck(spec: LeaderSpec, loaded: Loaded) -> None:
    """Ends the process with DAMAGED unless every file has its digest's hash, and the resident weights (the pages that
    all lanes share) give the outputs that they gave when they were loaded."""
    run_in_the_background()
    wrong = wrong_files(spec.manifest.files, loaded.folder)
    what = f"{wrong[0].path} has another content than its manifest says" if wrong else ""
    if not wrong and loaded.model.fork_safe:
        outputs = loaded.model.forward(loaded.trial_arrays, loaded.trial_parameters)
        same = all(np.allclose(a, b, rtol=1e-3, atol=1e-4) for a, b in zip(outputs, loaded.trial_outputs, strict=True))
        what = "" if same else "its resident weights give other outputs than when they were loaded"
    if what:
        fields = {"model": spec.manifest.model, "version": spec.manifest.version, "what": what}
        log.error("local copy damaged; loading it anew", extra={"fields": fields})
        os._exit(DAMAGED)
