"""Every client library: the token goes to hopspan, once, and to nobody else."""

import asyncio
import http.client
import importlib.util
import unittest
import urllib.request

from .world import for_each, new_token, new_url, serving, tokens_of, world


def by_http_client(url, headers=()):
    host = world().hopspan.host if "service.test" in url else url.split("/")[2]
    connection = http.client.HTTPConnection(host, timeout=10)
    connection.request("GET", url, headers=dict(headers))
    connection.getresponse().read()
    connection.close()


def by_urllib(url, headers=()):
    urllib.request.urlopen(urllib.request.Request(url, headers=dict(headers)), timeout=10).read()


def by_requests(url, headers=()):
    import requests

    requests.get(url, headers=dict(headers), timeout=10)


def by_urllib3(url, headers=()):
    import urllib3

    direct = "service.test" not in url
    manager = urllib3.PoolManager() if direct else urllib3.ProxyManager(world().hopspan.url)
    manager.request("GET", url, headers=dict(headers), timeout=10)
    manager.clear()


def by_httpx(url, headers=()):
    import httpx

    with httpx.Client() as client:
        client.get(url, headers=dict(headers), timeout=10)


def by_httpx_async(url, headers=()):
    import httpx

    async def get():
        async with httpx.AsyncClient() as client:
            await client.get(url, headers=dict(headers), timeout=10)

    asyncio.run(get())


def by_aiohttp(url, headers=()):
    import aiohttp

    async def get():
        async with aiohttp.ClientSession(trust_env=True) as session:
            async with session.get(url, headers=dict(headers)) as response:
                await response.read()

    asyncio.run(get())


CLIENTS = [by_http_client, by_urllib, by_requests, by_urllib3, by_httpx, by_httpx_async, by_aiohttp]


class EveryClient(unittest.TestCase):
    @for_each(CLIENTS)
    def test_through_the_proxy(self, client):
        url, token = new_url(), new_token()
        with serving(token):
            client(url)
        self.assertEqual(tokens_of(url), [[token]])

    @for_each(CLIENTS)
    def test_outside_a_request(self, client):
        url = new_url()
        client(url)
        self.assertEqual(tokens_of(url), [[]])

    @for_each(CLIENTS)
    def test_to_a_base_url_at_hopspan(self, client):
        token, path = new_token(), "/base/" + client.__name__
        with serving(token):
            client(world().hopspan.url.replace("127.0.0.1", "localhost") + path)
        self.assertEqual(world().hopspan.take(path), [[token]])

    @for_each(CLIENTS)
    def test_a_third_party_sees_nothing(self, client):
        path = "/third/" + client.__name__
        with serving(new_token()):
            client(world().third.url + path)
        self.assertEqual(world().third.take(path), [[]])

    @for_each(CLIENTS)
    def test_what_the_app_sends_itself_stays(self, client):
        url = new_url()
        with serving(new_token()):
            client(url, {"Hopspan-Token": "the-apps-own"})
        self.assertEqual(tokens_of(url), [["the-apps-own"]])

    @for_each(CLIENTS)
    def test_the_apps_headers_are_not_changed(self, client):
        headers, url = {"X-A": "1"}, new_url()
        with serving(new_token()):
            client(url, headers)
        self.assertEqual(headers, {"X-A": "1"})
        tokens_of(url)

    @for_each(CLIENTS)
    def test_the_head_of_a_connect_only(self, client):
        if client is by_http_client:
            return
        token, url = new_token(), "https://%s.test/" % client.__name__.replace("_", "-")
        with serving(token):
            with self.assertRaises(Exception):  # the stand-in refuses tunnels
                if client is by_urllib3:
                    import urllib3

                    urllib3.ProxyManager(world().hopspan.url, retries=False).request("GET", url)
                else:
                    client(url)
        self.assertEqual(world().hopspan.take(url.split("/")[2] + ":443"), [[token]])


