"""gRPC's own interoperability client and server (grpc-go): directly, through hopspan's inbound, through its outbound."""

from harness import Case, free_port, run, tool
from processes import taken, wait_until

# grpc.io, doc/interop-test-descriptions.md.
CASES = [
    *["empty_unary", "large_unary", "client_streaming", "server_streaming", "ping_pong", "empty_stream"],
    *["timeout_on_sleeping_server", "cancel_after_begin", "cancel_after_first_response", "status_code_and_message"],
    *["special_status_message", "custom_metadata", "unimplemented_method", "unimplemented_service"],
    *["rpc_soak", "channel_soak"],
]
BUILT = "was not built (needs Go and the Go module proxy)"


class Grpc(Case):
    def setUp(self):
        super().setUp()
        self.client = tool("grpc_interop_client", f"the gRPC interoperability client {BUILT}")
        server = tool("grpc_interop_server", f"the gRPC interoperability server {BUILT}")
        self.port = free_port()
        process = self.start("server", [server, "-port", self.port])
        wait_until("the server", lambda: taken(self.port), [process])

    def stop(self, process):
        if process.name == "server":
            process.popen.kill()  # it has no other end
            process.wait_stopped(0)
            return 0
        return super().stop(process)

    def interoperate(self, way, port):
        failed = {}
        for case in CASES:
            code, output = run(["timeout", "60", self.client, "-server_host", "127.0.0.1", "-server_port", port, "-test_case", case])
            if code != 0:
                failed[case] = output[-500:]
        print(f"grpc, {way}: {len(CASES) - len(failed)} of {len(CASES)} cases passed", end=" ... ", flush=True)
        self.assertEqual({}, failed)

    def test_without_hopspan(self):
        self.interoperate("direct", self.port)

    def test_through_inbound(self):
        sidecar = self.sidecar(self.port)
        self.interoperate("inbound", sidecar.ports["inbound"])
        calls = sidecar.metric("http_server_request_duration_seconds_count")
        self.assertGreater(calls, len(CASES), "they did not come by")

    def test_through_outbound(self):
        route = f"outbound: {{ routes: [{{ host: 127.0.0.1, to: 'http://127.0.0.1:{self.port}' }}] }}\n"
        sidecar = self.sidecar(free_port(), route)
        self.interoperate("outbound", sidecar.ports["outbound"])
        calls = sidecar.metric("http_client_request_duration_seconds_count")
        self.assertGreater(calls, len(CASES), "they did not come by")
