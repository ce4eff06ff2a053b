"""An image as AWS Lambda runs it: pulled by its digest, every layer verified, `/var/task` unpacked.

    python -m tests.emulated_aws.unpacking REGISTRY/NAME@sha256:DIGEST x86_64 BLOBS FOLDER

`FOLDER/task` is what the function finds in `/var/task` then, and `FOLDER/config.json` how it is run. Lamella's own code
reads the image, in the Python of the tests.
"""

import json
import sys
from pathlib import Path
from typing import Any

from lamella.packaging.images.bases import open_base
from lamella.packaging.images.blobs import Blobs
from lamella.packaging.images.unpacking import apply_layer


def unpack(name: str, architecture: Any, blobs: Blobs, folder: Path) -> None:
    """Unpack an image into a new folder."""
    image = open_base(name, architecture=architecture, blobs=blobs)
    (folder / "task").mkdir(parents=True)
    for layer in image.layers:
        apply_layer(layer, blobs, folder / "task")
    (folder / "config.json").write_text(json.dumps(image.config["config"]))


if __name__ == "__main__":
    unpack(sys.argv[1], sys.argv[2], Blobs(Path(sys.argv[3])), Path(sys.argv[4]))
