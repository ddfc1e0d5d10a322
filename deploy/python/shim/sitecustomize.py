"""Started by Python itself (site.py) where this folder is on PYTHONPATH: installs hopspan's shim, then runs the
sitecustomize that this one hides, if there is one, as if this file did not exist.

`HOPSPAN_SHIM=0` leaves the interpreter alone; `HOPSPAN_SHIM=debug` says on stderr what failed.
"""

import os
import sys


def _install():
    """Nothing that goes wrong here may reach the app."""
    mode = os.environ.get("HOPSPAN_SHIM", "1")
    if mode in ("0", "off", "false"):
        return
    try:
        import hopspan_shim

        hopspan_shim.install()
    except Exception as error:
        if mode == "debug":
            print("hopspan shim: not installed: %r" % (error,), file=sys.stderr)


def _hidden():
    """The spec of the sitecustomize that Python would have run without this folder, or None."""
    try:
        from importlib.machinery import PathFinder

        here = os.path.dirname(os.path.realpath(__file__))
        others = [path for path in sys.path if os.path.realpath(path or ".") != here]
        return PathFinder.find_spec("sitecustomize", others)
    except Exception:
        return None


def _run(spec):
    """Runs the hidden one under its own name. What it raises is for site.py, as always."""
    import importlib.util

    module = importlib.util.module_from_spec(spec)
    sys.modules["sitecustomize"] = module
    spec.loader.exec_module(module)


_install()
_spec = _hidden()
if _spec is not None and _spec.loader is not None:
    _run(_spec)
