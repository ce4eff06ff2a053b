"""What LocalStack lacks of file systems: EFS and S3 Files in CloudFormation and in functions, and EFS's own API.

A file system is a folder of this machine. A function sees it at its `LocalMountPath`, read-only unless its role may
write, in a mount namespace of its own. S3 Files is a folder that is filled from the bucket when an instance starts.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import ClassVar

from localstack.aws.connect import connect_to
from localstack.aws.skeleton import Skeleton
from localstack.aws.spec import load_service
from localstack.services.cloudformation.resource_provider import (
    OperationStatus,
    ProgressEvent,
    ResourceProvider,
    ResourceProviderExecutor,
)
from localstack.services.lambda_.resource_providers.aws_lambda_function import LambdaFunctionProvider
from localstack.services.moto import call_moto
from localstack.services.plugins import SERVICE_PLUGINS, Service
from localstack.utils.bootstrap import get_enabled_apis

_MOTO = ("efs", "service-quotas")  # which LocalStack holds, and does not serve
_MOUNT = """
set -e
mount -t tmpfs tmpfs /mnt
mkdir -p "$2"
mount --bind "$1" "$2"
[ "$3" = writable ] || mount -o remount,bind,ro "$2"
shift 3
exec "$@"
"""


@dataclass
class FileSystem:
    """A folder; of S3 Files, with the place in a bucket that it shows."""

    folder: Path
    bucket: str | None = None
    prefix: str = ""

    def fill(self, region):
        """As S3 Files: what is in the bucket is seen as files."""
        if self.bucket is None:
            return
        client = connect_to(region_name=region).s3
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self.prefix):
            for entry in page.get("Contents", ()):
                path = self.folder / entry["Key"].removeprefix(self.prefix)
                path.parent.mkdir(parents=True, exist_ok=True)
                client.download_file(self.bucket, entry["Key"], str(path))


_systems: dict[str, FileSystem] = {}  # by id
_points: dict[str, str] = {}  # ids of file systems, by ARN of an access point
_mounts: dict[str, list[dict[str, str]]] = {}  # FileSystemConfigs, by function


def fill_file_systems(folder):
    """Let stacks hold file systems, whose folders lie in `folder`, and functions mount them."""
    _Provider.root = Path(folder)
    for name in _MOTO:
        spec = load_service(name)
        table = {operation: lambda context, _: call_moto(context) for operation in spec.operation_names}
        SERVICE_PLUGINS.api_provider_specs[name] = [SERVICE_PLUGINS.get_default_provider()]
        get_enabled_apis.cache_clear()
        SERVICE_PLUGINS.add_service(Service(name, skeleton=Skeleton(spec, table)))
    ResourceProviderExecutor.try_load_resource_provider = staticmethod(_provider)
    LambdaFunctionProvider.create, LambdaFunctionProvider.update = _create_function, _update_function


def mounting(version, command):
    """The command of a function's instance, in a mount namespace with its file system."""
    for config in _mounts.get(version.id.function_name, ()):
        if not _may(version, "ClientMount"):
            raise PermissionError(f"{version.config.role} may not mount {config['Arn']}")
        system = _systems[_points[config["Arn"]]]
        system.fill(version.id.region)
        access = "writable" if _may(version, "ClientWrite") else "readable"
        start = ["unshare", "--mount", "--propagation", "private", "/bin/sh", "-c", _MOUNT, "sh"]
        command = [*start, str(system.folder), config["LocalMountPath"], access, *command]
    return command