@unittest.skipUnless(importlib.util.find_spec("botocore"), "botocore for this Python wants an older urllib3 than the others")
class Botocore(unittest.TestCase):
    """It signs its headers and has connection classes of its own, above http.client's."""

    def test_a_call_to_s3(self):
        import botocore.config
        import botocore.session

        token, url = new_token(), new_url()
        bucket, key = "bucket", url.rsplit("/", 1)[1]
        s3 = botocore.session.Session().create_client(
            "s3",
            region_name="eu-central-1",
            endpoint_url="http://service.test",
            aws_access_key_id="id",
            aws_secret_access_key="secret",
            config=botocore.config.Config(retries={"max_attempts": 0}, s3={"addressing_style": "path"}),
        )
        with serving(token):
            self.assertEqual(s3.get_object(Bucket=bucket, Key=key)["Body"].read(), b"ok")
        s3.get_object(Bucket=bucket, Key=key)
        self.assertEqual(tokens_of(url), [[token], []])


class Reuse(unittest.TestCase):
    def test_a_pooled_connection_carries_each_requests_own(self):
        import requests

        session = requests.Session()
        tokens = [new_token() for _ in range(5)]
        url = new_url()
        for token in tokens:
            with serving(token):
                session.get(url)
        session.get(url)
        self.assertEqual(tokens_of(url), [[token] for token in tokens] + [[]])

    def test_a_request_object_sent_twice_is_not_marked(self):
        import httpx

        url = new_url()
        with httpx.Client() as client:
            request = client.build_request("GET", url)
            for token in ("first", "second"):
                with serving(token):
                    client.send(request)
            client.send(request)
        self.assertEqual(tokens_of(url), [["first"], ["second"], []])

    def test_an_httpcore_request_sent_twice_is_not_marked(self):
        import httpcore

        url = new_url()
        request = httpcore.Request("GET", url, headers={"Host": "service.test"})
        with httpcore.HTTPProxy(world().hopspan.url) as pool:
            for token in ("first", "second"):
                with serving(token):
                    pool.handle_request(request).read()
        self.assertEqual(tokens_of(url), [["first"], ["second"]])

    def test_the_apps_tunnel_headers_stay(self):
        headers = {"X-A": "1"}
        connection = http.client.HTTPConnection(world().hopspan.host)
        connection.set_tunnel("app-tunnel.test", 443, headers)
        with serving("tunnel"):
            with self.assertRaises(OSError):
                connection.connect()
        self.assertEqual((headers, connection._tunnel_headers.get("hopspan-token")), ({"X-A": "1"}, None))
        self.assertEqual(world().hopspan.take("app-tunnel.test:443"), [["tunnel"]])


class Addresses(unittest.TestCase):
    def ask(self, environ, *asked):
        from hopspan_shim import outbound

        known = frozenset(outbound._addresses(environ))
        return [(outbound._plain(host), port or 80) in known for host, port in asked]

    def test_the_proxy_of_the_environment(self):
        environ = {"http_proxy": "http://127.0.0.1:8081", "HTTP_PROXY": "hopspan.local:9000/"}
        asked = [("localhost", 8081), ("::1", 8081), ("HOPSPAN.local.", 9000), ("127.0.0.1", 8082), ("other", 8081)]
        self.assertEqual(self.ask(environ, *asked), [True, True, True, False, False])

    def test_a_named_one_rules(self):
        environ = {"HTTP_PROXY": "http://corporate:3128", "HOPSPAN_OUTBOUND": "[::1]:8081, http://sidecar"}
        asked = [("127.0.0.1", 8081), ("sidecar", None), ("sidecar", 80), ("corporate", 3128)]
        self.assertEqual(self.ask(environ, *asked), [True, True, True, False])

    def test_nonsense_is_no_address(self):
        environ = {"HOPSPAN_OUTBOUND": ",http://x:port,//,:,http://[::1"}
        self.assertEqual(self.ask(environ, ("x", 80)), [False])
