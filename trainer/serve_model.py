"""Trained models behind an OpenAI-compatible endpoint: one process, several checkpoints, told apart by `model`."""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import torch
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from trainer.chat import RequestError, completion, make_job, read_request, shape, stream
from trainer.engine import Engine, Piece, TooBusy
from trainer.errors import ConfigError
from trainer.progress import quiet
from trainer.served import Served, load_served


def serve(folders: Sequence[Path], names: Sequence[str], host: str, port: int, max_batch: int, wait: float) -> None:
    """Loads every checkpoint, then answers until interrupted. Raises `TrainerError` for one that cannot be loaded."""
    quiet()
    # A core is left to the HTTP side: small models are answered in less time than it takes to wait for a core.
    torch.set_num_threads(max(1, (os.cpu_count() or 2) - 1))
    served = dict(zip(model_names(folders, names), load_served(folders), strict=True))
    app = create_app(served, max_batch=max_batch, wait=wait)
    uvicorn.run(app, host=host, port=port, log_level="warning", access_log=False)


def model_names(folders: Sequence[Path], names: Sequence[str]) -> list[str]:
    """What each checkpoint is called: as asked, else by its folder, or the folder above one called `model`."""
    if names and len(names) != len(folders):
        raise ConfigError(f"--name: {len(names)} names for {len(folders)} checkpoints.")
    resolved = [folder.resolve() for folder in folders]
    chosen = list(names) or [one.parent.name if one.name == "model" else one.name for one in resolved]
    for name in chosen:
        if chosen.count(name) > 1:
            raise ConfigError(f"two checkpoints are both called {name!r}; tell them apart with --name.")
    return chosen


def create_app(served: dict[str, Served], *, max_batch: int = 32, wait: float = 0.004) -> Starlette:
    """The endpoint over loaded models; each has an `Engine` while the application runs."""
    engines: dict[str, Engine] = {}
    started = int(time.time())

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        for name, one in served.items():
            engines[name] = Engine(one.checkpoint, max_batch=max_batch, wait=wait, turn=one.turn)
        yield
        for engine in engines.values():
            await asyncio.to_thread(engine.close)

    async def health(_: Request) -> Response:
        return reply({"status": "ok", "models": list(engines)})

    async def models(_: Request) -> Response:
        return reply({"object": "list", "data": [describe(name, started) for name in engines]})

    async def model(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in engines:
            raise unknown_model(name, engines)
        return reply(describe(name, started))

    async def chat(request: Request) -> Response:
        asked = read_request(await request.body())
        if asked.model not in engines:
            raise unknown_model(asked.model, engines)
        engine = engines[asked.model]
        pieces: asyncio.Queue[Piece] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        job = make_job(asked, engine, lambda piece: loop.call_soon_threadsafe(pieces.put_nowait, piece))
        head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": asked.model}
        try:
            engine.submit(job)
        except TooBusy as error:
            raise RequestError(503, str(error), code="overloaded") from error
        if asked.stream:
            usage = asked.stream_options is not None and asked.stream_options.include_usage
            return StreamingResponse(stream(job, pieces, head, usage), media_type="text/event-stream")
        return reply(completion(job, await pieces.get(), head))

    return Starlette(
        routes=[
            Route("/healthz", health),
            Route("/v1/models", models),
            Route("/v1/models/{name:path}", model),
            Route("/v1/chat/completions", chat, methods=["POST"]),
        ],
        exception_handlers={RequestError: refuse, HTTPException: refuse_http},
        lifespan=lifespan,
    )


def describe(name: str, created: int) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": created, "owned_by": "tunescope"}


def unknown_model(name: str, engines: dict[str, Engine]) -> RequestError:
    there = ", ".join(engines)
    return RequestError(404, f"There is no model {name!r}; there are {there}.", code="model_not_found", param="model")


def reply(content: dict[str, Any], status: int = 200) -> Response:
    return Response(msgspec.json.encode(content), status, media_type="application/json")


async def refuse(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return reply({"error": shape(str(error), error.status, error.code, error.param)}, error.status)


async def refuse_http(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return reply({"error": shape(error.detail, error.status_code)}, error.status_code)
