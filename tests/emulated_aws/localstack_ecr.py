"""Amazon ECR, which LocalStack lacks: its repositories, with Debian's `docker-registry` for what is in them."""

import base64
import json
import os
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from localstack.aws.api import CommonServiceException
from localstack.aws.api.lambda_ import InvalidParameterValueException
from localstack.aws.skeleton import Skeleton
from localstack.aws.spec import load_service
from localstack.services.cloudformation.resource_provider import OperationStatus, ProgressEvent
from localstack.services.ecr.resource_providers.aws_ecr_repository import ECRRepositoryProvider
from localstack.services.lambda_ import provider
from localstack.services.lambda_.invocation.lambda_models import ImageCode
from localstack.services.plugins import SERVICE_PLUGINS, Service

ADDRESS = os.environ["IMAGES_ADDRESS"]
"""The same on both sides of this network's border."""

_CONFIG = os.environ["IMAGES_CONFIG"]  # empty: there is no registry
_STORED = Path(os.environ["IMAGES_FOLDER"]) / "docker/registry/v2/repositories"
_USER, _HOLDS = f"AWS:{os.environ['IMAGES_PASSWORD']}", timedelta(hours=12)
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"

_repositories = {}


def start() -> None:
    """Start the registry, and have LocalStack offer the service, also to CloudFormation and AWS Lambda."""
    if _CONFIG:
        subprocess.Popen(["docker-registry", "serve", _CONFIG])
    operations = {
        "DescribeRepositories": _describe_repositories,
        "GetAuthorizationToken": _get_authorization_token,
        "DescribeImages": _describe_images,
        "BatchDeleteImage": _batch_delete_image,
    }
    SERVICE_PLUGINS.api_provider_specs["ecr"] = ["default"]
    SERVICE_PLUGINS.add_service(Service("ecr", skeleton=Skeleton(load_service("ecr"), operations)))
    ECRRepositoryProvider.create = _create
    ECRRepositoryProvider.update = _update
    ECRRepositoryProvider.delete = _delete
    provider.create_image_code = _image_code


def _create(_self, request):
    wanted = request.desired_state
    name = wanted["RepositoryName"]
    if name in _repositories:
        raise _refusal("RepositoryAlreadyExistsException", f"The repository '{name}' already exists")
    arn = f"arn:aws:ecr:{request.region_name}:{request.account_id}:repository/{name}"
    _repositories[name] = {"repositoryName": name, "repositoryArn": arn, "repositoryUri": f"{ADDRESS}/{name}"}
    return _done({**wanted, "Arn": arn, "RepositoryUri": f"{ADDRESS}/{name}"})


def _update(_self, request):
    return _done({**request.previous_state, **request.desired_state})


def _delete(_self, request):
    """With what is in it, if it says so."""
    name = request.previous_state["RepositoryName"]
    if not request.previous_state.get("EmptyOnDelete") and _digests(name):
        raise _refusal("RepositoryNotEmptyException", f"The repository '{name}' is not empty")
    _repositories.pop(name, None)
    shutil.rmtree(_STORED / name, ignore_errors=True)
    return _done({})


def _describe_repositories(_context, request):
    names = request.get("repositoryNames") or list(_repositories)
    return {"repositories": [_repository(name) for name in names]}


def _get_authorization_token(_context, _request):
    token = base64.b64encode(_USER.encode()).decode()
    expires = datetime.now(UTC) + _HOLDS
    return {
        "authorizationData": [
            {"authorizationToken": token, "expiresAt": expires, "proxyEndpoint": f"https://{ADDRESS}"}
        ]
    }


def _describe_images(_context, request):
    name = _repository(request["repositoryName"])["repositoryName"]
    found = _digests(name)
    return {
        "imageDetails": [
            {"repositoryName": name, "imageDigest": digest, "imageTags": tags} for digest, tags in found.items()
        ]
    }


def _batch_delete_image(_context, request):
    name = _repository(request["repositoryName"])["repositoryName"]
    there, gone, failures = _digests(name), [], []
    for wanted in request["imageIds"]:
        if wanted["imageDigest"] in there:
            _ask("DELETE", f"{name}/manifests/{wanted['imageDigest']}")
            gone.append(wanted)
        else:
            failures.append({"imageId": wanted, "failureCode": "ImageNotFound", "failureReason": "there is none"})
    return {"imageIds": gone, "failures": failures}


def _image_code(image_uri):
    """AWS Lambda refuses an image that is not there."""
    name, _, digest = image_uri.removeprefix(f"{ADDRESS}/").partition("@")
    if name not in _repositories or digest not in _digests(name):
        raise InvalidParameterValueException(f"Source image {image_uri} does not exist.", Type="User")
    return ImageCode(image_uri=image_uri, repository_type="ECR", code_sha256=digest.removeprefix("sha256:"))


def _repository(name):
    if name not in _repositories:
        raise _refusal("RepositoryNotFoundException", f"The repository with name '{name}' does not exist")
    return _repositories[name]


def _digests(name):
    """The tags of each image, by its digest."""
    found = {}
    answer = _ask("GET", f"{name}/tags/list")
    for tag in [] if answer is None else json.load(answer)["tags"] or ():
        answer = _ask("HEAD", f"{name}/manifests/{tag}")
        if answer is not None:
            found.setdefault(answer.headers["Docker-Content-Digest"], []).append(tag)
    return found


def _ask(method, path):
    """What the registry answers; None where it has no such thing."""
    credentials = base64.b64encode(_USER.encode()).decode()
    headers = {"Authorization": f"Basic {credentials}", "Accept": _MANIFEST}
    try:
        return urlopen(Request(f"http://{ADDRESS}/v2/{path}", headers=headers, method=method), timeout=60)
    except HTTPError as error:
        if error.code == 404:
            return None
        raise


def _refusal(code, message):
    return CommonServiceException(code, message, sender_fault=True)


def _done(model):
    return ProgressEvent(status=OperationStatus.SUCCESS, resource_model=model)
