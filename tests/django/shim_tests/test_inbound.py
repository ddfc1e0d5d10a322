"""Real frameworks: the token is known from the call of the app until its response is closed, and not after."""

import asyncio
import gc
import threading
import unittest
import weakref
from wsgiref.util import FileWrapper

from . import apps
from .test_outbound import by_requests
from .world import asgi_get, for_each, new_token, new_url, tokens_of, wsgi_get


class Wsgi(unittest.TestCase):
    """Django and Flask alike."""

    @for_each((apps.django_wsgi, apps.flask))
    def test_a_view_calls(self, make):
        app = make()
        url, token = new_url(), new_token()
        apps.TARGETS["call"] = url
        self.assertEqual(wsgi_get(app, token, "/call"), b"called")
        self.assertEqual(tokens_of(url), [[token]])

    @for_each((apps.django_wsgi, apps.flask))
    def test_the_body_calls_while_it_is_sent(self, make):
        app = make()
        url, token = new_url(), new_token()
        apps.TARGETS["stream"] = url
        self.assertEqual(wsgi_get(app, token, "/stream"), b"0123")
        self.assertEqual(tokens_of(url), [[token]] * 4)

    @for_each((apps.django_wsgi, apps.flask))
    def test_nothing_is_left_after_the_close(self, make):
        app = make()
        for path in ("/call", "/stream", "/empty", "/file"):
            url, token = new_url(), new_token()
            apps.TARGETS["call"] = apps.TARGETS["stream"] = url
            wsgi_get(app, token, path)
            tokens_of(url)
            by_requests(url)
            self.assertEqual(tokens_of(url), [[]], path)

    @for_each((apps.django_wsgi, apps.flask))
    def test_nothing_is_left_after_an_exception(self, make):
        app = make()
        with self.assertRaises(KeyError):
            wsgi_get(app, new_token(), "/raise")
        url = new_url()
        by_requests(url)
        self.assertEqual(tokens_of(url), [[]])

    @for_each((apps.django_wsgi, apps.flask))
    def test_a_request_without_a_token_forgets_an_unclosed_one(self, make):
        app = make()
        apps.TARGETS["call"] = new_url()
        wsgi_get(app, new_token(), "/call", close=False)
        url = new_url()
        apps.TARGETS["call"] = url
        wsgi_get(app, None, "/call")
        self.assertEqual(tokens_of(url), [[]])

    @for_each((apps.django_wsgi, apps.flask))
    def test_the_servers_file_wrapper_comes_back(self, make):
        app = make()
        response = wsgi_get(app, new_token(), "/file", close=False, **{"wsgi.file_wrapper": FileWrapper})
        self.assertIsInstance(response, FileWrapper)
        response.close()

    @for_each((apps.django_wsgi, apps.flask))
    def test_the_response_is_the_apps_own(self, make):
        apps.TARGETS["call"] = new_url()
        response = wsgi_get(make(), new_token(), "/call", close=False)
        self.assertNotIn("hopspan", type(response).__module__)
        response.close()
        self.assertNotIn("close", vars(response))

    @for_each((apps.django_wsgi, apps.flask))
    def test_interleaved_threads(self, make):
        app = make()
        pairs = [(new_url(), new_token()) for _ in range(8)]

        def ask(url, token):
            for _ in range(5):
                wsgi_get(app, token, "/call-to" + url[len("http://service.test") :])

        threads = [threading.Thread(target=ask, args=pair) for pair in pairs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for url, token in pairs:
            self.assertEqual(tokens_of(url), [[token]] * 5)


class Responses(unittest.TestCase):
    """What WSGI allows an app to return."""

    def until_closed(self, response):
        from hopspan_shim import cause, inbound

        request = cause.begin(new_token())
        return inbound.until_closed(response, request), request

    def test_a_list_is_returned_as_it_is_and_the_request_is_over(self):
        given = [b"a"]
        returned, request = self.until_closed(given)
        self.assertIs(returned, given)
        self.assertTrue(request.ended)

    def test_a_generator_keeps_the_request_until_closed(self):
        closed = []

        def chunks():
            try:
                yield b"a"
                yield b"b"
            finally:
                closed.append(1)

        returned, request = self.until_closed(chunks())
        self.assertEqual(next(iter(returned)), b"a")
        self.assertFalse(request.ended)
        returned.close()
        self.assertTrue(request.ended and closed)

    def test_an_iterable_without_close_keeps_the_request_until_closed(self):
        class Chunks:
            def __iter__(self):
                return iter([b"a"])

        returned, request = self.until_closed(Chunks())
        self.assertFalse(request.ended)
        returned.close()
        self.assertTrue(request.ended)

    def test_a_closed_response_is_freed_at_once(self):
        class Chunks:
            def close(self):
                pass

        gc.disable()
        try:
            returned, _ = self.until_closed(Chunks())
            gone = weakref.ref(returned)
            returned.close()
            del returned
            self.assertIsNone(gone())
        finally:
            gc.enable()

    def test_a_close_that_raises_ends_the_request(self):
        class Chunks:
            def close(self):
                raise KeyError("app")

        returned, request = self.until_closed(Chunks())
        with self.assertRaises(KeyError):
            returned.close()
        self.assertTrue(request.ended)


class Asgi(unittest.TestCase):
    def ask(self, app, path, token):
        async def run():
            body = await asgi_get(app, token, path)
            await apps.wait_for_background()
            return body

        return asyncio.run(run())

    @for_each((apps.django_asgi, apps.starlette))
    def test_views(self, make):
        app = make()
        for path in ("/async", "/sync", "/gather", "/to-thread"):
            url, token = new_url(), new_token()
            apps.TARGETS["call"] = url
            self.assertEqual(self.ask(app, path, token), b"called", path)
            self.assertEqual(set(map(tuple, tokens_of(url))), {(token,)}, path)

    @for_each((apps.django_asgi, apps.starlette))
    def test_a_body_that_calls_while_it_is_sent(self, make):
        app = make()
        url, token = new_url(), new_token()
        apps.TARGETS["stream"] = url
        self.assertEqual(self.ask(app, "/stream", token), b"0123")
        self.assertEqual(tokens_of(url), [[token]] * 4)

    @for_each((apps.django_asgi, apps.starlette))
    def test_a_task_that_outlives_its_request_says_so(self, make):
        app = make()
        url, token = new_url(), new_token()
        apps.TARGETS["background"] = url
        self.ask(app, "/background", token)
        self.assertEqual(tokens_of(url), [[token + ";ended"]])

    @for_each((apps.django_asgi, apps.starlette))
    def test_50_requests_at_once(self, make):
        app = make()
        pairs = [(new_url(), new_token()) for _ in range(50)]

        async def run():
            asks = [asgi_get(app, token, "/call-to" + url[len("http://service.test") :]) for url, token in pairs]
            await asyncio.gather(*asks)

        asyncio.run(run())
        for url, token in pairs:
            self.assertEqual(tokens_of(url), [[token]])

    @for_each((apps.django_asgi, apps.starlette))
    def test_nothing_is_left_in_the_servers_task(self, make):
        app = make()
        url = new_url()

        async def run():
            apps.TARGETS["call"] = new_url()
            await asgi_get(app, new_token(), "/async")
            await asyncio.to_thread(by_requests, url) if hasattr(asyncio, "to_thread") else by_requests(url)

        asyncio.run(run())
        self.assertEqual(tokens_of(url), [[]])

    def test_two_tokens_are_none(self):
        from hopspan_shim import inbound

        twice = {"headers": [(b"hopspan-token", b"a"), (b"hopspan-token", b"b")]}
        self.assertIsNone(inbound.token_of(twice))
        self.assertIsNone(inbound.token_of({}))

    @for_each((apps.django_asgi, apps.starlette))
    def test_it_is_still_a_coroutine_function(self, make):
        app = make()
        self.assertTrue(asyncio.iscoroutinefunction(type(app).__call__))
