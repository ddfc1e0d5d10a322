"""Runs the real-parts tests and closes with `N passed, N failed, N skipped`.

    suite.py [NAME ...]      test modules without `test_`, as in: suite.py nginx collector
"""

import pathlib
import sys
import unittest

HERE = pathlib.Path(__file__).resolve().parent


class Lines(unittest.TextTestResult):
    """One line a test, as it ends."""

    def __init__(self, *arguments, **more):
        super().__init__(*arguments, **more)
        self.passed = 0

    def addSuccess(self, test):
        super().addSuccess(test)
        self.passed += 1

    def getDescription(self, test):
        return f"{type(test).__module__.replace('test_', '')}: {test._testMethodName.replace('test_', '').replace('_', ' ')}"


def main(names):
    sys.path.insert(0, str(HERE))
    modules = sorted(path.stem for path in HERE.glob("test_*.py"))
    wanted = [f"test_{name}" for name in names] or modules
    unknown = sorted(set(wanted) - set(modules))
    if unknown:
        print(f"no such part: {', '.join(unknown)}; there are: {', '.join(m[5:] for m in modules)}", file=sys.stderr)
        return 2
    tests = unittest.defaultTestLoader.loadTestsFromNames(wanted)
    result = unittest.TextTestRunner(stream=sys.stdout, verbosity=2, resultclass=Lines).run(tests)
    failed = len(result.failures) + len(result.errors) + len(result.unexpectedSuccesses)
    if result.passed + failed == 0:
        print("no test ran", file=sys.stderr)
        failed = 1
    print(f"{result.passed} passed, {failed} failed, {len(result.skipped)} skipped", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
