"""The Python shim's own tests (tests/django/shim), with the real libraries."""

import subprocess
import unittest

from harness import PROBE


class Shim(unittest.TestCase):
    def test_with_this_python(self):
        run = subprocess.run([str(PROBE / "shim")], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.assertEqual(0, run.returncode, run.stdout.decode(errors="replace"))
