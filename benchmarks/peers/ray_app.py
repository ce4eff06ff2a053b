"""Ray Serve: a deployment with `@serve.batch`, as in https://docs.ray.io/en/latest/serve/advanced-guides/dyn-req-batch.html.

Bytes as they are: the deployment gets Starlette's request.
"""

from __future__ import annotations

import signal

import ray
from ray import serve
from shared import BATCH, PORT, THREADS, pack, run_together, session, unpack
from starlette.requests import Request
from starlette.responses import Response


@serve.deployment(num_replicas=1, max_ongoing_requests=256, ray_actor_options={"num_cpus": 0})
class Model:
    """The model."""

    def __init__(self):
        self.model = session()

    @serve.batch(max_batch_size=BATCH)
    async def infer(self, parts):
        return run_together(self.model, parts)

    async def __call__(self, request: Request) -> Response:
        return Response(pack({"output": await self.infer(unpack(await request.body()))}))


if __name__ == "__main__":
    ray.init(num_cpus=THREADS, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": PORT})
    serve.run(Model.bind())
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    ray.shutdown()
