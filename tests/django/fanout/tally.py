"""What became of a cell's calls: the callee's record against the truth in the URLs, and the spans for the reasons."""

from collections import Counter

from .cell import own_trace_of, trace_of
from .servers import bare, floor, provable

CALLS = 3  # of each request; blocking.py has the same

#: Why a call has no parent where hopspan had no turn in time: that says nothing of the proof.
LATE = ("timed_out", "not_parked", "stale")

#: How many calls a request of these ways makes beyond; each must come.
BEYOND = {"late": "late", "closing": "closing", "child": "child", "forked": "child", "tunnel": "inside"}


class Row:
    """The calls of one way. `wanted` are those that a request caused while it was in flight."""

    def __init__(self):
        self.wanted = self.exact = self.wrong = self.none = 0
        self.beyond = 0  # calls for nobody, too late, or of other processes: rightly without a parent
        self.linked = 0  # of those, with a link to the request that they outlived
        self.evidence, self.reasons = Counter(), Counter()

    def add(self, other):
        for field in ("wanted", "exact", "wrong", "none", "beyond", "linked"):
            setattr(self, field, getattr(self, field) + getattr(other, field))
        self.evidence += other.evidence
        self.reasons += other.reasons


class Tally:
    """By way; `complaints` are what must not be."""

    def __init__(self, cell, count):
        self.cell, self.count = cell, count
        self.rows, self.complaints = {}, list(cell.failures)
        self.numbers = {trace_of(number): number for number in range(1, count + 1)}
        self.spans = cell.receiver.calls()
        self.calls = self.seen()
        for name, traces in self.calls.items():
            for trace in traces:
                self.judge(name, trace)
        self.expect_calls()
        self.expect_evidence()
        for what, times in cell.callee.strangers.items():
            self.complaints.append("%s reached the callee %d times" % (what, times))

    def row(self, way):
        return self.rows.setdefault(way, Row())

    def seen(self):
        """(way, cause, number) to the traces that its calls came with. A tunnel's trace is known by its span only."""
        calls = {}
        for way, cause, number, trace in list(self.cell.callee.calls):
            calls.setdefault((way, cause, number), []).append(trace)
        for name, spans in self.spans.items():
            if name[0] == "sync-tunnel":
                calls[name] = [span.trace for span in spans]
        return calls

    def judge(self, name, trace):
        way, cause, number = name
        row = self.row(way)
        if cause == "inside":
            row.beyond += 1
            return
        joined = self.numbers.get(trace)
        span = next((span for span in self.spans.get(name, ()) if span.trace == trace), None)
        if span is None:
            self.complaints.append("%s: a call %s of %d has no span of its trace" % name)
            return
        evidence = span.attributes.get("hopspan.parent.evidence")
        if cause == "own":
            right = trace == own_trace_of(number) and evidence == "header"
            row.exact += right
            row.wrong += not right
        elif joined is not None and (joined != number or cause in ("late", "nobody")):
            row.wrong += 1
            self.complaints.append("%s: a call %s of %d came with the trace of %d (%s)" % (*name, joined, evidence))
        elif cause == "caused":
            row.exact += joined is not None
            row.none += joined is None
        else:
            row.beyond += 1  # `ordered` and `closing` may be joined to their own request, if it is in flight
            row.linked += trace_of(number) in span.links
        if joined is not None or cause == "own":
            row.evidence[evidence] += 1
        elif cause == "caused":
            row.reasons[span.attributes.get("hopspan.unlinked.reason") or "no reason"] += 1

    def expect_calls(self):
        """No pass without calls: as many came as were made, and each has its span."""
        expected = Counter()
        for number in range(1, self.count + 1):
            way = self.cell.way(number)
            self.row(bare(way)).wanted += CALLS
            short = way.split("/")[1]
            expected[bare(way), "own" if short == "own" else "caused"] += CALLS
            beyond = BEYOND.get("late" if short.startswith("late") else short)
            if beyond:
                expected[bare(way), beyond] += CALLS if beyond == "inside" else 1
        came, told = Counter(), Counter()
        for (way, cause, _), traces in self.calls.items():
            came[way, cause] += len(traces)
        for (way, cause, _), spans in self.spans.items():
            told[way, cause] += len(spans)
        for way in {way for way, _ in expected}:
            if way.endswith("-order"):
                expected[way, "ordered"] = came[way, "ordered"]
                if came[way, "ordered"] < 2:
                    self.complaints.append("%s: no orders came" % way)
        expected["idle", "nobody"] = max(1, came["idle", "nobody"])
        for key in set(expected) | set(came):
            inside = key[1] == "inside"
            if came[key] != expected[key] or (told[key] != came[key] and not inside):
                self.complaints.append("%s %s: %d calls, %d spans, not %d" % (*key, came[key], told[key], expected[key]))

    def expect_evidence(self):
        """A cell of one rung joins by that rung; work that outlived a token's request is linked to it."""
        rung = self.cell.rung
        allowed = {"all": {"token", "thread", "serial", "header"}, "off": {"header"}}.get(rung, {rung, "header"})
        for way, row in self.rows.items():
            for evidence in set(row.evidence) - allowed:
                self.complaints.append("%s: joined by %s" % (way, evidence))
            if rung in ("token", "all") and "-late" in way and row.linked != row.beyond:
                self.complaints.append("%s: %d of %d late calls are linked" % (way, row.linked, row.beyond))

    def total(self):
        total = Row()
        for row in self.rows.values():
            total.add(row)
        return total

    def provable(self):
        """Of the calls that the rung can prove: how many were made, and joined, and looked at too late."""
        cell, total = self.cell, Row()
        for way in set(cell.ways):
            if provable(cell.rung, cell.server, way):
                total.add(self.row(bare(way)))
        return total.wanted, total.exact, sum(total.reasons[reason] for reason in LATE)

    def verdict(self, fast):
        """What is wrong with the cell; nothing if all is well."""
        wanted, exact, late = self.provable()
        if fast and self.cell.rung == "serial":
            wanted -= late
        least = floor(self.cell.rung, self.cell.server, fast)
        below = ["%d of %d calls joined, which is less than %s %%" % (exact, wanted, least)] if 100 * exact < least * wanted else []
        return self.complaints + below
