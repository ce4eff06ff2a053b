"""BentoML: a batchable API, as in https://docs.bentoml.com/en/latest/get-started/adaptive-batching.html.

A batchable API takes one parameter: a list with everything that belongs to a request in each item.
"""

from __future__ import annotations

import bentoml
from shared import BATCH, from_text, run_together, session, to_text


@bentoml.service(workers=1, traffic={"timeout": 60})
class Model:
    """The model."""

    def __init__(self):
        self.model = session()

    @bentoml.api(batchable=True, max_batch_size=BATCH, batch_dim=0)
    def infer(self, items: list[str]) -> list[str]:
        found = run_together(self.model, [from_text(item) for item in items])
        return [to_text({"output": output}) for output in found]
