"""hopspan -> a real OpenTelemetry Collector, over gRPC and over HTTP: what arrives there."""

import time

from harness import Case, run, tool, ROOT, request
from processes import get, wait_until

ROUTES = "inbound: {routes: [{path: 'orders/<int:pk>/'}]}\n"


class ToTheCollector(Case):
    def spans_by(self, protocol, **env):
        collector = self.collector()
        sidecar = self.sidecar(
            self.app(*self.gunicorn()),
            ROUTES,
            OTEL_TRACES_EXPORTER="otlp",
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint(protocol),
            OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
            OTEL_SERVICE_NAME="shop",
            OTEL_RESOURCE_ATTRIBUTES="service.version=1.2.3,deployment.environment.name=test",
            **env,
        )
        self.assertEqual(200, sidecar.get("/orders/7/?token=x")[0])
        self.assertEqual(500, sidecar.get("/error/")[0])
        return collector.wait(4)

    def check(self, spans):
        by_id = {span["spanId"]: span for span in spans}
        self.assertEqual(4, len(by_id))
        for span in spans:
            self.assertEqual("shop", span["resource"]["service.name"])
            self.assertEqual("1.2.3", span["resource"]["service.version"])
            self.assertEqual("test", span["resource"]["deployment.environment.name"])
            self.assertEqual("hopspan", span["scope"]["name"])
            self.assertLess(int(span["startTimeUnixNano"]), int(span["endTimeUnixNano"]))
            self.assertLess(abs(time.time() - int(span["endTimeUnixNano"]) / 1e9), 60)
        servers = [span for span in spans if span["kind"] == 2]
        clients = [span for span in spans if span["kind"] == 3]
        self.assertEqual(["", ""], [span.get("parentSpanId", "") for span in servers])
        for span in clients:
            parent = by_id[span["parentSpanId"]]
            self.assertEqual((2, span["traceId"]), (parent["kind"], parent["traceId"]))
        good, bad = sorted(servers, key=lambda span: span["attributes"]["http.response.status_code"])
        self.assertEqual("GET orders/<int:pk>/", good["name"].replace(" /", " "))
        self.assertEqual("/orders/7/", good["attributes"]["url.path"])
        self.assertEqual(200, good["attributes"]["http.response.status_code"])
        self.assertEqual({}, good.get("status", {}))
        self.assertEqual(("500", 2), (bad["attributes"]["error.type"], bad["status"]["code"]))

    def test_over_grpc(self):
        self.check(self.spans_by("grpc"))

    def test_over_http(self):
        self.check(self.spans_by("http/protobuf"))

    def test_compressed_over_both(self):
        for protocol in ("grpc", "http/protobuf"):
            with self.subTest(protocol):
                self.setUp()
                self.check(self.spans_by(protocol, OTEL_EXPORTER_OTLP_COMPRESSION="gzip"))

    def test_the_last_spans_are_sent_before_the_end(self):
        collector = self.collector()
        sidecar = self.sidecar(
            self.app(*self.gunicorn()),
            OTEL_TRACES_EXPORTER="otlp",
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint("http/protobuf"),
            OTEL_BSP_SCHEDULE_DELAY="60000",  # only a flush can send them in time
        )
        sidecar.get("/orders/1/")
        self.assertEqual(0, self.stop(sidecar.process))
        self.assertEqual(2, len(collector.wait(2)))

    def test_a_collector_that_goes_away_changes_no_answer_and_is_found_again(self):
        collector = self.collector()
        sidecar = self.sidecar(
            self.app(*self.gunicorn()),
            OTEL_TRACES_EXPORTER="otlp",
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint("grpc"),
            OTEL_EXPORTER_OTLP_PROTOCOL="grpc",
            OTEL_BSP_SCHEDULE_DELAY="100",
        )
        sidecar.get("/echo/before")
        collector.wait(2)
        self.stop(collector.process)
        for number in range(50):
            self.assertEqual(200, sidecar.get(f"/echo/during-{number}")[0])
        wait_until("a failed export", lambda: sidecar.metric("hopspan_export_batches_failed") > 0, [sidecar.process])
        collector.start()
        sidecar.get("/echo/after")
        collector.wait(1, limit=60, where=lambda span: span["attributes"].get("url.path") == "/echo/after")

    def test_the_deployed_config_is_one_the_collector_takes(self):
        code, output = run([tool("otelcol", "the Collector was not built"), "validate", "--config", ROOT / "deploy/collector/collector.yaml"])
        self.assertEqual((0, ""), (code, output))
