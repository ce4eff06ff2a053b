"""What the API says of functions, versions and aliases when it is asked to read them."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping, Sequence

from lamella.targets.local.functions import LATEST, Function, Functions, Version
from lamella.targets.local.host import function_arn
from lamella.targets.local.invocation import RefusedError, not_found
from lamella.targets.local.names import split_name

Json = Mapping[str, object]


def answer_read(functions: Functions, path: Sequence[str], qualifier: str | None) -> Json:
    """The answer to a GET below `/functions`.

    Raises:
        RefusedError: There is no such function, version, alias, or operation.
    """
    if not path:
        return {"Functions": [_configuration(f, f.version(LATEST)) for f in functions.all().values()]}
    name, qualifier = split_name(path[0], qualifier)
    function = functions.function(name)
    match list(path[1:]):
        case []:
            version = function.version(qualifier)
            return {
                "Configuration": _configuration(function, version, qualifier),
                "Code": {"RepositoryType": "folder", "Location": version.spec.folder.as_uri()},
                "Concurrency": _concurrency(version),
            }
        case ["configuration"]:
            return _configuration(function, function.version(qualifier), qualifier)
        case ["versions"]:
            latest = function.version(LATEST)
            return {"Versions": [_configuration(function, v, v.label) for v in (latest, *function.numbered)]}
        case ["aliases"]:
            return {"Aliases": [_alias(function, alias) for alias in sorted(function.aliases)]}
        case ["aliases", alias] if alias in function.aliases:
            return _alias(function, alias)
        case ["aliases", alias]:
            raise not_found(function_arn(name, alias))
    raise RefusedError("UnknownOperationException", 404, f"there is no GET {'/'.join(path)}")


def _configuration(function: Function, version: Version, qualifier: str | None = None) -> Json:
    spec = version.spec
    python = ".".join(platform.python_version_tuple()[:2])
    folder = hashlib.sha256(str(spec.folder).encode()).hexdigest()
    return {
        "FunctionName": function.name,
        "FunctionArn": function_arn(function.name, qualifier),
        "Runtime": f"python{python}",
        "Role": "arn:aws:iam::000000000000:role/local",
        "Handler": spec.handler,
        "CodeSize": 0,
        "Description": "",
        "Timeout": round(spec.timeout_s),
        "MemorySize": spec.memory_mb,
        "LastModified": version.modified.strftime("%Y-%m-%dT%H:%M:%S.000+0000"),
        "CodeSha256": folder,
        "Version": version.label,
        "EphemeralStorage": {"Size": spec.temporary_mb},
        "PackageType": "Zip",
        "Architectures": ["arm64" if platform.machine() in ("arm64", "aarch64") else "x86_64"],
        "State": "Active",
        "LastUpdateStatus": "Successful",
    }


def _alias(function: Function, alias: str) -> Json:
    return {
        "AliasArn": function_arn(function.name, alias),
        "Name": alias,
        "FunctionVersion": function.aliases[alias],
        "Description": "",
        "RevisionId": f"{function.name}-{alias}-{function.aliases[alias]}",
    }


def _concurrency(version: Version) -> Json:
    reserved = version.spec.reserved_concurrency
    return {} if reserved is None else {"ReservedConcurrentExecutions": reserved}
