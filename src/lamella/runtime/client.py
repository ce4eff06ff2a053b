"""The runtime of the local platform: asks the Lambda Runtime API for events and hands them to a handler.

```console
$ AWS_LAMBDA_RUNTIME_API=127.0.0.1:9001 python -m lamella.runtime.client lamella.runtime.handler.handle
```

AWS provides one with its managed runtimes (`awslambdaric`); the same package runs under either. This one starts in a
few milliseconds, and hands the bytes of an event to what a handler has as its attribute `takes_bytes`.

https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPMessage
from importlib import import_module
from time import time

from lamella.runtime.connection import Connection, RuntimeApiError

_NEXT = "/2018-06-01/runtime/invocation/next"
_INVOCATION = "/2018-06-01/runtime/invocation/{}/{}"
_INIT_ERROR = "/2018-06-01/runtime/init/error"
_TRACE_VARIABLE = "_X_AMZN_TRACE_ID"

Handler = Callable[[bytes, "Context"], bytes]


class FaultError(Exception):
    """What the runtime itself reports: a handler that is not there, an event or answer that is no JSON.

    Attributes:
        kind: The `errorType`, as `awslambdaric` calls it.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True)
class Context:
    """What a handler may know of its invocation, under the names that AWS gives it.

    Attributes:
        aws_request_id: The invocation's id.
        invoked_function_arn: What was invoked.
        deadline_ms: When it is stopped, in milliseconds since 1970.
        function_name: From the environment, as what follows.
        function_version: The version.
        memory_limit_in_mb: The memory.
        log_group_name: Where logs go.
        log_stream_name: Where this instance's logs go.
    """

    aws_request_id: str
    invoked_function_arn: str
    deadline_ms: int
    function_name: str
    function_version: str
    memory_limit_in_mb: str
    log_group_name: str
    log_stream_name: str
    client_context: None = None
    identity: None = None

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until the invocation is stopped; 0 when they are over."""
        return max(0, self.deadline_ms - int(time() * 1000))


def find_handler(name: str) -> Handler:
    """Import `package.module.function`.

    Raises:
        FaultError: There is no such module or function.
        Exception: Whatever importing it raises.
    """
    module_name, dot, function_name = name.replace("/", ".").rpartition(".")
    if not dot:
        raise FaultError("Runtime.MalformedHandlerName", f"Bad handler '{name}': not enough values to unpack")
    try:
        module = import_module(module_name)
    except ImportError as error:
        raise FaultError("Runtime.ImportModuleError", f"Unable to import module '{module_name}': {error}") from error
    except SyntaxError as error:
        raise FaultError("Runtime.UserCodeSyntaxError", f"Syntax error in module '{module_name}': {error}") from error
    function = getattr(module, function_name, None)
    if function is None:
        raise FaultError("Runtime.HandlerNotFound", f"Handler '{function_name}' missing on module '{module_name}'")
    direct: Handler | None = getattr(function, "takes_bytes", None)
    return direct or _with_json(function)


def serve(connection: Connection, handler: Handler) -> None:
    """Answer one invocation after the other, for ever.

    Raises:
        RuntimeApiError: The platform is gone, or wants this process to end.
    """
    while True:
        event, headers = connection.ask("GET", _NEXT, expected=(200,))
        _answer(connection, handler, event, headers)


def _answer(connection: Connection, handler: Handler, event: bytes, headers: HTTPMessage) -> None:
    context = _context(headers)
    _set_trace(headers.get("Lambda-Runtime-Trace-Id"))
    try:
        answer = handler(event, context)
    except Exception as error:  # noqa: BLE001 - whatever a handler raises is the invocation's error, not this process's
        _report(connection, _INVOCATION.format(context.aws_request_id, "error"), error, context.aws_request_id)
        return
    _flush()
    place = _INVOCATION.format(context.aws_request_id, "response")
    # 400: it was stopped in the meantime; 413: it is too large, which the platform has made the invocation's error
    connection.ask("POST", place, answer, expected=(202, 400, 403, 413))


def _context(headers: HTTPMessage) -> Context:
    surroundings = os.environ
    return Context(
        headers.get("Lambda-Runtime-Aws-Request-Id") or "",
        headers.get("Lambda-Runtime-Invoked-Function-Arn") or "",
        int(headers.get("Lambda-Runtime-Deadline-Ms") or 0),
        surroundings.get("AWS_LAMBDA_FUNCTION_NAME", ""),
        surroundings.get("AWS_LAMBDA_FUNCTION_VERSION", ""),
        surroundings.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", ""),
        surroundings.get("AWS_LAMBDA_LOG_GROUP_NAME", ""),
        surroundings.get("AWS_LAMBDA_LOG_STREAM_NAME", ""),
    )


def _with_json(function: Callable[[object, Context], object]) -> Handler:
    def handle(event: bytes, context: Context) -> bytes:
        try:
            parsed = json.loads(event)
        except ValueError as error:
            raise FaultError("Runtime.UnmarshalError", f"Unable to unmarshal input: {error}") from error
        found = function(parsed, context)
        try:
            return json.dumps(found, ensure_ascii=False, separators=(",", ":")).encode()
        except (TypeError, ValueError) as error:
            raise FaultError("Runtime.MarshalError", f"Unable to marshal response: {error}") from error

    return handle


def _set_trace(trace: str | None) -> None:
    if trace:
        os.environ[_TRACE_VARIABLE] = trace
    else:
        os.environ.pop(_TRACE_VARIABLE, None)


def _report(connection: Connection, place: str, error: BaseException, request_id: str) -> None:
    """Write an error to the log, and tell the platform."""
    kind = error.kind if isinstance(error, FaultError) else type(error).__name__
    lines = [] if isinstance(error, FaultError) else traceback.format_tb(error.__traceback__)[1:]
    log = [f"[ERROR] {kind}: {error}", *(["Traceback (most recent call last):"] if lines else [])]
    sys.stdout.write("\n".join(log) + "\n" + "".join(lines))
    _flush()
    document = {"errorMessage": str(error), "errorType": kind, "requestId": request_id, "stackTrace": lines}
    headers = {"Content-Type": "application/json", "Lambda-Runtime-Function-Error-Type": kind}
    connection.ask("POST", place, json.dumps(document).encode(), headers, expected=(202, 400, 403, 413))


def _flush() -> None:
    """What was printed belongs to this invocation's log, so it must be there before the answer is."""
    sys.stdout.flush()
    sys.stderr.flush()


def main(arguments: list[str]) -> int:
    """Serve the handler that `arguments` name; return the exit status when the platform is gone."""
    address = os.environ.get("AWS_LAMBDA_RUNTIME_API")
    if len(arguments) != 1 or not address:
        sys.stderr.write("usage: AWS_LAMBDA_RUNTIME_API=HOST:PORT python -m lamella.runtime.client HANDLER\n")
        return 2
    connection = Connection(address)
    try:
        try:
            handler = find_handler(arguments[0])
        except Exception as error:  # noqa: BLE001 - whatever a module raises is why the function cannot start
            _report(connection, _INIT_ERROR, error, "")
            return 1
        serve(connection, handler)
    except RuntimeApiError as error:
        sys.stderr.write(f"{error}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
