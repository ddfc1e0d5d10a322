"""WebSocket through hopspan: what a real server says to each frame is the same as without hopspan in between.

Autobahn's own suite wants Python 2.7, which cannot be had here: the table in frames.py has what its cases are about
(framing, fragments, pings, reserved bits and opcodes, UTF-8, closing), by the section of RFC 6455.
"""

import concurrent.futures

import frames
from harness import PROBE, Case, tool
from processes import wait_until

ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455 1.3, for the key that is used there and here
FEWEST = 80
PATIENCE = 5  # seconds without a byte until a connection is said to stay open


class WebSocket(Case):
    def compare(self, name, command, mute=()):
        tool(command[0], f"{command[0]} is not in the environment (tests/django/venv matrix)")
        port = self.app(*command)
        sidecar = self.sidecar(port)
        cases = frames.cases()
        # What the server does not answer is followed by a close at once.
        cases.update({case: ([*cases[case][0], frames.close(1000)], 0) for case in mute})
        self.assertGreaterEqual(len(cases), FEWEST)

        def both(case):
            said = []
            for at in (port, sidecar.ports["inbound"]):
                client = frames.Client(at)
                self.assertEqual((b"101", ACCEPT), (client.status, client.accept))
                said.append(client.transcript(*case, PATIENCE))
            return said

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            said = dict(zip(cases, pool.map(both, cases.values())))
        other = {case: pair for case, pair in said.items() if pair[0] != pair[1]}
        ended = sum(direct[-1] == "end" for direct, _ in said.values())
        same = len(said) - len(other)
        print(f"websocket, {name}: {same} of {len(said)} cases the same, {ended} closed by it", end=" ... ", flush=True)
        self.assertEqual({}, other)
        self.assertEqual([], [case for case, (direct, _) in said.items() if direct[-1] != "end"])
        echoed = [direct for case, (direct, _) in said.items() if case.startswith("5.6") and case not in mute]
        self.assertTrue(all(len(direct) == 3 for direct in echoed), echoed)
        wait_until("no tunnel is left", lambda: sidecar.metric("hopspan_connections{direction=\"inbound\"") <= 1)

    def test_as_without_hopspan_before_daphne_and_channels(self):
        empty = ["5.6 text of 0", "5.6 binary of 0", "5.4 empty fragments"]  # Daphne sends no empty message
        self.compare("daphne", ["daphne", "-b", "127.0.0.1", "-p", "{port}", "probe.sockets:application"], empty)

    def test_as_without_hopspan_before_uvicorn(self):
        command = ["uvicorn", "--port", "{port}", "--app-dir", PROBE, "--no-access-log", "--ws", "websockets-sansio"]
        self.compare("uvicorn", [*command, "probe.sockets:application"])

    def test_messages_by_http_2_before_hypercorn(self):
        """hypercorn speaks HTTP/2 without TLS, so WebSockets go there by extended CONNECT (RFC 8441).

        When all is said it leaves its half of the stream open, and to what is malformed it says nothing but that: what
        is compared with its HTTP/1.1 is each message and the close with its code, of the cases that have one.
        """
        tool("hypercorn", "hypercorn is not in the environment (tests/django/venv matrix)")
        log = ["--access-logfile", self.folder / "access.log", "--access-logformat", "%(H)s"]
        port = self.app("hypercorn", "--bind", "127.0.0.1:{port}", *log, "probe.sockets:application")
        sidecar = self.sidecar(port, "inbound: {protocol: h2}\n")
        cases = frames.cases()

        def ask(at, case):
            client = frames.Client(at)
            self.assertEqual((b"101", ACCEPT), (client.status, client.accept))
            return client.transcript(*case, PATIENCE, to_the_end=False)

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            direct = dict(zip(cases, pool.map(lambda case: ask(port, case), cases.values())))
            direct = {case: said for case, said in direct.items() if said[-1] not in ("end", "open")}
            through = dict(zip(direct, pool.map(lambda case: ask(sidecar.ports["inbound"], cases[case]), direct)))
        print(f"websocket, hypercorn by HTTP/2: {len(direct)} of {len(cases)} cases closed", end=" ... ", flush=True)
        self.assertGreaterEqual(len(direct), 45)
        self.assertEqual(direct, through)
        versions = (self.folder / "access.log").read_text
        wait_until("all to be logged as HTTP/2", lambda: versions().split().count("2") == len(through))
