"""The demo's own checker: it must see every kind of broken tree (it judges the real ones in deploy/demo/run)."""

import copy
import unittest

import harness  # noqa: F401  (finds the demo's driver)
import tree


def whole():
    """A failing order's trace as the viewer's API answers it."""
    rows, parent = [], None
    for number, (service, kind) in enumerate(tree.CHAIN):
        rows.append(
            {
                "span_id": f"{number + 1:016x}",
                "parent_id": parent,
                "service": service,
                "kind": kind.lower(),
                "name": "POST",
                "start_ns": number * 1000,
                "duration_ns": 90_000 - 2 * number * 1000,
                "error": True,
                "status_code": 500,
            }
        )
        parent = rows[-1]["span_id"]
    return {"trace_id": "0af7651916cd43dd8448eb211c80319c", "rows": rows}


def drop(trace):
    del trace["rows"][-1]


def graft(trace):
    trace["rows"][5]["parent_id"] = trace["rows"][1]["span_id"]


def orphan(trace):
    trace["rows"][3]["parent_id"] = "ffffffffffffffff"


def second_root(trace):
    trace["rows"][2]["parent_id"] = None


def other_service(trace):
    trace["rows"][6]["service"] = "payment"


def other_kind(trace):
    trace["rows"][6]["kind"] = "client"


def recovered(trace):
    trace["rows"][7].update(error=False, status_code=200)


def before_parent(trace):
    trace["rows"][4]["start_ns"] = 0


def extra(trace):
    trace["rows"].append(dict(trace["rows"][-1], span_id="00000000000000aa"))


class Checker(unittest.TestCase):
    def test_a_whole_tree_has_no_fault(self):
        self.assertEqual([], tree.faults(tree.spans_of(whole())))

    def test_every_kind_of_fault_is_seen(self):
        breaks = [drop, graft, orphan, second_root, other_service, other_kind, recovered, before_parent, extra]
        for broken in breaks:
            trace = copy.deepcopy(whole())
            broken(trace)
            with self.subTest(broken.__name__):
                self.assertNotEqual([], tree.faults(tree.spans_of(trace)))

    def test_spans_of_two_traces_are_no_tree(self):
        first, second = whole(), whole()
        second["trace_id"] = "1" * 32
        spans = tree.spans_of(first)[:4] + tree.spans_of(second)[4:]
        self.assertIn("not one trace ID", tree.faults(spans))
