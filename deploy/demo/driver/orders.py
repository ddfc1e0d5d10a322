"""Orders as a client of the shop sends them, and what each must come to."""

import http.client
import urllib.parse

# What the demo sends: a sold-out teapot last, so that it is the newest failing trace.
MIX = ["mug", "poster", "piano", "mug", "teapot", "mug", "poster", "mug", "mug", "teapot"]
# sku -> (status that the client gets, spans of its trace)
OUTCOMES = {"mug": (200, 8), "poster": (200, 8), "piano": (402, 5), "teapot": (500, 8)}


class Order:
    """One order. Its ID rides in every URL on the way: the ground truth of which call belongs to which."""

    def __init__(self, id, sku):
        self.id, self.sku = id, sku
        self.status, self.spans = OUTCOMES[sku]

    @property
    def calls(self):
        """Calls that services make for it."""
        return 1 if self.sku == "piano" else 2


class Answer:
    """What a client can see of a response: all but what differs between any two (the date) or belongs to one
    connection (hop-by-hop fields)."""

    SKIPPED = {"date", "connection", "keep-alive", "transfer-encoding"}

    def __init__(self, status, reason, headers, body):
        self.status = status
        kept = sorted((name.lower(), value) for name, value in headers if name.lower() not in self.SKIPPED)
        self.visible = (status, reason, tuple(kept), body)


def send(address, order, connection=None):
    """POSTs an order; over `connection` if given, which is then reused or made anew as the server wishes."""
    used = connection or http.client.HTTPConnection(*address, timeout=60)
    body = urllib.parse.urlencode({"sku": order.sku, "quantity": 1})
    used.request("POST", f"/orders/{order.id}/", body, {"Content-Type": "application/x-www-form-urlencoded"})
    response = used.getresponse()
    answer = Answer(response.status, response.reason, response.getheaders(), response.read())
    if connection is None:
        used.close()
    return answer
