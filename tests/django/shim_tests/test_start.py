"""How the shim comes into a process, and how little it does there."""

import ast
import glob
import os
import subprocess
import sys
import tempfile
import unittest
import zipfile

from .apps import patched
from .test_outbound import CLIENTS
from .world import ROOT, SHIM, new_token, new_url, serving, tokens_of

SOURCES = sorted(glob.glob(os.path.join(SHIM, "**", "*.py"), recursive=True))


def python(code, path=(SHIM,), flags=(), **environ):
    """What a fresh interpreter prints."""
    environ = dict(os.environ, PYTHONPATH=os.pathsep.join(path), **environ)
    run = subprocess.run(
        [sys.executable, *flags, "-c", code], env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60
    )
    return run.stdout.decode().strip(), run.stderr.decode().strip()


def with_file(name, text):
    folder = tempfile.TemporaryDirectory()
    with open(os.path.join(folder.name, name), "w") as file:
        file.write(text)
    return folder


class Start(unittest.TestCase):
    def test_it_is_there(self):
        self.assertEqual(python("import sys; print('hopspan_shim' in sys.modules)"), ("True", ""))

    def test_it_can_be_turned_off(self):
        out = python("import sys; print('hopspan_shim' in sys.modules, len(sys.meta_path))", HOPSPAN_SHIM="0")
        plain = python("import sys; print('hopspan_shim' in sys.modules, len(sys.meta_path))", path=())
        self.assertEqual((out, plain[0].split()[0]), (plain, "False"))

    def test_isolated_interpreters_do_not_see_it(self):
        self.assertEqual(python("import sys; print('hopspan_shim' in sys.modules)", flags=["-I"]), ("False", ""))

    def test_it_imports_nothing_of_others_and_little_of_pythons(self):
        code = "import sys; print(*sorted(sys.modules))"
        more = set(python(code)[0].split()) - set(python(code, path=())[0].split())
        more = {name for name in more if not name.startswith("hopspan_shim") and name != "sitecustomize"}
        allowed = {"contextvars", "_contextvars", "types", "importlib", "importlib._bootstrap"}
        allowed |= {"importlib._bootstrap_external", "importlib.machinery", "warnings", "_imp"}
        self.assertLessEqual(more, allowed)

    def test_no_thread_no_socket(self):
        code = "import sys; print('threading' in sys.modules, '_socket' in sys.modules)"
        self.assertEqual(python(code), (python(code, path=())[0], ""))

    def test_the_folder_holds_source_only(self):
        kept = subprocess.run(["git", "-C", SHIM, "ls-files", "."], stdout=subprocess.PIPE).stdout.decode().split()
        self.assertTrue(kept)
        self.assertEqual([name for name in kept if not name.endswith(".py")], [])

    def test_syntax_of_python_3_8(self):
        self.assertGreaterEqual(len(SOURCES), 7)
        for source in SOURCES:
            with open(source) as file:
                ast.parse(file.read(), source, feature_version=(3, 8))

    def test_libraries_imported_before_are_hooked_too(self):
        # As with a debugger or a coverage tool that was first.
        code = (
            "import sys, http.client, threading; sys.path.insert(0, %r); import hopspan_shim; hopspan_shim.install();"
            "hopspan_shim.install();"
            "print(hasattr(http.client.HTTPConnection.endheaders, '__hopspan__'),"
            "hasattr(threading.Thread.start, '__hopspan__'), hasattr(threading.Thread.start.__wrapped__, '__wrapped__'))"
        )
        self.assertEqual(python(code % SHIM, path=()), ("True True False", ""))

    def test_a_reloaded_module_is_hooked_again(self):
        code = (
            "import http.client, importlib; importlib.reload(http.client);"
            "print(hasattr(http.client.HTTPConnection.endheaders, '__hopspan__'))"
        )
        self.assertEqual(python(code), ("True", ""))

    @unittest.skipIf(sys.version_info < (3, 10), "zipimport has no exec_module before 3.10: such modules go unhooked")
    def test_modules_in_an_archive_are_hooked(self):
        with tempfile.TemporaryDirectory() as folder:
            archive = os.path.join(folder, "libraries.zip")
            with zipfile.ZipFile(archive, "w") as file:
                file.writestr("flask/__init__.py", "from . import app")
                file.writestr("flask/app.py", "from . import other\nclass Flask:\n    def __call__(self): pass\n")
                file.writestr("flask/other.py", "")
            code = "import flask; print(hasattr(flask.app.Flask.__call__, '__hopspan__'), flask.other.__name__)"
            self.assertEqual(python(code, path=(SHIM, archive)), ("True flask.other", ""))


