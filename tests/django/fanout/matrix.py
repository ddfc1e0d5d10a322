"""Runs the cells of the join matrix, one after another, and prints what became of their calls. See ../joins."""

import argparse
import os
import platform
import shutil
import signal
import sys
import tempfile
import time

from .cell import Cell, Failed
from .rungs import forbidden
from .servers import BIN, FAST, RUNGS, SERVERS
from .tally import Tally

HEAD = "  %-24s %8s %8s %6s %8s %8s   %s"
LINE = "  %-24s %8d %8d %6d %8d %8d   %s"


def missing(program):
    """Why a server cannot run here, or None."""
    if program == "gevent":
        try:
            import gevent  # noqa: F401
        except ImportError:
            return "gevent is not in the environment (tests/django/venv matrix)"
    elif shutil.which(program, path=BIN) is None:
        return program + " is not in the environment (tests/django/venv matrix)"
    return None


def without_missing_clients():
    """Takes ways off whose library is not here; says so."""
    try:
        import pycurl  # noqa: F401
    except ImportError:
        for _, _, ways in SERVERS.values():
            if "sync/pycurl" in ways:
                ways.remove("sync/pycurl")
        return ["sync/pycurl: pycurl is not in the environment (tests/django/venv matrix)"]
    return []


def told(counter):
    return ", ".join("%s %d" % pair for pair in counter.most_common())


def show(tally):
    cell = tally.cell
    print("\n%s: %d requests in %.0f s" % (cell.name, tally.count, cell.seconds))
    print(HEAD % ("way", "caused", "exact", "wrong", "none", "beyond", "evidence; why none"))
    for name, row in sorted(tally.rows.items()):
        why = "; ".join(filter(None, (told(row.evidence), told(row.reasons))))
        print(LINE % (name, row.wanted, row.exact, row.wrong, row.none, row.beyond, why))
    sys.stdout.flush()


def run(given, server, rung, folder):
    """One cell's tally."""
    cell = Cell(given.hopspan, server, rung, folder)
    try:
        cell.wait_ready()
        count = given.requests or (400 if given.fast else 1500)
        cell.load(count, given.clients)
        cell.settle(count)
    finally:
        cell.stop()
    tally = Tally(cell, count)
    show(tally)
    return tally


def summary(tallies):
    print("\n%-12s %-7s %8s %8s %6s %8s   %-22s  %s" % (*"server rung caused exact wrong none".split(), "of the provable", "why none"))
    for tally in tallies:
        cell, total = tally.cell, tally.total()
        wanted, exact, _ = tally.provable()
        share = "%d of %d, %.2f %%" % (exact, wanted, 100 * exact / wanted) if wanted else "-"
        row = (cell.server, cell.rung, total.wanted, total.exact, total.wrong, total.none, share, told(total.reasons))
        print("%-12s %-7s %8d %8d %6d %8d   %-22s  %s" % row)


def cells(given):
    """(server, rung) in order."""
    if given.fast:
        wanted = FAST
    else:
        wanted = [(server, rung) for server in SERVERS for rung in RUNGS]
    servers, rungs = given.servers or SERVERS, given.rungs or RUNGS
    if given.servers or given.rungs:
        wanted = [(server, rung) for server in servers for rung in rungs]
    return wanted


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("hopspan")
    parser.add_argument("servers", nargs="*")
    parser.add_argument("--rungs", nargs="*")
    for option in ("--requests", "--clients"):
        parser.add_argument(option, type=int)
    parser.add_argument("--fast", action="store_true")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    print("Linux %s, %d CPUs, load %.1f, Python %s" % (platform.release(), os.cpu_count(), os.getloadavg()[0], platform.python_version()))
    began, tallies, bad, skipped = time.monotonic(), [], [], without_missing_clients()
    with tempfile.TemporaryDirectory(prefix="hopspan-joins-") as folder:
        for server, rung in cells(given):
            why = missing(SERVERS[server][0]) or forbidden(rung)
            if why:
                skipped.append("%s, %s: %s" % (server, rung, why))
                continue
            try:
                tally = run(given, server, rung, folder)
            except Failed as failure:
                bad.append("%s, %s: %s" % (server, rung, failure))
                continue
            tallies.append(tally)
            bad += ["%s: %s" % (tally.cell.name, complaint) for complaint in tally.verdict(given.fast)[:10]]
    summary(tallies)
    for line in skipped:
        print("skipped " + line)
    for line in bad:
        print("BAD " + line)
    seconds = time.monotonic() - began
    print("%d cells in %.0f s, %d skipped, %d complaints" % (len(tallies), seconds, len(skipped), len(bad)))
    return 1 if bad or not tallies else 0


if __name__ == "__main__":
    sys.exit(main())
