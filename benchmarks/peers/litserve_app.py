"""LitServe: a `LitAPI` with `batch` and `unbatch`, as in https://lightning.ai/docs/litserve/features/batching."""

from __future__ import annotations

import litserve
from shared import BATCH, PORT, from_text, run_together, session, to_text


class Model(litserve.LitAPI):
    """The model."""

    def setup(self, device):
        self.model = session()

    def decode_request(self, request):
        return from_text(request["tensors"])

    def batch(self, inputs):
        return inputs

    def predict(self, batch):
        return run_together(self.model, batch)

    def unbatch(self, output):
        return output

    def encode_response(self, output):
        return {"tensors": to_text({"output": output})}


if __name__ == "__main__":
    server = litserve.LitServer(Model(max_batch_size=BATCH), accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=PORT, log_level="warning", generate_client_file=False)
