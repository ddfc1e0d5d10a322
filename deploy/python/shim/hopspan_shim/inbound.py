"""Where a request begins and ends.

WSGI: from the application's call until the server closes the response, since a body may be made while it is sent.
ASGI: the application's coroutine. Lifespan and other scopes are left alone.
"""

import types

from . import cause
from .hooks import replace, trouble

ENVIRON_KEY = "HTTP_" + cause.HEADER.upper().replace("-", "_")
SCOPE_KEY = cause.HEADER.encode()


def begin(token):
    try:
        return cause.begin(token)
    except Exception:
        trouble("the begin of a request")
        return None


def end(request):
    try:
        cause.end(request)
    except Exception:
        trouble("the end of a request")


def wsgi(original):
    def __call__(self, environ, *args, **kwargs):
        request = begin(environ.get(ENVIRON_KEY))
        if request is None:
            return original(self, environ, *args, **kwargs)
        try:
            response = original(self, environ, *args, **kwargs)
        except BaseException:
            end(request)
            raise
        return until_closed(response, request)

    return __call__


def until_closed(response, request):
    """The response, which ends the request when it is closed.

    The server must get the very object that the app returned: some take a file or a list for a fast path. Only a
    generator, which takes no attribute and is no fast path, is wrapped.
    """
    if isinstance(response, types.GeneratorType):
        return _Generator(response, request)
    try:
        own = "close" in vars(response)
        close = getattr(response, "close", None)

        def ending(*args, **kwargs):
            try:
                return close(*args, **kwargs) if close is not None else None
            finally:
                end(request)
                # The attribute made a reference cycle.
                if own:
                    response.close = close
                else:
                    vars(response).pop("close", None)

        response.close = ending
    except Exception:  # a list, a string, a thing made in C: the app's code is through with it
        end(request)
    return response


class _Generator:
    __slots__ = ("chunks", "request")

    def __init__(self, chunks, request):
        self.chunks = chunks
        self.request = request

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.chunks)

    def close(self):
        try:
            self.chunks.close()
        finally:
            end(self.request)


def asgi(original):
    async def __call__(self, scope, *args, **kwargs):
        if scope["type"] not in ("http", "websocket"):
            return await original(self, scope, *args, **kwargs)
        request = begin(token_of(scope))
        try:
            return await original(self, scope, *args, **kwargs)
        finally:
            end(request)

    return __call__


def token_of(scope):
    """The token's value; None where there is none or, as nobody but a forger sends two, several."""
    try:
        values = [value for name, value in scope["headers"] if name == SCOPE_KEY]
        return values[0].decode("ascii") if len(values) == 1 else None
    except Exception:
        trouble("reading a scope")
        return None


HOOKS = {
    "django.core.handlers.wsgi": lambda module: replace(module.WSGIHandler, "__call__", wsgi),
    "django.core.handlers.asgi": lambda module: replace(module.ASGIHandler, "__call__", asgi),
    "flask.app": lambda module: replace(module.Flask, "__call__", wsgi),
    "starlette.applications": lambda module: replace(module.Starlette, "__call__", asgi),
}
