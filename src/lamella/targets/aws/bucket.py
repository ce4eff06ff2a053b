"""A deployment's bucket: its packages, and the record of what is deployed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from lamella.errors import RemoteError
from lamella.targets.aws.account import Account

_AT_ONCE = 1000  # deleted by one call: S3's limit
_MISSING = ("404", "NoSuchKey", "NotFound", "NoSuchBucket")


class DeploymentBucket:
    """A bucket of the account.

    Args:
        account: Whose it is.
        name: Its name.
    """

    def __init__(self, account: Account, name: str) -> None:
        self._account, self.name = account, name

    @property
    def uri(self) -> str:
        """The bucket as a store."""
        return f"s3://{self.name}"

    def size(self, key: str) -> int | None:
        """Bytes of an object; None if there is none."""
        found = self._account.try_call("s3", "head_object", *_MISSING, Bucket=self.name, Key=key)
        return None if found is None else int(found["ContentLength"])

    def read(self, key: str) -> bytes | None:
        """An object; None if there is none."""
        found = self._account.try_call("s3", "get_object", *_MISSING, Bucket=self.name, Key=key)
        return None if found is None else bytes(found["Body"].read())

    def write(self, key: str, content: bytes) -> str:
        """Write an object; returns its URL."""
        self._account.call("s3", "put_object", Bucket=self.name, Key=key, Body=content)
        return self.url(key)

    def upload(self, path: Path, key: str) -> None:
        """Put a file there."""
        self._account.upload(str(path), self.name, key)

    def url(self, key: str) -> str:
        """Where AWS's own services find an object."""
        return f"https://{self.name}.s3.{self._account.region}.amazonaws.com/{key}"

    def keys(self, prefix: str) -> list[str]:
        """The keys below a prefix."""
        pages = self._account.pages("s3", "list_objects_v2", "Contents", Bucket=self.name, Prefix=prefix)
        return [str(entry["Key"]) for entry in pages]

    def remove(self, keys: list[str]) -> None:
        """Delete objects; earlier versions of them expire."""
        self._delete([{"Key": key} for key in keys])

    def empty(self) -> None:
        """Delete every version of every object, and uploads that broke off; nothing if there is no bucket."""
        if self._account.try_call("s3", "head_bucket", *_MISSING, Bucket=self.name) is None:
            return
        for kind in ("Versions", "DeleteMarkers"):
            pages = self._account.pages("s3", "list_object_versions", kind, Bucket=self.name)
            self._delete([{"Key": entry["Key"], "VersionId": entry["VersionId"]} for entry in pages])
        for upload in self._account.pages("s3", "list_multipart_uploads", "Uploads", Bucket=self.name):
            known = {"Bucket": self.name, "Key": upload["Key"], "UploadId": upload["UploadId"]}
            self._account.call("s3", "abort_multipart_upload", **known)

    def _delete(self, entries: Sequence[Mapping[str, str]]) -> None:
        for start in range(0, len(entries), _AT_ONCE):
            wanted = {"Objects": list(entries[start : start + _AT_ONCE]), "Quiet": True}
            refused = self._account.call("s3", "delete_objects", Bucket=self.name, Delete=wanted).get("Errors", ())
            if refused:
                first = refused[0]
                raise RemoteError(
                    f"`s3://{self.name}/{first.get('Key')}` cannot be deleted: {first.get('Code')}",
                    hint="see what the bucket's policy and its locks allow",
                )
