"""Changes libraries once the app imports them; imports none itself.

An entry of `sys.meta_path` finds nothing: for the modules it waits for it asks the others, and makes the loader they
found run the hook after the module. Everything fails open.
"""

import os
import sys

_DEBUG = os.environ.get("HOPSPAN_SHIM") == "debug"
_told = set()


def trouble(where):
    """A hook failed: the app is left alone. In debug mode, says so once for each place."""
    if _DEBUG and where not in _told:
        _told.add(where)
        import traceback

        print("hopspan shim: %s failed, the app is untouched:" % where, file=sys.stderr)
        traceback.print_exc()


def replace(owner, name, make):
    """Puts `make(original)` in the place of a function that `owner` itself defines, once."""
    original = vars(owner).get(name)
    if original is None or hasattr(original, "__hopspan__"):
        return
    import functools  # not at the top: every interpreter start would pay for it

    wrapper = functools.update_wrapper(make(original), original)
    wrapper.__hopspan__ = True
    setattr(owner, name, wrapper)


def install(hooks):
    """`hooks`: module name to a function that is given the module. Applied now where it is imported already."""
    if any(isinstance(finder, _Finder) for finder in sys.meta_path):
        return
    for name in hooks:
        if name in sys.modules:
            _apply(name, hooks[name], sys.modules[name])
    sys.meta_path.insert(0, _Finder(hooks))


def _apply(name, hook, module):
    try:
        hook(module)
    except Exception:
        trouble("the hook of " + name)


class _Finder:
    def __init__(self, hooks):
        self.hooks = hooks

    def find_spec(self, name, path=None, target=None):
        hook = self.hooks.get(name)
        if hook is None:
            return None
        try:
            return self.hooked(name, path, target, hook)
        except Exception:
            trouble("looking for " + name)
            return None  # Python asks the other finders itself, and reports what they raise

    def hooked(self, name, path, target, hook):
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            spec = find(name, path, target) if find is not None and finder is not self else None
            if spec is not None:
                if hasattr(spec.loader, "exec_module"):
                    _after(spec.loader, name, hook)
                return spec
        return None


def _after(loader, name, hook):
    """Makes this loader run the hook after the module, then be what it was."""
    if isinstance(loader, type):  # of builtin and frozen modules: one for all, so it is not touched
        return
    execute = loader.exec_module

    def exec_module(module):
        if module.__name__ != name:  # a zip archive has one loader for its modules
            execute(module)
            return
        vars(loader).pop("exec_module", None)
        execute(module)
        _apply(name, hook, module)

    loader.exec_module = exec_module
