"""hopspan -> Jaeger (its all-in-one, in memory): what its query API says of a call through two services."""

import json

from harness import Case, free_port, tool
from processes import get, wait_until

CONFIG = """
extensions:
  jaeger_storage: {{backends: {{memory: {{memory: {{max_traces: 1000}}}}}}}}
  jaeger_query:
    storage: {{traces: memory}}
    grpc: {{endpoint: "127.0.0.1:{query_grpc}"}}
    http: {{endpoint: "127.0.0.1:{query}"}}
receivers: {{otlp: {{protocols: {{grpc: {{endpoint: "127.0.0.1:{grpc}"}}, http: {{endpoint: "127.0.0.1:{http}"}}}}}}}}
exporters: {{jaeger_storage_exporter: {{trace_storage: memory}}}}
service:
  extensions: [jaeger_storage, jaeger_query]
  telemetry: {{metrics: {{level: none}}}}
  pipelines: {{traces: {{receivers: [otlp], exporters: [jaeger_storage_exporter]}}}}
"""


class ToJaeger(Case):
    def setUp(self):
        super().setUp()
        program = tool("jaeger", "Jaeger is not built here (REAL_JAEGER=1 tests/real/run builds it: many minutes)")
        self.ports = {name: free_port() for name in ("query", "query_grpc", "grpc", "http")}
        config = self.folder / "jaeger.yaml"
        config.write_text(CONFIG.format(**self.ports))
        self.jaeger = self.start("jaeger", [program, "--config", config])
        wait_until("Jaeger", lambda: get(self.url("services"))[0] == 200, [self.jaeger])

    def url(self, path):
        return f"http://127.0.0.1:{self.ports['query']}/api/{path}"

    def ask(self, path):
        status, body = get(self.url(path))
        return json.loads(body)["data"] if status == 200 else None

    def service(self, name):
        return self.sidecar(
            free_port(),
            "inbound: {routes: [{path: healthz, trace: false}, {path: 'orders/<int:pk>/'}]}\n",
            command=self.gunicorn(),
            name=name,
            OTEL_TRACES_EXPORTER="otlp",
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{self.ports['grpc']}",
            OTEL_EXPORTER_OTLP_PROTOCOL="grpc",
            OTEL_SERVICE_NAME=name,
        )

    def test_two_services_are_one_trace_in_jaeger(self):
        callee = self.service("callee")
        caller = self.service("caller")
        self.assertEqual(200, caller.get(f"/call/?url={callee.url('inbound', '/orders/7/')}")[0])
        traces = wait_until(
            "the trace in Jaeger",
            lambda: [t for t in self.ask("traces?service=caller") or [] if len(t["spans"]) >= 5],
            [self.jaeger],
        )
        trace, = traces
        names = {key: process["serviceName"] for key, process in trace["processes"].items()}
        spans = {span["spanID"]: span for span in trace["spans"]}
        chain, span = [], next(s for s in spans.values() if not s["references"])
        while span:
            kind = next(tag["value"] for tag in span["tags"] if tag["key"] == "span.kind")
            chain.append((names[span["processID"]], kind))
            span = next((s for s in spans.values() if any(r["spanID"] == span["spanID"] for r in s["references"])), None)
        self.assertEqual(
            [("caller", "server"), ("caller", "client"), ("caller", "client"), ("callee", "server"), ("callee", "client")], chain
        )
        self.assertEqual({"caller", "callee"}, set(self.ask("services")))
