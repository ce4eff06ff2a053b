"""The messages of `inference.proto`, out of the descriptors that protoc made of it.

They have a pool of descriptors to themselves. What protoc writes for Python puts them into one that a whole process
shares, where those of any other client or server of the same protocol contradict them; and it wants the very version of
protobuf that wrote it.
"""

from __future__ import annotations

from importlib.resources import files

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

_pool = DescriptorPool()
for _file in FileDescriptorSet.FromString(files(__package__).joinpath("inference.protoset").read_bytes()).file:
    _pool.Add(_file)
DESCRIPTOR = _pool.FindFileByName("inference.proto")
globals().update({name: GetMessageClass(kind) for name, kind in DESCRIPTOR.message_types_by_name.items()})
