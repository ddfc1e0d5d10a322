"""HAProxy in TCP mode, which says by the PROXY protocol whose bytes it passes on -> hopspan -> gunicorn with Django."""

import http.client
import json

from harness import Case, free_port, request, run, tool
from processes import get, wait_until

CONFIG = """
global
    maxconn 256
defaults
    mode tcp
    timeout connect 2s
    timeout client 30s
    timeout server 30s
listen shop
    bind 127.0.0.1:{port}
    server hopspan 127.0.0.1:{inbound} {send} check inter 50ms
"""


class BehindHaproxy(Case):
    def behind(self, send):
        haproxy = tool("haproxy", "haproxy is not installed")
        collector = self.collector()
        app = self.app(*self.gunicorn("--workers", "2"))
        env = {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint("http")}
        self.sidecar_ = self.sidecar(app, "inbound: {proxy_protocol: [127.0.0.1]}\n", **env)
        self.port = free_port()
        config = self.folder / "haproxy.cfg"
        config.write_text(CONFIG.format(port=self.port, inbound=self.sidecar_.ports["inbound"], send=send))
        code, output = run([haproxy, "-c", "-f", config])
        self.assertEqual(0, code, output)
        process = self.start("haproxy", [haproxy, "-db", "-f", config])
        wait_until("haproxy", lambda: get(f"http://127.0.0.1:{self.port}/healthz")[0] == 200, [process])
        return collector

    def passes(self, send):
        collector = self.behind(send)
        for number in range(20):
            client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30, source_address=("127.0.0.2", 0))
            status, _, body = request(self.port, "GET", f"/echo/{number}", connection=client)
            client.close()
            self.assertEqual(200, status)
            self.assertEqual("127.0.0.2", json.loads(body)["headers"]["x-forwarded-for"])
        spans = collector.wait(20, where=lambda span: span["kind"] == 2 and "/echo/" in span["attributes"]["url.path"])
        for span in spans:
            self.assertEqual("127.0.0.2", span["attributes"]["client.address"])
            self.assertEqual("127.0.0.1", span["attributes"]["network.peer.address"])
        refused = self.sidecar_.metric('hopspan_client_protocol_errors_total{reason="proxy_protocol"')
        self.assertEqual(0, refused, "HAProxy's checks and clients all had a header that was understood")

    def test_version_1(self):
        self.passes("send-proxy")

    def test_version_2(self):
        self.passes("send-proxy-v2")

    def test_version_2_with_values(self):
        self.passes("send-proxy-v2 proxy-v2-options crc32c,unique-id")
