"""Reading traces from a running `hopspan view`."""

import json
import time

import tree
from processes import Failed, get

LIST = 10_000  # traces listed at most


class Viewer:
    """The viewer's API at its page address."""

    def __init__(self, address):
        self.address = address
        self.all_spans = []

    def fetch(self, path):
        status, body = get(self.address + path, timeout=30)
        if status != 200:
            raise Failed(f"the viewer answered {status} to {path}: {body[:200]!r}")
        return json.loads(body)

    def wait_for(self, spans_by_order, limit=60.0):
        """Spans by order ID, once each order has as many as given, or as they are when `limit` (seconds) is over.

        A span belongs to the order whose ID is in its URL, whatever trace it is in.
        """
        deadline = time.monotonic() + limit
        wanted = sum(spans_by_order.values())
        while True:
            late = time.monotonic() > deadline
            # Reading every trace is dear: first see whether enough spans came.
            if late or self.held() >= wanted:
                found = self.by_order(spans_by_order)
                if late or all(len(found.get(order, [])) >= count for order, count in spans_by_order.items()):
                    return found
            time.sleep(0.1)

    def held(self):
        return self.fetch("/api/status")["spans"]

    def by_order(self, ids):
        """Every span that is held, by the order in its URL (also its `order`); those of other URLs under None."""
        found = {}
        self.all_spans = []
        for summary in self.fetch(f"/api/traces?limit={LIST}")["traces"]:
            self.all_spans += tree.spans_of(self.fetch(f"/api/traces/{summary['trace_id']}"))
        by_id = {span.id: span for span in self.all_spans}
        for span in self.all_spans:
            # The span towards the app has no URL: it is the SERVER span's, by making, not by a join.
            told = span if span.url else by_id.get(span.parent, span)
            span.order = next((part for part in reversed(told.url.split("/")) if part in ids), None)
            found.setdefault(span.order, []).append(span)
        return found
