"""`lamella serve`: a model server."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lamella.cli import output
from lamella.cli.options import ENGINE, Json
from lamella.cli.sizes import parse_size
from lamella.errors import UsageError

if TYPE_CHECKING:
    from lamella.gateway.serving.server import Server

_BATCHING, _REACHED, _LIMITS = "Batching", "Who reaches it", "Limits"


def serve(
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL|DIR|NAME=PATH...", help="`.onnx` files and slices directories.")
    ],
    *,
    host: Annotated[
        str, typer.Option(envvar="LAMELLA_SERVE_HOST", rich_help_panel=_REACHED, help="Where to listen.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, envvar="LAMELLA_SERVE_PORT", rich_help_panel=_REACHED, help="0: any.")
    ] = 8000,
    token_file: Annotated[
        Path | None,
        typer.Option(
            envvar="LAMELLA_TOKEN_FILE",
            rich_help_panel=_REACHED,
            help="Callers must send one of the tokens in this file, one a line.",
            show_default=False,
        ),
    ] = None,
    tls_certificate: Annotated[
        Path | None,
        typer.Option(
            envvar="LAMELLA_TLS_CERTIFICATE", rich_help_panel=_REACHED, help="A PEM file: HTTPS.", show_default=False
        ),
    ] = None,
    tls_key: Annotated[
        Path | None,
        typer.Option(
            envvar="LAMELLA_TLS_KEY", rich_help_panel=_REACHED, help="The key, if in its own file.", show_default=False
        ),
    ] = None,
    max_batch_size: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            envvar="LAMELLA_MAX_BATCH_SIZE",
            rich_help_panel=_BATCHING,
            help="Rows computed together at most; by default as many as measured latency says pays. 1: none.",
            show_default=False,
        ),
    ] = None,
    max_queue_delay_ms: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="MS",
            envvar="LAMELLA_MAX_QUEUE_DELAY_MS",
            rich_help_panel=_BATCHING,
            help="How long a request waits for others at most, if others are about to come; by default up to 5.",
            show_default=False,
        ),
    ] = None,
    padding: Annotated[
        bool,
        typer.Option(
            "--padding/--no-padding",
            envvar="LAMELLA_PADDING",
            rich_help_panel=_BATCHING,
            help="Put texts of different lengths together, where a trial shows that answers stay the same.",
        ),
    ] = True,
    instances: Annotated[
        int,
        typer.Option(
            min=1, metavar="N", envvar="LAMELLA_INSTANCES", rich_help_panel=ENGINE, help="Batches at the same time."
        ),
    ] = 1,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            envvar="LAMELLA_THREADS",
            rich_help_panel=ENGINE,
            help="Threads for one operator; by default the process's share of the CPU, divided among instances.",
            show_default=False,
        ),
    ] = None,
    low_memory: Annotated[
        bool,
        typer.Option(
            "--low-memory", envvar="LAMELLA_LOW_MEMORY", rich_help_panel=ENGINE, help="One slice in memory at a time."
        ),
    ] = False,
    max_queue_size: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="N",
            envvar="LAMELLA_MAX_QUEUE_SIZE",
            rich_help_panel=_LIMITS,
            help="Requests that wait at most; further ones are told to come again.",
        ),
    ] = 1000,
    max_body: Annotated[
        str, typer.Option(metavar="SIZE", envvar="LAMELLA_MAX_BODY", rich_help_panel=_LIMITS, help="Largest body.")
    ] = "256MiB",
    results: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            envvar="LAMELLA_RESULTS",
            rich_help_panel=_LIMITS,
            help="Where requests that are answered later are kept; by default only until the server ends.",
            show_default=False,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Serve models over the Open Inference Protocol, with dynamic batching, until Ctrl-C or SIGTERM."""
    from lamella.gateway.serving.models import sources_of
    from lamella.gateway.serving.server import Listening
    from lamella.gateway.serving.server import serve as run
    from lamella.gateway.serving.settings import Settings

    settings = Settings(
        max_batch_size=max_batch_size,
        max_queue_delay_ms=max_queue_delay_ms,
        max_queue_size=max_queue_size,
        instances=instances,
        threads=threads,
        padding=padding,
        low_memory=low_memory,
    )
    listening = Listening(
        host, port, _tokens(token_file), tls_certificate, tls_key, parse_size(max_body, flag="--max-body"), results
    )
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if listening.is_open_to_others:
        output.warning(f"whoever reaches {host} may ask: say `--token-file` to let in only those who have a token")
    run(sources_of(models, settings), listening, started=_told_json if json else _told)


def _tokens(file: Path | None) -> tuple[str, ...]:
    if file is None:
        return ()
    try:
        lines = file.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"`{file}` cannot be read: {error}", hint="give a text file with one token a line") from error
    tokens = tuple(line.strip() for line in lines if line.strip())
    if not tokens:
        raise UsageError(f"`{file}` holds no token", hint="write one a line, for example of `openssl rand -hex 24`")
    return tokens


def _told_json(server: Server) -> None:
    output.json_object("lamella.serve/1", {"url": server.url, "models": list(server.models.names)})
    output.flush()


def _told(server: Server) -> None:
    output.facts([("url", server.url), ("models", ", ".join(server.models.names))])
    output.flush()
