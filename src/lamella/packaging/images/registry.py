"""A repository of images in a registry: Amazon ECR, Docker Hub, or any other that follows OCI's specification.

Blobs are streamed between disk and network, never held in memory. A connection that breaks is made again: pulling goes
on where it ended, and so does pushing where the registry has kept what it got. (`oras` on PyPI was considered: it holds
pushed blobs in memory, does not verify what it pulls, and neither mounts nor resumes.)

https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO, Literal, cast
from urllib.parse import quote, urljoin

from lamella.errors import MissingDependencyError, RegistryError
from lamella.packaging.images.blobs import (
    BLOCK_BYTES,
    INDEX,
    LARGEST_DOCUMENT_BYTES,
    MANIFEST,
    Blobs,
    Descriptor,
    NewBlob,
    digest_of_bytes,
)
from lamella.packaging.images.credentials import Credentials, Login, find_credentials
from lamella.packaging.images.references import Reference

if TYPE_CHECKING:
    from lamella.packaging.images.session import RegistrySession, Response

CHUNK_BYTES = 16 << 20
"""What one request pushes: Amazon ECR takes parts of 5 to 20 MiB, and what a broken connection costs is one such."""

_ACCEPTED = (
    MANIFEST,
    INDEX,
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_UPLOADED = Literal["there", "mounted", "sent"]


def open_registry(
    reference: Reference, *, credentials: Credentials | Login | None = None, plain_http: bool = False
) -> Registry:
    """The repository of an image. Nothing is asked of the registry yet.

    Args:
        reference: The image.
        credentials: Who asks, or what says so anew when the registry wants to know; by default whoever logged in to
            this registry with docker or podman.
        plain_http: Speak HTTP without TLS also to a registry that is not on this machine.

    Raises:
        MissingDependencyError: The extra `oci` is not installed.
        RegistryError: The credentials that are kept on this machine cannot be read.
    """
    try:
        from lamella.packaging.images.session import RegistrySession
    except ImportError as error:
        raise MissingDependencyError("registries need `urllib3`", hint="pip install 'lamella[oci]'") from error
    known = credentials or find_credentials(reference.address)
    return Registry(RegistrySession(reference.address, credentials=known, plain_http=plain_http), reference)


class Registry:
    """One repository, and an image in it.

    Attributes:
        name: The image's name.
        reference: The image.

    Args:
        session: Connections to its registry.
        reference: The image.
    """

    def __init__(self, session: RegistrySession, reference: Reference) -> None:
        self.reference, self.name, self._session = reference, str(reference), session
        self._base = f"{session.origin}/v2/{reference.repository}"
        self._scopes = {
            right: f"repository:{reference.repository}:{right}" for right in ("pull", "pull,push", "delete")
        }

    def manifest(self, digest: str | None = None) -> tuple[bytes, str]:
        """A manifest or index with its media type: the image's, or the one with a digest.

        Raises:
            RegistryError: There is none, or it is not what its digest says.
        """
        wanted = digest or self.reference.manifest
        response = self._ask("GET", f"manifests/{wanted}", "pull", (200,), headers={"Accept": ", ".join(_ACCEPTED)})
        content = self._content(response)
        if wanted.startswith("sha256:") and digest_of_bytes(content) != wanted:
            raise RegistryError(
                f"`{self.name}`: manifest `{wanted}` came as `{digest_of_bytes(content)}`",
                hint="do not trust this registry",
            )
        return content, response.headers.get("Content-Type", "").partition(";")[0].strip()

    def has_manifest(self, reference: str) -> bool:
        """Whether there is an image under a tag or digest."""
        headers = {"Accept": ", ".join(_ACCEPTED)}
        return self._head(f"manifests/{reference}", headers) is not None

    def fetch(self, blob: Descriptor, blobs: Blobs) -> None:
        """Pull a blob, and verify it. Where the connection breaks, it goes on from there.

        Raises:
            RegistryError: The registry is unreachable, or has no such blob.
            PackageError: It is not what its digest says.
        """
        patience = self._session.patience()
        with blobs.new(blob) as target:
            while True:
                before = target.size
                try:
                    self._read(blob, target)
                    return
                except RegistryError as error:
                    if target.size > before:
                        patience.renew()
                    patience.wait(error)

    def _read(self, blob: Descriptor, target: NewBlob) -> None:
        from urllib3.exceptions import HTTPError

        from lamella.packaging.images.session import unreachable

        begun = {"Range": f"bytes={target.size}-"} if target.size else {}
        url, scope = f"{self._base}/blobs/{blob.digest}", self._scopes["pull"]
        response = self._session.once("GET", url, scope=scope, expected=(200, 206), headers=begun)
        skipped = target.size if response.status == 200 else 0  # it takes no ranges
        try:
            for block in response.stream(BLOCK_BYTES, decode_content=False):
                target.write(block[skipped:])
                skipped = max(0, skipped - len(block))
                if target.size > blob.size:
                    return  # more than there should be: refused by its digest
        except HTTPError as error:
            raise unreachable(self._session.address, error) from error
        finally:
            response.close()

    def has_blob(self, blob: Descriptor) -> bool:
        """Whether the repository has a blob."""
        return self._head(f"blobs/{blob.digest}", {}) is not None

    def push_blob(self, blob: Descriptor, path: Path, *, mount_from: str | None = None) -> _UPLOADED:
        """Push a blob, unless the repository has it.

        Args:
            blob: What it is.
            path: Where it lies.
            mount_from: Another repository of this registry that has it: then nothing need be sent.

        Returns:
            Whether it was there, was mounted, or had to be sent.

        Raises:
            RegistryError: The registry is unreachable or refuses, or finds another digest.
        """
        if self.has_blob(blob):
            return "there"
        upload = self._begun(blob, mount_from)
        if upload is None:
            return "mounted"
        patience, reached = self._session.patience(), 0
        while True:
            try:
                self._send(upload, blob, path)
                return "sent"
            except RegistryError as error:
                patience.wait(error)
            if self.has_blob(blob):  # the answer alone was lost
                return "sent"
            upload = self._resumed(upload) or self._begun(blob, None) or upload
            if upload.done > reached:
                reached = upload.done
                patience.renew()

    def push_manifest(self, content: bytes, media_type: str, *, tag: str | None = None) -> str:
        """Push a manifest whose blobs are there, under its digest and a tag.

        Returns:
            Its digest.

        Raises:
            RegistryError: The registry is unreachable or refuses, or finds another digest.
        """
        digest = digest_of_bytes(content)
        for name in (digest, tag) if tag else (digest,):
            response = self._ask("PUT", f"manifests/{name}", "pull,push", (201,), {"Content-Type": media_type}, content)
            self._content(response)
            found = response.headers.get("Docker-Content-Digest", digest)
            if found != digest:
                raise RegistryError(f"`{self.name}`: manifest `{digest}` arrived as `{found}`", hint="push it again")
        return digest

    def delete_manifest(self, digest: str) -> None:
        """Delete an image, whatever tags it has.

        Raises:
            RegistryError: There is none, or the registry deletes nothing.
        """
        self._content(self._ask("DELETE", f"manifests/{digest}", "delete", (202,)))

    def _begun(self, blob: Descriptor, mount_from: str | None) -> _Upload | None:
        """A new upload; None where the blob could be mounted instead."""
        query = f"?mount={quote(blob.digest, safe='')}&from={quote(mount_from, safe='')}" if mount_from else ""
        headers = {"Content-Length": "0"}
        response = self._ask("POST", f"blobs/uploads/{query}", "pull,push", (201, 202), headers, b"")
        self._content(response)
        if response.status == 201:
            return None
        least = response.headers.get("OCI-Chunk-Min-Length", "")
        chunk = max(CHUNK_BYTES, int(least)) if least.isdecimal() else CHUNK_BYTES
        return _Upload(self._location(response, f"{self._base}/blobs/uploads/"), 0, chunk)

    def _send(self, upload: _Upload, blob: Descriptor, path: Path) -> None:
        """Send what the registry does not have yet, chunk by chunk, and close the upload."""
        scope = self._scopes["pull,push"]
        with path.open("rb") as file:
            while upload.done < blob.size:
                upload.advance(self._send_chunk(upload, file, blob.size))
        mark = "&" if "?" in upload.url else "?"
        url = f"{upload.url}{mark}digest={quote(blob.digest, safe='')}"
        headers = {"Content-Length": "0", "Content-Type": "application/octet-stream"}
        self._content(self._session.once("PUT", url, scope=scope, expected=(201,), headers=headers, body=lambda: b""))

    def _send_chunk(self, upload: _Upload, file: BinaryIO, size: int) -> tuple[str, int]:
        end = min(size, upload.done + upload.chunk_bytes)
        headers = {
            "Content-Length": str(end - upload.done),
            "Content-Range": f"{upload.done}-{end - 1}",
            "Content-Type": "application/octet-stream",
        }
        response = self._session.once(
            "PATCH",
            upload.url,
            scope=self._scopes["pull,push"],
            expected=(202,),
            headers=headers,
            body=lambda: cast("IO[bytes]", _Span(file, upload.done, end)),
        )
        self._content(response)
        return self._location(response, upload.url), end

    def _resumed(self, upload: _Upload) -> _Upload | None:
        """The upload from where the registry has it; None where it knows no more of it."""
        try:
            response = self._session.ask("GET", upload.url, scope=self._scopes["pull,push"], expected=(204,))
        except RegistryError as error:
            if error.temporary:
                raise
            return None
        self._content(response)
        _, _, last = response.headers.get("Range", "0-0").rpartition("-")
        done = int(last) + 1 if last.isdecimal() and int(last) > 0 else 0
        return replace(upload, url=self._location(response, upload.url), done=done)

    def _head(self, path: str, headers: dict[str, str]) -> Response | None:
        response = self._ask("HEAD", path, "pull", (200, 404), headers)
        response.drain_conn()
        return response if response.status == 200 else None

    def _ask(
        self,
        method: str,
        path: str,
        right: str,
        expected: tuple[int, ...],
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
    ) -> Response:
        url = f"{self._base}/{path}"
        return self._session.ask(method, url, scope=self._scopes[right], expected=expected, headers=headers, body=body)

    def _content(self, response: Response) -> bytes:
        from lamella.packaging.images.session import read_answer

        return read_answer(response, self._session.address, LARGEST_DOCUMENT_BYTES)

    def _location(self, response: Response, asked: str) -> str:
        """Where an upload goes on: a registry may say so relative to what was asked."""
        return urljoin(asked, response.headers.get("Location", asked))


@dataclass
class _Upload:
    """An upload that is under way: where it goes on, how many bytes the registry has, how many it takes at once."""

    url: str
    done: int
    chunk_bytes: int

    def advance(self, reached: tuple[str, int]) -> None:
        self.url, self.done = reached


class _Span:
    """Bytes of a file from one position to another, as a body that is sent."""

    def __init__(self, file: BinaryIO, start: int, end: int) -> None:
        self._file, self._left = file, end - start
        file.seek(start)

    def read(self, size: int = -1, /) -> bytes:
        block = self._file.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(block)
        return block
