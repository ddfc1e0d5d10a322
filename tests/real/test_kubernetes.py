"""The Kubernetes manifest: rendered by kustomize, decoded by Kubernetes' own types, and its container run for real.

There is no cluster here: what an API server or a kubelet would do beyond that is not shown.
"""

import json
import re

from harness import HOPSPAN, ROOT, Case, free_port, run, tool
from processes import get, wait_until

FOLDER = ROOT / "deploy" / "kubernetes"


class Manifest(Case):
    def setUp(self):
        super().setUp()
        program = tool("kubecheck", "kubecheck was not built (needs Go and the Go module proxy)")
        code, output = run([program, FOLDER])
        self.assertEqual(0, code, output)
        self.objects = {item["kind"]: item for item in json.loads(output)}
        self.pod = self.objects["Deployment"]["spec"]["template"]["spec"]
        self.hopspan, = self.pod["initContainers"]
        self.app_, = self.pod["containers"]

    def test_a_wrong_field_would_be_seen(self):
        for path in FOLDER.iterdir():
            text = path.read_text().replace("readOnlyRootFilesystem", "readOnlyRootFileSystem")
            (self.folder / path.name).write_text(text)
        code, output = run([tool("kubecheck"), self.folder])
        self.assertEqual(1, code)
        self.assertIn("readOnlyRootFileSystem", output)

    def test_it_is_a_native_sidecar_that_needs_no_right(self):
        self.assertEqual("Always", self.hopspan["restartPolicy"])
        pod, own = self.pod["securityContext"], self.hopspan["securityContext"]
        self.assertEqual((True, 65532), (pod["runAsNonRoot"], pod["runAsUser"]))
        self.assertEqual("RuntimeDefault", pod["seccompProfile"]["type"])
        self.assertEqual({"drop": ["ALL"]}, own["capabilities"])
        self.assertTrue(own["readOnlyRootFilesystem"])
        self.assertFalse(own["allowPrivilegeEscalation"])
        self.assertFalse(self.pod["automountServiceAccountToken"])
        self.assertNotIn("cpu", self.hopspan["resources"]["limits"])

    def test_ports_probes_and_names_fit_together(self):
        config = self.config()
        ports = {port["name"]: port["containerPort"] for port in self.hopspan["ports"]}
        self.assertIn(f"listen: 0.0.0.0:{ports['http']}", config)
        self.assertIn(f"listen: 0.0.0.0:{ports['status']}", config)
        for probe, path in {"startupProbe": "/readyz", "readinessProbe": "/readyz", "livenessProbe": "/livez"}.items():
            self.assertEqual({"path": path, "port": "status"}, self.hopspan[probe]["httpGet"])
        service = self.objects["Service"]["spec"]
        self.assertEqual("http", service["ports"][0]["targetPort"])
        labels = self.objects["Deployment"]["spec"]["template"]["metadata"]["labels"]
        self.assertLessEqual(service["selector"].items(), labels.items())
        bind = self.app_["args"][self.app_["args"].index("--bind") + 1]
        self.assertIn(f"app: {bind}", config)
        proxy = next(item["value"] for item in self.app_["env"] if item["name"] == "HTTP_PROXY")
        self.assertIn(f"listen: {proxy[len('http://'):]}", config)
        volume, = self.pod["volumes"]
        self.assertEqual(self.objects["ConfigMap"]["metadata"]["name"], volume["configMap"]["name"])
        mount, = self.hopspan["volumeMounts"]
        self.assertNotIn("subPath", mount)
        self.assertEqual(f"{mount['mountPath']}/hopspan.yaml", self.hopspan["args"][-1])

    def config(self):
        return self.objects["ConfigMap"]["data"]["hopspan.yaml"]

    def environment(self):
        """The container's environment as a kubelet makes it: $(NAME) is replaced if NAME stands above."""
        made = {}
        for item in self.hopspan["env"]:
            if "valueFrom" in item:
                made[item["name"]] = "value-of-" + item["name"].lower()
            else:
                made[item["name"]] = re.sub(r"\$\((\w+)\)", lambda m: made.get(m.group(1), m.group(0)), item["value"])
        return made

    def test_every_reference_in_the_environment_is_defined_above_it(self):
        made = self.environment()
        self.assertNotIn("$(", " ".join(made.values()))
        pairs = dict(pair.split("=") for pair in made["OTEL_RESOURCE_ATTRIBUTES"].split(","))
        for name in ("service.version", "service.instance.id", "k8s.pod.name", "k8s.pod.uid", "k8s.namespace.name", "k8s.node.name"):
            self.assertTrue(pairs[name].startswith("value-of-"), name)
        self.assertEqual("value-of-service_name", made["OTEL_SERVICE_NAME"])

    def test_the_container_runs_starts_before_its_app_drains_and_ends(self):
        collector = self.collector()
        made = dict(self.environment(), OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint("http"))
        app = free_port()
        sidecar = self.sidecar(app, self.config(), **made, OTEL_TRACES_EXPORTER="otlp")
        # Ready although no app answers: the startup probe must let the app start.
        self.assertEqual(200, get(sidecar.url("status", "/readyz"))[0])
        self.assertEqual(502, sidecar.get("/orders/1/")[0])
        started = self.start("late-app", [p.format(port=app) for p in self.gunicorn()])
        wait_until("the app", lambda: sidecar.get("/healthz")[0] == 200, [started])
        self.assertEqual(200, sidecar.get("/orders/2/")[0])

        hook = self.hopspan["lifecycle"]["preStop"]["exec"]["command"]
        self.assertEqual("/hopspan", hook[0])
        code, output = run([HOPSPAN, *hook[1:-1], "--wait=100ms", "--admin", f"127.0.0.1:{sidecar.ports['admin']}"])
        self.assertEqual(0, code, output)
        self.assertEqual(503, get(sidecar.url("status", "/readyz"))[0])
        self.assertEqual(200, get(sidecar.url("status", "/livez"))[0])
        self.assertEqual(200, sidecar.get("/orders/3/")[0])  # no longer ready, but serving
        self.assertEqual(0, self.stop(sidecar.process))

        spans = collector.wait(6)
        resource = spans[0]["resource"]
        self.assertEqual("value-of-service_name", resource["service.name"])
        self.assertEqual("value-of-pod_uid", resource["k8s.pod.uid"])