def _may(version, action):
    client, role = connect_to(region_name=version.id.region).iam, version.config.role.rpartition("/")[2]
    policies = client.list_role_policies(RoleName=role)["PolicyNames"]
    found = [client.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"] for name in policies]
    return any(f'"{service}:{action}"' in json.dumps(found) for service in ("elasticfilesystem", "s3files"))


_loaded = ResourceProviderExecutor.try_load_resource_provider


def _provider(kind):
    return _PROVIDERS[kind]() if kind in _PROVIDERS else _loaded(kind)


_created, _updated = LambdaFunctionProvider.create, LambdaFunctionProvider.update


def _create_function(self, request):
    _mounts[request.desired_state["FunctionName"]] = request.desired_state.get("FileSystemConfigs", [])
    return _created(self, request)


def _update_function(self, request):
    _mounts[request.desired_state["FunctionName"]] = request.desired_state.get("FileSystemConfigs", [])
    return _updated(self, request)


def _done(model):
    return ProgressEvent(status=OperationStatus.SUCCESS, resource_model=model)


class _Provider(ResourceProvider):
    root = Path()

    def update(self, request):
        return _done({**request.previous_state, **request.desired_state})

    def folder(self, system):
        """A new one for a file system."""
        path = self.root / system
        path.mkdir(parents=True)
        return path

    def remove(self, system):
        shutil.rmtree(_systems.pop(system).folder)


class _Efs(_Provider):
    SCHEMA: ClassVar = {
        "primaryIdentifier": ["/properties/FileSystemId"],
        "createOnlyProperties": ["/properties/Encrypted"],
    }

    def create(self, request):
        wanted = request.desired_state
        found = request.aws_client_factory.efs.create_file_system(
            CreationToken=token_hex(8),
            Encrypted=wanted["Encrypted"],
            ThroughputMode=wanted["ThroughputMode"],
            Tags=wanted["FileSystemTags"],
        )
        system = found["FileSystemId"]
        _systems[system] = FileSystem(self.folder(system))
        return _done({**wanted, "FileSystemId": system, "Arn": found["FileSystemArn"]})

    def delete(self, request):
        system = request.desired_state["FileSystemId"]
        request.aws_client_factory.efs.delete_file_system(FileSystemId=system)
        self.remove(system)
        return _done({})


class _EfsPoint(_Provider):
    SCHEMA: ClassVar = {
        "primaryIdentifier": ["/properties/AccessPointId"],
        "createOnlyProperties": ["/properties/FileSystemId", "/properties/PosixUser", "/properties/RootDirectory"],
    }

    def create(self, request):
        wanted = request.desired_state
        found = request.aws_client_factory.efs.create_access_point(
            ClientToken=token_hex(8), FileSystemId=wanted["FileSystemId"], Tags=wanted["AccessPointTags"]
        )
        _points[found["AccessPointArn"]] = wanted["FileSystemId"]
        return _done({**wanted, "AccessPointId": found["AccessPointId"], "Arn": found["AccessPointArn"]})

    def delete(self, request):
        point = request.desired_state["AccessPointId"]
        request.aws_client_factory.efs.delete_access_point(AccessPointId=point)
        del _points[request.desired_state["Arn"]]
        return _done({})


class _EfsTarget(_Provider):
    SCHEMA: ClassVar = {
        "primaryIdentifier": ["/properties/Id"],
        "createOnlyProperties": ["/properties/FileSystemId", "/properties/SubnetId"],
    }

    def create(self, request):
        names = ("FileSystemId", "SubnetId", "SecurityGroups")
        wanted = {name: request.desired_state[name] for name in names}
        found = request.aws_client_factory.efs.create_mount_target(**wanted)
        return _done({**wanted, "Id": found["MountTargetId"]})

    def delete(self, request):
        request.aws_client_factory.efs.delete_mount_target(MountTargetId=request.desired_state["Id"])
        return _done({})


class _S3Files(_Provider):
    SCHEMA: ClassVar = {
        "primaryIdentifier": ["/properties/FileSystemArn"],
        "createOnlyProperties": ["/properties/Bucket", "/properties/Prefix", "/properties/RoleArn"],
    }

    def create(self, request):
        wanted, system = request.desired_state, f"fs-{token_hex(9)[:17]}"
        _systems[system] = FileSystem(self.folder(system), wanted["Bucket"].rpartition(":")[2], wanted["Prefix"])
        arn = f"arn:aws:s3files:{request.region_name}:{request.account_id}:file-system/{system}"
        return _done({**wanted, "FileSystemId": system, "FileSystemArn": arn})

    def delete(self, request):
        self.remove(request.desired_state["FileSystemId"])
        return _done({})


class _S3FilesPoint(_Provider):
    SCHEMA: ClassVar = {
        "primaryIdentifier": ["/properties/AccessPointArn"],
        "createOnlyProperties": ["/properties/FileSystemId", "/properties/PosixUser"],
    }

    def create(self, request):
        wanted = request.desired_state
        arn = f"arn:aws:s3files:{request.region_name}:{request.account_id}:access-point/fsap-{token_hex(9)[:17]}"
        _points[arn] = wanted["FileSystemId"]
        return _done({**wanted, "AccessPointArn": arn})

    def delete(self, request):
        del _points[request.desired_state["AccessPointArn"]]
        return _done({})


class _S3FilesTarget(_Provider):
    SCHEMA: ClassVar = {
        "primaryIdentifier": ["/properties/MountTargetId"],
        "createOnlyProperties": ["/properties/FileSystemId", "/properties/SubnetId"],
    }

    def create(self, request):
        return _done({**request.desired_state, "MountTargetId": f"fsmt-{token_hex(9)[:17]}"})

    def delete(self, request):
        return _done({})


_PROVIDERS = {
    "AWS::EFS::AccessPoint": _EfsPoint,
    "AWS::EFS::FileSystem": _Efs,
    "AWS::EFS::MountTarget": _EfsTarget,
    "AWS::S3Files::AccessPoint": _S3FilesPoint,
    "AWS::S3Files::FileSystem": _S3Files,
    "AWS::S3Files::MountTarget": _S3FilesTarget,
}
