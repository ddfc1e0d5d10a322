"""One small app in each framework, with the same paths. A view calls TARGETS[...] and knows nothing of tokens."""

import asyncio
import contextlib
import functools
import io

from .test_outbound import by_aiohttp, by_requests  # noqa: F401

TARGETS = {}
_background = []


async def get(url):
    import httpx

    async with httpx.AsyncClient() as client:
        await client.get(url, timeout=10)


def chunks():
    for number in range(4):
        by_requests(TARGETS["stream"])
        yield b"%d" % number


async def async_chunks():
    for number in range(4):
        await get(TARGETS["stream"])
        yield b"%d" % number


async def gathered():
    import aiohttp

    async with aiohttp.ClientSession(trust_env=True) as session:

        async def one():
            async with session.get(TARGETS["call"]) as response:
                await response.read()

        await asyncio.gather(*(one() for _ in range(5)))


async def threaded():
    loop = asyncio.get_running_loop()
    calls = [loop.run_in_executor(None, by_requests, TARGETS["call"]) for _ in range(3)]
    if hasattr(asyncio, "to_thread"):  # 3.9
        calls.append(asyncio.to_thread(by_requests, TARGETS["call"]))
    await asyncio.gather(*calls)


def begin_background():
    """A task that calls once the response is sent."""
    go = asyncio.Event()

    async def late(url):
        await go.wait()
        await get(url)

    _background.append((go, asyncio.get_running_loop().create_task(late(TARGETS["background"]))))


async def wait_for_background():
    while _background:
        go, task = _background.pop()
        go.set()
        await task


class Sendable(io.BytesIO):
    name = "file"


@functools.lru_cache(None)
def django():
    from django.conf import settings
    from django.http import FileResponse, HttpResponse, StreamingHttpResponse
    from django.urls import path

    def call(request):
        by_requests(TARGETS["call"])
        return HttpResponse("called")

    def call_to(request, number):
        by_requests("http://service.test/" + number)
        return HttpResponse("called")

    async def asynchronous(request):
        await get(TARGETS["call"])
        return HttpResponse("called")

    async def gather(request):
        await gathered()
        return HttpResponse("called")

    async def to_thread(request):
        await threaded()
        return HttpResponse("called")

    async def background(request):
        begin_background()
        return HttpResponse("called")

    def stream(request):
        # Django 4.2 and newer send async bodies as they come; a WSGI server needs a plain one.
        body = async_chunks() if hasattr(request, "scope") else chunks()
        return StreamingHttpResponse(body)

    def failing(request):
        raise KeyError("app")

    if not settings.configured:
        settings.configure(
            SECRET_KEY="tests",
            ALLOWED_HOSTS=["*"],
            ROOT_URLCONF=__name__ + ".urls",
            DEBUG_PROPAGATE_EXCEPTIONS=True,
            LOGGING_CONFIG=None,
        )
    import sys
    import types

    urls = types.ModuleType(__name__ + ".urls")
    urls.urlpatterns = [
        path("call", call),
        path("sync", call),
        path("call-to/<number>", call_to),
        path("async", asynchronous),
        path("gather", gather),
        path("to-thread", to_thread),
        path("background", background),
        path("stream", stream),
        path("empty", lambda request: HttpResponse(status=204)),
        path("file", lambda request: FileResponse(Sendable(b"content"))),
        path("raise", failing),
    ]
    sys.modules[urls.__name__] = urls


@functools.lru_cache(None)
def django_wsgi():
    django()
    from django.core.wsgi import get_wsgi_application

    return get_wsgi_application()


@functools.lru_cache(None)
def django_asgi():
    django()
    from django.core.asgi import get_asgi_application

    return get_asgi_application()


@functools.lru_cache(None)
def flask():
    from flask import Flask, Response, send_file

    app = Flask(__name__)
    app.config["PROPAGATE_EXCEPTIONS"] = True

    @app.route("/call")
    def call():
        by_requests(TARGETS["call"])
        return "called"

    @app.route("/call-to/<number>")
    def call_to(number):
        by_requests("http://service.test/" + number)
        return "called"

    @app.route("/stream")
    def stream():
        return Response(chunks())

    @app.route("/empty")
    def empty():
        return "", 204

    @app.route("/file")
    def file():
        return send_file(Sendable(b"content"), mimetype="text/plain")

    @app.route("/raise")
    def failing():
        raise KeyError("app")

    return app


@functools.lru_cache(None)
def starlette():
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse, StreamingResponse
    from starlette.routing import Route

    def answering(function):
        async def view(request):
            await function()
            return PlainTextResponse("called")

        return view

    async def asynchronous():
        await get(TARGETS["call"])

    def sync(request):
        by_requests(TARGETS["call"])
        return PlainTextResponse("called")

    async def call_to(request):
        await get("http://service.test/" + request.path_params["number"])
        return PlainTextResponse("called")

    async def background():
        begin_background()

    async def stream(request):
        return StreamingResponse(async_chunks())

    return Starlette(
        routes=[
            Route("/async", answering(asynchronous)),
            Route("/sync", sync),
            Route("/call-to/{number}", call_to),
            Route("/gather", answering(gathered)),
            Route("/to-thread", answering(threaded)),
            Route("/background", answering(background)),
            Route("/stream", stream),
        ]
    )


@contextlib.contextmanager
def patched(owner, name, value):
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)
