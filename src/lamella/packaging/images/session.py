"""Requests to a registry of images: who asks, what is asked again, and what a refusal means.

https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md
https://distribution.github.io/distribution/spec/auth/token/
"""

from __future__ import annotations

import json
import random
import re
import socket
import ssl
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from time import sleep
from typing import IO
from urllib.parse import urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.exceptions import HTTPError, MaxRetryError

from lamella.errors import RegistryError
from lamella.packaging.images.credentials import Credentials, Login

Response = urllib3.BaseHTTPResponse
Body = bytes | IO[bytes]
"""What is sent: a file is read block by block."""

ATTEMPTS = 6
"""How often something is tried that fails for a reason that may pass."""

_TEMPORARY = (408, 429, 500, 502, 503, 504)
_LONGEST_WAIT_S = 30.0
_TIMEOUT = urllib3.Timeout(connect=15.0, read=120.0)
_PROBE_S = 5.0
_BLOCK_BYTES = 1 << 20
_LARGEST_ANSWER_BYTES = 1 << 20
_PARAMETER = re.compile(r'(\w+)="([^"]*)"')


class Patience:
    """Waits before something is tried again, each time longer, until it was tried often enough.

    Args:
        first_s: The first wait.
    """

    def __init__(self, first_s: float) -> None:
        self._first_s, self._failed = first_s, 0

    def wait(self, failure: RegistryError) -> None:
        """Wait after a failure.

        Raises:
            RegistryError: It is not worth it: the failure itself.
        """
        self._failed += 1
        if not failure.temporary or self._failed == ATTEMPTS:
            raise failure
        longest = min(_LONGEST_WAIT_S, self._first_s * 2**self._failed)
        sleep(failure.after_s if failure.after_s is not None else random.uniform(longest / 2, longest))

    def renew(self) -> None:
        """Something was achieved: count anew."""
        self._failed = 0


