"""A deployment's repository of images in Amazon ECR: images are pushed there, and go when no version needs them."""

from __future__ import annotations

import base64
from collections.abc import Callable, Set

from lamella.errors import RegistryError, RemoteError
from lamella.packaging.images.building import Image
from lamella.packaging.images.credentials import Credentials
from lamella.packaging.images.pushing import push_image
from lamella.packaging.images.references import parse_reference
from lamella.packaging.images.registry import open_registry
from lamella.targets.aws.account import Account
from lamella.targets.aws.stacks import Progress

_AT_ONCE = 100
"""Deleted by one call. https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_BatchDeleteImage.html"""

_TAG_DIGITS = 16
_MISSING = "RepositoryNotFoundException"


def ecr_login(account: Account) -> Credentials:
    """A password for the account's registry, which holds for twelve hours, or as long as the user's own credentials.

    https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_GetAuthorizationToken.html

    Raises:
        RemoteError: AWS gives none.
    """
    (given,) = account.call("ecr", "get_authorization_token")["authorizationData"]
    user, _, password = base64.b64decode(given["authorizationToken"]).decode().partition(":")
    return Credentials(user, password)


class DeploymentRepository:
    """A repository of the account.

    Args:
        account: Whose it is.
        name: Its name: `lamella/NAME-STAGE`.
        uri: Where images are pushed to: registry and name.
        told: Called with each image that was pushed.
    """

    def __init__(
        self, account: Account, name: str, uri: str = "", *, told: Callable[[Progress], None] | None = None
    ) -> None:
        self._account, self._name, self._uri, self._told = account, name, uri, told or (lambda _: None)

    def push(self, image: Image) -> None:
        """Push an image, but for what is there; with a tag that says which function it is, and is never used again.

        One that is there is left alone: Amazon ECR refuses to write a tag that cannot change, also with the same image.

        Raises:
            RemoteError: AWS gives no password for the registry.
            RegistryError: The registry cannot be reached, or refuses.
        """
        digest = image.manifest.digest.removeprefix("sha256:")
        tag = f"{image.name}-{digest[:_TAG_DIGITS]}"
        target = parse_reference(f"{self._uri}:{tag}")
        try:
            if not open_registry(target, credentials=self._login).has_manifest(tag):
                push_image(image, str(target), credentials=self._login)
                self._told(Progress(image.name, "Image", "PUSH_COMPLETE", ""))
        except RegistryError as error:
            way_out = "`lamella iam-policy` prints what deploying must be allowed" if error.denied else error.hint
            raise RegistryError(f"the image `{image.name}` cannot be pushed: {error}", hint=way_out) from error

    def keep(self, digests: Set[str]) -> None:
        """Delete all images but those with these digests; nothing happens where there is no repository.

        Raises:
            RemoteError: AWS refuses; the text names an image.
        """
        wanted = [{"imageDigest": digest} for digest in sorted(self._digests() - digests)]
        for start in range(0, len(wanted), _AT_ONCE):
            part = wanted[start : start + _AT_ONCE]
            answer = self._account.call("ecr", "batch_delete_image", repositoryName=self._name, imageIds=part)
            failures = [one for one in answer.get("failures", ()) if one["failureCode"] != "ImageNotFound"]
            if failures:
                raise RemoteError(
                    f"the image `{failures[0]['imageId'].get('imageDigest')}` of `{self._name}` cannot be deleted: "
                    f"{failures[0].get('failureReason')}",
                    hint="what is deployed is not concerned; the next deployment tries it again",
                )

    def _digests(self) -> set[str]:
        """The images that are there."""
        if self._account.try_call("ecr", "describe_repositories", _MISSING, repositoryNames=[self._name]) is None:
            return set()
        pages = self._account.pages("ecr", "describe_images", "imageDetails", repositoryName=self._name)
        return {str(entry["imageDigest"]) for entry in pages}

    def _login(self) -> Credentials:
        return ecr_login(self._account)
