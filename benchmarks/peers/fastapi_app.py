"""FastAPI as a course would write it: one endpoint, a session of ONNX Runtime, lists of numbers in JSON."""

from __future__ import annotations

import numpy as np
from fastapi import FastAPI
from pydantic import BaseModel
from shared import OUTPUT, session

app = FastAPI()
model = session()
TYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64}


class Body(BaseModel):
    """A request."""

    inputs: dict[str, list]


@app.post("/predict")
def predict(body: Body):
    """Answer a request."""
    feeds = {one.name: np.array(body.inputs[one.name], TYPES[one.type]) for one in model.get_inputs()}
    (output,) = model.run([OUTPUT], feeds)
    return {"output": output.tolist()}
