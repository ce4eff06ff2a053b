"""URIs as they may be shown and logged: without what may be a secret."""

from __future__ import annotations

import re

_MASK = "***"
_PASSWORD = re.compile(r"(://[^:/@?]*):\S*@")
_WEBHOOK = re.compile(r"(https?://[^?#]*)[?#].+")
_SETTING = re.compile(r"([?&](?:pass|passwd|password|sslpassword)=)[^&]*")


def shown(uri: str) -> str:
    """A URI without passwords, and without the query of a webhook, where many receivers have their secret.

    Example:
        >>> shown("postgresql://me:secret@host/db?table=results")
        'postgresql://me:***@host/db?table=results'
    """
    found = _PASSWORD.sub(rf"\1:{_MASK}@", uri)
    return _SETTING.sub(rf"\1{_MASK}", _WEBHOOK.sub(rf"\1?{_MASK}", found))
