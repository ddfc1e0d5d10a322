"""A fast cut of the join matrix (tests/django/joins): threads, an event loop, greenlets; every call exact, none wrong."""

import os
import subprocess
import unittest

from harness import HOPSPAN, PROBE


class Joins(unittest.TestCase):
    def test_every_call_is_joined_to_its_cause_and_to_nothing_else(self):
        command = [str(PROBE / "joins"), "--fast"]
        run = subprocess.run(command, env=dict(os.environ, HOPSPAN_BIN=HOPSPAN), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        output = run.stdout.decode(errors="replace")
        print(output.rpartition("\n\n")[2])  # the table of servers
        self.assertEqual(0, run.returncode, output)
        self.assertIn("100.00%", output)
        for line in output.splitlines():
            if line.startswith("skipped"):
                raise unittest.SkipTest(line)
