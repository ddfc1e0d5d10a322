"""Is a trace one whole tree of the spans it must have? Pure functions over OTLP JSON; no I/O.

The chain of an order that reaches the shelf, each span the parent of the next:

    order SERVER > order CLIENT (to the app) > order CLIENT (outbound)
      > payment SERVER > payment CLIENT > payment CLIENT (outbound)
        > inventory SERVER > inventory CLIENT
"""

SERVER, CLIENT = 2, 3
KINDS = {SERVER: "SERVER", CLIENT: "CLIENT"}
CHAIN = [
    ("order", SERVER, "in"),
    ("order", CLIENT, "app"),
    ("order", CLIENT, "out"),
    ("payment", SERVER, "in"),
    ("payment", CLIENT, "app"),
    ("payment", CLIENT, "out"),
    ("inventory", SERVER, "in"),
    ("inventory", CLIENT, "app"),
]
# A child may seem to end this much after its parent: two processes note the end of one body in their own time.
SLACK_NS = 20_000_000


class Span:
    """One span of OTLP JSON, with what the checks ask of it."""

    def __init__(self, span, service):
        self.service = service
        self.trace, self.id = span["traceId"], span["spanId"]
        self.parent = span.get("parentSpanId") or ""
        self.kind = kind_of(span.get("kind"))
        self.name = span.get("name", "")
        self.start, self.end = int(span["startTimeUnixNano"]), int(span["endTimeUnixNano"])
        self.error = (span.get("status") or {}).get("code") in (2, "STATUS_CODE_ERROR")
        self.attributes = {item["key"]: value_of(item["value"]) for item in span.get("attributes", [])}

    @property
    def status(self):
        return int(self.attributes.get("http.response.status_code", 0))

    @property
    def path(self):
        return str(self.attributes.get("url.path") or self.attributes.get("url.full") or "")

    def __str__(self):
        return f"{self.service} {KINDS.get(self.kind, self.kind)} {self.name!r}"


def kind_of(kind):
    """The protobuf JSON mapping writes enums as names or numbers."""
    return {"SPAN_KIND_SERVER": SERVER, "SPAN_KIND_CLIENT": CLIENT}.get(kind, kind)


def value_of(value):
    return next(iter(value.values()), None)


def spans_of(otlp):
    """Spans of an OTLP JSON document (`{"resourceSpans": [...]}`)."""
    found = []
    for resource in otlp.get("resourceSpans", []):
        attributes = {item["key"]: value_of(item["value"]) for item in resource["resource"].get("attributes", [])}
        for scope in resource.get("scopeSpans", []):
            found += [Span(span, attributes.get("service.name", "?")) for span in scope.get("spans", [])]
    return found


def faults(spans, depth=len(CHAIN), status=500):
    """What is wrong with a trace that must be the first `depth` spans of the chain; empty where nothing is.

    `status` is the one that every span must carry: what broke at the bottom came up unchanged.
    """
    wanted = CHAIN[:depth]
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
    for service, kind, _ in wanted:
        children = by_parent.get(parent.id if parent else "", [])
        if len(children) != 1:
            wrong.append(f"{len(children)} children of {parent or 'the root'}, not 1")
            break
        span = children[0]
        if (span.service, span.kind) != (service, kind):
            wrong.append(f"{span} where {service} {KINDS[kind]} should be")
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
