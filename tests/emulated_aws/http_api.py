"""An HTTP API in front of a function: LocalStack has none, so AWS's own SAM CLI turns requests into events here."""

import json
import sys
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

STAGE = "$default"
_HOST = "a1b2c3.execute-api.us-east-1.amazonaws.com"
_BINARY = ["application/octet-stream"]


@contextmanager
def http_api(lambda_client: Any, function: str, routes: list[str], claims: dict[str, str]) -> Iterator[str]:
    """The URL of a server that does what API Gateway would do for these routes.

    Args:
        lambda_client: Of boto3.
        function: Name or ARN, with an alias behind it.
        routes: Such as `ANY /v2/{path+}`.
        claims: Of the callers' tokens, as a JWT authorizer hands them on.
    """
    flask = pytest.importorskip("flask", reason="flask is not installed (it comes with moto[server])")
    from werkzeug.serving import make_server

    construct = _event_constructor()
    app = flask.Flask(__name__, static_folder=None)

    def answer(**_: str) -> Any:
        rule = flask.request.url_rule
        event = construct(flask.request, 443, _BINARY, stage_name=STAGE, route_key=rule.endpoint)
        # https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html
        event["requestContext"] |= {
            "domainName": _HOST,
            "domainPrefix": _HOST.partition(".")[0],
            "authorizer": {"jwt": {"claims": claims, "scopes": None}},
        }
        found = lambda_client.invoke(FunctionName=function, Payload=json.dumps(event).encode())
        said = json.loads(found["Payload"].read())
        if found.get("FunctionError"):
            return flask.Response('{"message":"Internal Server Error"}', 500, {"Content-Type": "application/json"})
        body = b64decode(said["body"]) if said["isBase64Encoded"] else said["body"]
        return flask.Response(body, said["statusCode"], said["headers"])

    for route in routes:
        method, _, path = route.partition(" ")
        methods = ["GET", "POST", "PUT", "DELETE"] if method == "ANY" else [method]
        app.add_url_rule(path.replace("{path+}", "<path:path>"), route, answer, methods=methods)
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _event_constructor() -> Any:
    folder = Path(sys.prefix) / "emulator"
    if not (folder / "samcli").is_dir():
        pytest.skip("the SAM CLI is not there (pip install --no-deps --target emulator aws-sam-cli)")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        from samcli.local.apigw.event_constructor import construct_v2_event_http
    return construct_v2_event_http
