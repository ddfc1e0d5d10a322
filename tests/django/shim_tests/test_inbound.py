"""Real frameworks: the token is known from the call of the app until its response is closed, and not after."""

import asyncio
import threading
import unittest
from wsgiref.util import FileWrapper

from . import apps
from .test_outbound import by_requests
from .world import SHIM, asgi_get, new_token, new_url, tokens_of, wsgi_get


class Wsgi(unittest.TestCase):
    """Django and Flask alike."""

    def each(self):
        for make in (apps.django_wsgi, apps.flask):
            with self.subTest(make.__name__):
                yield make()

    def test_a_view_calls(self):
        for app in self.each():
            url, token = new_url(), new_token()
            apps.TARGETS["call"] = url
            self.assertEqual(wsgi_get(app, token, "/call"), b"called")
            self.assertEqual(tokens_of(url), [[token]])

    def test_the_body_calls_while_it_is_sent(self):
        for app in self.each():
            url, token = new_url(), new_token()
            apps.TARGETS["stream"] = url
            self.assertEqual(wsgi_get(app, token, "/stream"), b"0123")
            self.assertEqual(tokens_of(url), [[token]] * 4)

    def test_nothing_is_left_after_the_close(self):
        for app in self.each():
            for path in ("/call", "/stream", "/empty", "/file"):
                url, token = new_url(), new_token()
                apps.TARGETS["call"] = apps.TARGETS["stream"] = url
                wsgi_get(app, token, path)
                tokens_of(url)
                by_requests(url)
                self.assertEqual(tokens_of(url), [[]], path)

    def test_nothing_is_left_after_an_exception(self):
        for app in self.each():
            with self.assertRaises(KeyError):
                wsgi_get(app, new_token(), "/raise")
            url = new_url()
            by_requests(url)
            self.assertEqual(tokens_of(url), [[]])

    def test_a_request_without_a_token_forgets_an_unclosed_one(self):
        for app in self.each():
            wsgi_get(app, new_token(), "/call", close=False)
            url = new_url()
            apps.TARGETS["call"] = url
            wsgi_get(app, None, "/call")
            self.assertEqual(tokens_of(url), [[]])

    def test_the_servers_file_wrapper_comes_back(self):
        for app in self.each():
            response = wsgi_get(app, new_token(), "/file", close=False, **{"wsgi.file_wrapper": FileWrapper})
            self.assertIsInstance(response, FileWrapper)
            response.close()

    def test_the_response_is_the_apps_own_and_no_cycle_keeps_it(self):
        import gc
        import weakref

        for app in self.each():
            url = new_url()
            apps.TARGETS["call"] = url
            gc.disable()
            try:
                response = wsgi_get(app, new_token(), "/call", close=False)
                kind, gone = type(response), weakref.ref(response)
                self.assertNotIn("hopspan", kind.__module__)
                response.close()
                del response
                self.assertIsNone(gone())
            finally:
                gc.enable()

    def test_interleaved_threads(self):
        for app in self.each():
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

    def test_a_close_that_raises_ends_the_request(self):
        class Chunks:
            def close(self):
                raise KeyError("app")

        returned, request = self.until_closed(Chunks())
        with self.assertRaises(KeyError):
            returned.close()
        self.assertTrue(request.ended)


class Asgi(unittest.TestCase):
    def each(self):
        for make in (apps.django_asgi, apps.starlette):
            with self.subTest(make.__name__):
                yield make()

    def ask(self, app, path, token):
        async def run():
            body = await asgi_get(app, token, path)
            await apps.wait_for_background()
            return body

        return asyncio.run(run())

    def test_views(self):
        for app in self.each():
            for path in ("/async", "/sync", "/gather", "/to-thread"):
                url, token = new_url(), new_token()
                apps.TARGETS["call"] = url
                self.assertEqual(self.ask(app, path, token), b"called", path)
                self.assertEqual(set(map(tuple, tokens_of(url))), {(token,)}, path)

    def test_a_body_that_calls_while_it_is_sent(self):
        for app in self.each():
            url, token = new_url(), new_token()
            apps.TARGETS["stream"] = url
            self.assertEqual(self.ask(app, "/stream", token), b"0123")
            self.assertEqual(tokens_of(url), [[token]] * 4)

    def test_a_task_that_outlives_its_request_says_so(self):
        for app in self.each():
            url, token = new_url(), new_token()
            apps.TARGETS["background"] = url
            self.ask(app, "/background", token)
            self.assertEqual(tokens_of(url), [[token + ";ended"]])

    def test_50_requests_at_once(self):
        for app in self.each():
            pairs = [(new_url(), new_token()) for _ in range(50)]

            async def run():
                asks = [asgi_get(app, token, "/call-to" + url[len("http://service.test") :]) for url, token in pairs]
                await asyncio.gather(*asks)

            asyncio.run(run())
            for url, token in pairs:
                self.assertEqual(tokens_of(url), [[token]])

    def test_nothing_is_left_in_the_servers_task(self):
        for app in self.each():
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

    def test_it_is_still_a_coroutine_function(self):
        for app in self.each():
            self.assertTrue(asyncio.iscoroutinefunction(type(app).__call__))
        self.assertTrue(SHIM)
