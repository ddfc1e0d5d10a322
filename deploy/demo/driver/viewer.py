"""Reading traces from a running `hopspan view`."""

import json
import time

import tree
from processes import Failed, get


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

    def wait_for(self, spans_by_order, limit=15.0):
        """Spans by order ID, once each order has as many as given, or as they are when the limit (seconds) is over.

        A span belongs to the order whose ID is in its URL, whatever trace it is in.
        """
        deadline = time.monotonic() + limit
        while True:
            found = self.by_order(spans_by_order)
            whole = all(len(found.get(order, [])) >= count for order, count in spans_by_order.items())
            if whole or time.monotonic() > deadline:
                return found
            time.sleep(0.1)
