"""Our server with the queue emptied first come, first served: what the fair order is compared with.

A size weight of zero leaves arrival as the only thing that decides. For gunicorn: `benchmarks.fifo:application`.
"""

from model_api.serving import scheduling

scheduling.SIZE_WEIGHT = 0

from application import application  # noqa: E402

__all__ = ["application"]
