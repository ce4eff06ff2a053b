"""Triton with a Python model, as in https://triton-inference-server.github.io/pytriton/latest/quick_start.

Triton's own ONNX Runtime backend comes in containers only; what nvidia-pytriton brings runs Python models.
"""

from __future__ import annotations

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig
from shared import BATCH, OUTPUT, PORT, session

TYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64}


def tensors(described) -> list[Tensor]:
    """What the model takes or gives, without the batch's dimension."""
    return [
        Tensor(
            name=one.name, dtype=TYPES[one.type], shape=tuple(n if isinstance(n, int) else -1 for n in one.shape[1:])
        )
        for one in described
    ]


model = session()


@batch
def infer(**feeds):
    """Answer a batch."""
    return model.run([OUTPUT], feeds)


if __name__ == "__main__":
    ports = {"http_port": PORT, "grpc_port": PORT + 1, "metrics_port": PORT + 2}
    with Triton(config=TritonConfig(http_address="127.0.0.1", log_verbose=0, **ports)) as server:
        outputs = [one for one in tensors(model.get_outputs()) if one.name == OUTPUT]
        config = ModelConfig(max_batch_size=BATCH, batcher=DynamicBatcher())
        server.bind("model", infer, inputs=tensors(model.get_inputs()), outputs=outputs, config=config)
        server.serve()