class Chain(unittest.TestCase):
    def test_the_hidden_one_runs_as_if_alone(self):
        text = "import sys\nOWN = __name__, __spec__.name\nsys.stdout.write('own ')\n"
        with with_file("sitecustomize.py", text) as folder:
            for path in ((SHIM, folder), (folder, SHIM)):
                out = python("import sitecustomize; print(sitecustomize.OWN, sitecustomize.__file__)", path=path)
                self.assertEqual(out, ("own ('sitecustomize', 'sitecustomize') %s/sitecustomize.py" % folder, ""))

    def test_its_error_is_reported_as_ever(self):
        with with_file("sitecustomize.py", "raise KeyError('own')") as folder:
            out, error = python("print('runs')", path=(SHIM, folder))
            self.assertEqual((out, error), python("print('runs')", path=(folder,)))
            self.assertIn("own", error)

    def test_none_is_fine_and_so_is_the_folder_twice(self):
        self.assertEqual(python("print('runs')", path=(SHIM, SHIM, SHIM + "/")), ("runs", ""))

    def test_it_runs_where_the_shim_is_off(self):
        with with_file("sitecustomize.py", "print('own')") as folder:
            self.assertEqual(python("", path=(SHIM, folder), HOPSPAN_SHIM="0"), ("own", ""))


class FailOpen(unittest.TestCase):
    def test_a_library_of_another_shape_is_left_alone(self):
        for text in ("", "Flask = 3", "class Flask: pass", "class Flask:\n    __slots__ = ()\n    __call__ = 3"):
            with with_file("flask.py", "import sys\n__path__ = []\nimport flask_app as app\n") as folder:
                with open(os.path.join(folder, "flask_app.py"), "w") as file:
                    file.write(text)
                self.assertEqual(python("import flask; print('runs')", path=(SHIM, folder)), ("runs", ""))

    def test_a_shim_that_does_not_load_is_no_shim(self):
        with with_file("hopspan_shim.py", "raise SystemError('broken')") as folder:
            self.assertEqual(python("print('runs')", path=(folder, SHIM)), ("runs", ""))
            out, error = python("print('runs')", path=(folder, SHIM), HOPSPAN_SHIM="debug")
            self.assertEqual((out, "broken" in error), ("runs", True))

    def test_calls_go_out_whatever_a_hook_does(self):
        from hopspan_shim import cause, outbound

        def broken(*_):
            raise RuntimeError("shim")

        for owner, name in ((cause, "current"), (outbound, "is_hopspan"), (cause, "_found")):
            for client in CLIENTS:
                with self.subTest(hook=name, client=client.__name__), serving(new_token()):
                    url = new_url()
                    with patched(owner, name, broken):
                        client(url)
                    self.assertEqual(tokens_of(url), [[]])

    def test_apps_run_whatever_a_hook_does(self):
        import asyncio

        from hopspan_shim import cause

        from . import apps
        from .world import asgi_get, wsgi_get

        def broken(*_):
            raise RuntimeError("shim")

        for name in ("begin", "end"):
            with patched(cause, name, broken):
                apps.TARGETS["call"] = new_url()
                for make in (apps.django_wsgi, apps.flask):
                    self.assertEqual(wsgi_get(make(), new_token(), "/call"), b"called")
                for make in (apps.django_asgi, apps.starlette):
                    self.assertEqual(asyncio.run(asgi_get(make(), new_token(), "/async")), b"called")
            cause.use(None)


class Gevent(unittest.TestCase):
    def test_greenlets(self):
        script = os.path.join(ROOT, "tests", "django", "shim_tests", "greenlets.py")
        run = subprocess.run(
            [sys.executable, script],
            env=dict(os.environ, PYTHONPATH=SHIM),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=120,
        )
        self.assertEqual((run.returncode, run.stdout.decode().strip().splitlines()[-1:]), (0, ["ok"]), run.stdout)
