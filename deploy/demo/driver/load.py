"""The load run: the same orders without and with hopspan, every answer compared, every join checked.

The order's ID rides in the URL of every call on its way. A join is wrong when a span's parent carries another ID.
"""

import concurrent.futures
import http.client
import sys
import time

import orders
import tree
from layout import DEMO, HERE, SERVICES
from processes import Process, get, stop_all, wait_until

KINDS = ["mug", "mug", "poster", "teapot", "mug", "piano", "mug", "poster"]


def order_of(number):
    return orders.Order(f"load-{number:06}", KINDS[number % len(KINDS)])


class Run:
    """Answers and times of one pass over the orders."""

    def __init__(self, address, count, clients):
        self.answers = [None] * count
        self.times = [0.0] * count
        self.failures = []
        self.connections = 0
        numbers = iter(range(count))  # next() of one iterator is atomic under the GIL
        began = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(clients) as pool:
            for client in [pool.submit(self.client, address, numbers) for _ in range(clients)]:
                client.result()
        self.seconds = time.monotonic() - began

    def client(self, address, numbers):
        """One client: a keep-alive connection, an order after another."""
        connection = http.client.HTTPConnection(*address, timeout=60)
        for number in numbers:
            began = time.monotonic()
            try:
                self.answers[number] = orders.send(address, order_of(number), connection)
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(f"{order_of(number).id}: {error!r}")
                connection.close()
            self.times[number] = time.monotonic() - began
        connection.close()

    def report(self, title):
        at = sorted(self.times)
        p50, p90, p99 = (1000 * at[min(len(at) - 1, int(len(at) * share))] for share in (0.50, 0.90, 0.99))
        rate = len(at) / self.seconds
        print(f"{title}: {rate:.0f} orders/s, {p50:.1f} / {p90:.1f} / {p99:.1f} ms (p50 / p90 / p99)", flush=True)


def direct(demo, count, clients):
    """The pass without hopspan: the same services, resolving each other's names in the process (see baseline/)."""
    ports = demo.ports
    names = {"payment-service": "payment", "inventory-service": "inventory"}
    pairs = ",".join(f"{name}=127.0.0.1:{ports.of(service, 'app')}" for name, service in names.items())
    started = []
    try:
        for service in SERVICES:
            env = dict(demo.env(service), DEMO_NAMES=pairs, PYTHONPATH=str(HERE / "baseline"))
            log = demo.state / f"direct-{service}.log"
            started.append(Process(f"{service} without hopspan", demo.gunicorn(service), env, DEMO / "services", log))
        for service in SERVICES:
            app = f"http://127.0.0.1:{ports.of(service, 'app')}/healthz"
            wait_until(f"{service} without hopspan", lambda: get(app)[0] == 200, started)
        run = Run(("127.0.0.1", ports.of("order", "app")), count, clients)
    finally:
        stop_all(started)
    run.report("without hopspan")
    return run


def through_hopspan(demo, count, clients, direct):
    """The pass through hopspan, compared; the exit code."""
    run = Run(demo.order_address(), count, clients)
    run.report("through hopspan")
    wanted = [order_of(number) for number in range(count)]
    found = demo.viewer.wait_for({order.id: order.spans for order in wanted}, limit=60)
    joins = Joins(wanted, found, demo.viewer.all_spans)
    different = [
        f"{order.id}: {answer and answer.visible} instead of {expected and expected.visible}"
        for order, answer, expected in zip(wanted, run.answers, direct.answers)
        if answer is None or expected is None or answer.visible != expected.visible
    ]
    print(
        f"""answers: {count - len(different)} of {count} the same as without hopspan
joins:   {joins.joined} of {joins.calls} calls joined ({100 * joins.joined / joins.calls:.2f} %), {len(joins.wrong)} wrong
trees:   {joins.whole} of {count} orders are one whole tree"""
    )
    for evidence, times in sorted(joins.evidence.items()):
        print(f"         by {evidence}: {times}")
    for reason, times in sorted(joins.reasons.items()):
        print(f"         without a parent: {times} ({reason})")
    complaints = run.failures + direct.failures + different + joins.wrong + joins.missing
    for complaint in complaints[:20]:
        print("  " + complaint, file=sys.stderr)
    good = not complaints and joins.joined >= 0.99 * joins.calls
    print("passed" if good else "FAILED (wanted: the same answers, 0 wrong, 99 % joined, no span missing)", flush=True)
    return 0 if good else 1


class Joins:
    """What became of the calls: joined, wrong, or without a parent and why."""

    def __init__(self, wanted, found, spans):
        self.calls = sum(order.calls for order in wanted)
        self.joined, self.whole = 0, 0
        self.wrong, self.missing, self.reasons, self.evidence = [], [], {}, {}
        by_id = {span.id: span for span in spans}
        for order in wanted:
            mine = found.get(order.id, [])
            self.whole += not tree.faults(mine, order.spans, order.status)
            if len(mine) != order.spans:
                self.missing.append(f"{order.id}: {len(mine)} spans, not {order.spans}")
            for span in mine:
                self.count(order, span, by_id.get(span.parent))

    def count(self, order, span, parent):
        if parent and parent.order != order.id:
            self.wrong.append(f"{order.id}: {span} hangs below {parent} of {parent.order}")
        elif span.parent and not parent:
            self.missing.append(f"{order.id}: the parent of {span} is not here")
        if span.unlinked:
            self.reasons[span.unlinked] = self.reasons.get(span.unlinked, 0) + 1
        # An outbound call: its parent is the same service's span towards the app, known by something else than a header.
        if parent and parent.service == span.service and span.evidence not in (None, "header"):
            self.joined += 1
            self.evidence[span.evidence] = self.evidence.get(span.evidence, 0) + 1
