"""MLServer: a custom runtime, as in https://mlserver.readthedocs.io/en/stable/user-guide/custom.html.

Its HTTP takes JSON only. Its adaptive batching joins tensors of one shape only: see the settings in `serving_servers`.
"""

from __future__ import annotations

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from shared import OUTPUT, session


class Model(MLModel):
    """The model."""

    async def load(self) -> bool:
        self.model = session()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        feeds = {part.name: self.decode(part, default_codec=NumpyCodec) for part in payload.inputs}
        (output,) = self.model.run([OUTPUT], feeds)
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output(OUTPUT, output)])