class RegistrySession:
    """Connections to one registry.

    Args:
        address: Host, with a port where it has one.
        credentials: Who asks, or what says so anew when the registry wants to know; None: nobody in particular.
        plain_http: Without TLS, also where the registry is not on this machine.
        first_wait_s: How long to wait before something is tried again, the first time.
    """

    def __init__(
        self,
        address: str,
        *,
        credentials: Credentials | Login | None = None,
        plain_http: bool = False,
        first_wait_s: float = 0.5,
    ) -> None:
        self._plain = plain_http or (_is_loopback(address) and not _speaks_tls(address))
        self.address, self._first_wait_s = address, first_wait_s
        self._credentials, self._authorizations = credentials, dict[str, str]()
        self.origin = f"{'http' if self._plain else 'https'}://{address}"
        self._pool = _pool(self.origin)

    def patience(self) -> Patience:
        """For what is tried several times."""
        return Patience(self._first_wait_s)

    def ask(
        self,
        method: str,
        url: str,
        *,
        scope: str,
        expected: tuple[int, ...],
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Response:
        """As `once`, again and again while the failure may pass.

        Raises:
            RegistryError: The registry is unreachable, or refuses.
        """
        patience = self.patience()
        while True:
            try:
                return self.once(
                    method,
                    url,
                    scope=scope,
                    expected=expected,
                    headers=headers,
                    body=None if body is None else lambda: body,
                )
            except RegistryError as error:
                patience.wait(error)

    def once(
        self,
        method: str,
        url: str,
        *,
        scope: str,
        expected: tuple[int, ...],
        headers: Mapping[str, str] | None = None,
        body: Callable[[], Body] | None = None,
    ) -> Response:
        """Send one request, with credentials where the registry wants some; its body has not been read yet.

        Args:
            method: `GET` and so on.
            url: Beginning with `origin`; or elsewhere, where no credentials go.
            scope: What the right is needed for: `repository:NAME:pull`.
            expected: Statuses that mean success.
            headers: Further ones.
            body: Opens what is sent.

        Raises:
            RegistryError: The registry is unreachable, or refuses.
        """
        response = self._sent(method, url, scope, headers, body)
        if self._is_own(url) and (response.status == 401 or self._has_expired(response.status, scope)):
            challenge = "Basic" if response.status == 403 else response.headers.get("WWW-Authenticate", "")
            response.drain_conn()
            self._authorizations[scope] = self._authorized(challenge, scope)
            response = self._sent(method, url, scope, headers, body)
        if response.status not in expected:
            raise _refusal(response, self.address, method, url)
        return response

    def _sent(
        self,
        method: str,
        url: str,
        scope: str,
        headers: Mapping[str, str] | None,
        body: Callable[[], Body] | None,
    ) -> Response:
        sent = {"User-Agent": "lamella", "Accept-Encoding": "identity", **(headers or {})}
        if scope in self._authorizations and self._is_own(url):
            sent["Authorization"] = self._authorizations[scope]
        follows = 3 if method in ("GET", "HEAD") else 0
        try:
            return self._pool.request(
                method,
                url,
                headers=sent,
                body=None if body is None else body(),
                preload_content=False,
                redirect=follows > 0,
                retries=urllib3.Retry(total=follows, connect=0, read=0, redirect=follows, status=0, other=0),
                timeout=_TIMEOUT,
            )
        except HTTPError as error:
            raise unreachable(self.address, error) from error

    def _is_own(self, url: str) -> bool:
        return url.startswith(f"{self.origin}/")

    def _has_expired(self, status: int, scope: str) -> bool:
        """Whether a refusal may mean a password that holds no longer: Amazon ECR answers 403 to one, not 401."""
        known = self._authorizations.get(scope, "")
        return status == 403 and callable(self._credentials) and known.startswith("Basic ")

    def _who(self) -> Credentials | None:
        return self._credentials() if callable(self._credentials) else self._credentials

    def _authorized(self, challenge: str, scope: str) -> str:
        """The header that a registry asks for: a token from its authority, or name and password."""
        kind, _, rest = challenge.partition(" ")
        if kind.lower() == "basic" and (who := self._who()) is not None:
            return who.basic
        asked = dict(_PARAMETER.findall(rest))
        if kind.lower() != "bearer" or "realm" not in asked:
            raise _unauthorized(self.address, "it wants to know who asks")
        return f"Bearer {self._token(asked['realm'], asked.get('service'), scope)}"

    def _token(self, realm: str, service: str | None, scope: str) -> str:
        if urlsplit(realm).scheme != "https" and not self._plain:
            raise RegistryError(
                f"`{self.address}` sends to `{realm}` for a token, without TLS", hint="do not trust this registry"
            )
        query = urlencode({**({"service": service} if service else {}), "scope": scope})
        headers = {} if (who := self._who()) is None else {"Authorization": who.basic}
        url = f"{realm}{'&' if '?' in realm else '?'}{query}"
        try:
            response = self._pool.request("GET", url, headers=headers, retries=False, timeout=_TIMEOUT)
        except HTTPError as error:
            raise unreachable(urlsplit(realm).netloc, error) from error
        if response.status != 200:
            raise _refusal(response, self.address, "GET", realm)
        try:
            found = json.loads(response.data)
            return str(found.get("token") or found["access_token"])
        except (ValueError, KeyError, AttributeError) as error:
            raise RegistryError(f"`{realm}` gives no token that can be read", hint="try again") from error


def unreachable(address: str, error: HTTPError) -> RegistryError:
    """What a broken or missing connection means. It may pass, unless the other side cannot be trusted."""
    reason = error.reason if isinstance(error, MaxRetryError) and error.reason is not None else error
    trusted = not isinstance(reason, urllib3.exceptions.SSLError)
    hint = "check the name and the network"
    if not trusted:
        hint = "let `SSL_CERT_FILE` name the authority that it trusts; a registry without TLS needs `--plain-http`"
    return RegistryError(f"registry `{address}`: {reason}", hint=hint, temporary=trusted)


def read_answer(response: Response, address: str, most: int) -> bytes:
    """All of a small answer.

    Raises:
        RegistryError: It is larger than `most` bytes, or breaks off.
    """
    try:
        content = response.read(most + 1, decode_content=False)
        response.drain_conn() if len(content) <= most else response.close()
    except HTTPError as error:
        raise unreachable(address, error) from error
    if len(content) > most:
        raise RegistryError(f"`{address}` answers with more than {most:,} bytes", hint="do not trust this registry")
    return content


def _pool(origin: str) -> urllib3.PoolManager:
    context = ssl.create_default_context()  # `SSL_CERT_FILE` names further authorities
    parts = urlsplit(origin)
    proxy = None if proxy_bypass(parts.netloc) else getproxies().get(parts.scheme)
    if proxy and not _is_loopback(parts.netloc):
        return urllib3.ProxyManager(proxy, ssl_context=context, blocksize=_BLOCK_BYTES)
    return urllib3.PoolManager(ssl_context=context, blocksize=_BLOCK_BYTES)


def _is_loopback(address: str) -> bool:
    host = urlsplit(f"//{address}").hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _speaks_tls(address: str) -> bool:
    """Whether a registry on this machine, which needs no TLS, has it all the same."""
    parts = urlsplit(f"//{address}")
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # nothing is said to it here
    try:
        with (
            socket.create_connection((parts.hostname or "", parts.port or 443), _PROBE_S) as plain,
            context.wrap_socket(plain),
        ):
            return True
    except OSError:
        return False


def _refusal(response: Response, address: str, method: str, url: str) -> RegistryError:
    said = _said(response)
    if response.status in (401, 403):
        return _unauthorized(address, said)
    place = urlsplit(url).path
    text = f"registry `{address}` answers {response.status} to {method} `{place}`: {said}"
    if response.status == 404:
        return RegistryError(text, hint="check the name; in some registries, as Amazon ECR, it must be made first")
    after = response.headers.get("Retry-After", "")
    after_s = min(float(after), _LONGEST_WAIT_S) if after.isdecimal() else None
    temporary = response.status in _TEMPORARY
    return RegistryError(
        text, hint="try again later" if temporary else "see what it says", temporary=temporary, after_s=after_s
    )


def _unauthorized(address: str, said: str) -> RegistryError:
    return RegistryError(
        f"registry `{address}` refuses: {said}",
        hint=f"log in with a user who may do this: `podman login {address}` or `docker login {address}`; of Amazon ECR "
        "the user is `AWS`, the password that of `aws ecr get-login-password`",
        denied=True,
    )


def _said(response: Response) -> str:
    """What the registry gives as a reason, in its own words."""
    try:
        content = response.read(_LARGEST_ANSWER_BYTES, decode_content=False)
        errors = json.loads(content)["errors"]
        return "; ".join(f"{error['code']} {error.get('message') or ''}".strip() for error in errors)
    except (HTTPError, ValueError, KeyError, TypeError):
        return response.reason or "no reason given"
    finally:
        response.close()
