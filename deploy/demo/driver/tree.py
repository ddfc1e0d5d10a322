"""Is a trace one whole tree of the spans it must have? Pure functions over what the viewer's API answers.

The chain of an order that reaches the shelf, each span the parent of the next:

    order SERVER > order CLIENT (to the app) > order CLIENT (outbound)
      > payment SERVER > payment CLIENT > payment CLIENT (outbound)
        > inventory SERVER > inventory CLIENT
"""

SERVER, CLIENT = "SERVER", "CLIENT"
CHAIN = [
    ("order", SERVER),
    ("order", CLIENT),
    ("order", CLIENT),
    ("payment", SERVER),
    ("payment", CLIENT),
    ("payment", CLIENT),
    ("inventory", SERVER),
    ("inventory", CLIENT),
]
# A child may seem to end this much after its parent: two processes note the end of one body in their own time.
SLACK_NS = 20_000_000


class Span:
    """One row of a trace as the viewer's API answers it, with what the checks ask of it."""

    def __init__(self, trace, row):
        self.service, self.kind, self.name = row["service"], row["kind"].upper(), row["name"]
        self.trace, self.id = trace["trace_id"], row["span_id"]
        self.parent = row.get("parent_id") or ""
        self.start = row["start_ns"]  # after the start of the trace
        self.end = self.start + row["duration_ns"]
        self.error = row["error"]
        self.status = row.get("status_code") or 0
        self.evidence, self.unlinked = row.get("evidence"), row.get("unlinked")
        self.attributes = row.get("attributes", {})
        self.order = None  # the ID in the URL, once it is known which IDs there are

    @property
    def url(self):
        return str(self.attributes.get("url.path") or self.attributes.get("url.full") or "")

    def __str__(self):
        return f"{self.service} {self.kind} {self.name!r}"


def spans_of(trace):
    """The spans of `GET /api/traces/{id}`."""
    return [Span(trace, row) for row in trace["rows"]]


def faults(spans, depth=len(CHAIN), status=500):
    """What is wrong with a trace that must be the first `depth` spans of the chain; empty where nothing is.

    `status` is the one that every span must carry: what broke at the bottom came up unchanged.
    """
    wrong = []
    if len(spans) != depth:
        wrong.append(f"{len(spans)} spans, not {depth}: " + ", ".join(map(str, spans)))
    if len({span.trace for span in spans}) != 1:
        wrong.append("not one trace ID")
    by_parent = {}
    for span in spans:
        by_parent.setdefault(span.parent, []).append(span)
    ids = {span.id for span in spans}
    for span in spans:
        if span.parent and span.parent not in ids:
            wrong.append(f"{span}: its parent {span.parent} is not in the trace")
    parent = None
    for service, kind in CHAIN[:depth]:
        children = by_parent.get(parent.id if parent else "", [])
        if len(children) != 1:
            wrong.append(f"{len(children)} children of {parent or 'the root'}, not 1")
            break
        span = children[0]
        if (span.service, span.kind) != (service, kind):
            wrong.append(f"{span} where {service} {kind} should be")
        wrong += span_faults(span, parent, status)
        parent = span
    return wrong


def span_faults(span, parent, status):
    wrong = []
    if span.status != status:
        wrong.append(f"{span}: status {span.status}, not {status}")
    # OTel: 5xx is an error on both sides, 4xx on the client's only.
    if span.error != (status >= 500 or (status >= 400 and span.kind == CLIENT)):
        wrong.append(f"{span}: span status {'error' if span.error else 'not error'} for {status}")
    if span.end < span.start:
        wrong.append(f"{span}: ends before it starts")
    if parent and not (parent.start <= span.start and span.end <= parent.end + SLACK_NS):
        wrong.append(f"{span}: not within its parent's time")
    return wrong
