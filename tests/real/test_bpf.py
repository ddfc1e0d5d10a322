"""The object with the kernel's programs is what its source makes, by a pinned compiler; and a change would be seen."""

import importlib.machinery
import importlib.util
import subprocess

from harness import ROOT, Case, tool

LOADER = importlib.machinery.SourceFileLoader("bpf", str(ROOT / "tests/real/bpf"))
bpf = importlib.util.module_from_spec(importlib.util.spec_from_loader("bpf", LOADER))
LOADER.exec_module(bpf)


class Object(Case):
    def setUp(self):
        super().setUp()
        for name in ("clang-14", "llvm-strip-14"):
            tool(name, f"{name} is not installed (apt-get install clang-14 llvm-14)")

    def built(self, *changes):
        source = self.folder / "thread.bpf.c"
        text = (ROOT / bpf.SOURCE).read_text()
        for old, new in changes:
            self.assertEqual(1, text.count(old), old)
            text = text.replace(old, new)
        source.write_text(text)
        target = self.folder / "thread.bpf.o"
        bpf.build(str(source), str(target))
        return str(target)

    def test_the_object_is_what_its_source_makes(self):
        run = subprocess.run([ROOT / "tests/real/bpf"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.assertEqual(0, run.returncode, run.stdout.decode())
        # From another folder: no path matters.
        self.assertEqual([], bpf.differences(str(ROOT / bpf.OBJECT), self.built()))

    def test_a_change_of_the_source_is_seen(self):
        rows = 0
        for what, *changes in (
            ("a constant", ("#define OVERLAP 32 ", "#define OVERLAP 33 ")),
            ("the size of a map", ("__uint(max_entries, 16384);", "__uint(max_entries, 16385);")),
            ("the licence", ('"Dual MIT/GPL"', '"GPL"')),
            # Of the same size and in the same place: the instructions stay.
            ("a field of the kernel's", ("struct unix_sock { struct sock *peer;", "struct unix_sock { struct sock *listener;"), ("unix_sock->peer", "unix_sock->listener")),
        ):
            with self.subTest(what):
                self.assertNotEqual([], bpf.differences(str(ROOT / bpf.OBJECT), self.built(*changes)))
                rows += 1
        self.assertEqual(4, rows)

    def test_no_path_of_a_machine_is_in_the_object(self):
        self.assertNotIn(str(ROOT).encode(), (ROOT / bpf.OBJECT).read_bytes())
