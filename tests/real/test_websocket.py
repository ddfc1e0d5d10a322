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
