"""What a request starts works for it, until it works for others."""

import asyncio
import contextvars
import functools
import os
import queue
import sys
import tempfile
import threading
import unittest
import warnings
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.pool import ThreadPool

from .test_outbound import by_requests
from .world import new_token, new_url, serving, tokens_of

STARTED = None


def run_thread(thread):
    thread.start()
    thread.join()


class Threads(unittest.TestCase):
    def setUp(self):
        self.url, self.token = new_url(), new_token()

    def seen(self):
        return tokens_of(self.url)

    def call(self, *_):
        by_requests(self.url)

    def test_a_thread(self):
        with serving(self.token):
            run_thread(threading.Thread(target=self.call))
            run_thread(threading.Thread(target=self.call, daemon=False))
        self.assertEqual(self.seen(), [[self.token]] * 2)

    def test_a_thread_that_was_made_a_daemon_works_for_nobody(self):
        class Own(threading.Thread):
            def __init__(self, **more):
                super().__init__(daemon=True, **more)

        with serving(self.token):
            by_keyword = threading.Thread(target=self.call, daemon=True)
            by_attribute, by_method = (threading.Thread(target=self.call) for _ in range(2))
            by_attribute.daemon = True
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                by_method.setDaemon(True)
            for thread in (by_keyword, by_attribute, by_method, Own(target=self.call)):
                run_thread(thread)
        self.assertEqual(self.seen(), [[]] * 4)

    def test_a_thread_that_is_a_daemon_as_its_server_is_still_the_requests(self):
        def server():
            with serving(self.token):
                thread = threading.Thread(target=self.call)
                self.assertTrue(thread.daemon)
                run_thread(thread)
                other = threading.Thread(target=self.call, daemon=True)
                other.daemon = False
                run_thread(other)

        run_thread(threading.Thread(target=server, daemon=True))
        self.assertEqual(self.seen(), [[self.token]] * 2)

    def test_what_an_import_starts_works_for_nobody(self):
        text = "import threading\nfrom shim_tests import test_carry as tests\ntests.run_thread(threading.Thread(target=tests.STARTED))"
        text += "\nwith tests.ThreadPoolExecutor(1) as pool: pool.submit(tests.STARTED).result()"
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(folder, "starts_a_thread.py"), "w") as file:
                file.write(text)
            sys.path.insert(0, folder)
            globals()["STARTED"] = self.call
            try:
                with serving(self.token):
                    import starts_a_thread  # noqa: F401
            finally:
                sys.path.remove(folder)
        self.assertEqual(self.seen(), [[], []])

    def test_an_app_that_is_served_while_it_is_imported_has_requests_all_the_same(self):
        from . import apps
        from .world import wsgi_get

        started, app = [], apps.flask()

        @functools.wraps(app.wsgi_app)
        def wsgi_app(*arguments):
            started.append(threading.Thread(target=self.call))
            run_thread(started[-1])
            return [b""]

        globals()["STARTED"] = lambda: wsgi_get(app, self.token)
        with apps.patched(app, "wsgi_app", wsgi_app), tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(folder, "serves.py"), "w") as file:
                file.write("from shim_tests import test_carry\ntest_carry.STARTED()")
            sys.path.insert(0, folder)
            try:
                import serves  # noqa: F401
            finally:
                sys.path.remove(folder)
        self.assertEqual((len(started), self.seen()), (1, [[self.token]]))

    def test_a_subclass_with_its_own_run_and_a_timer(self):
        outer = self

        class Own(threading.Thread):
            def run(self):
                outer.call()

        with serving(self.token):
            run_thread(Own())
            run_thread(threading.Timer(0, self.call))
        self.assertEqual(self.seen(), [[self.token]] * 2)

    def test_a_thread_of_a_thread(self):
        with serving(self.token):
            run_thread(threading.Thread(target=lambda: run_thread(threading.Thread(target=self.call))))
        self.assertEqual(self.seen(), [[self.token]])

    def test_a_thread_that_outlives_its_request_says_so(self):
        go = threading.Lock()
        go.acquire()
        thread = threading.Thread(target=lambda: (go.acquire(), self.call()))
        with serving(self.token):
            thread.start()
        go.release()
        thread.join()
        self.assertEqual(self.seen(), [[self.token + ";ended"]])

    def test_a_thread_started_outside(self):
        run_thread(threading.Thread(target=self.call))
        self.assertEqual(self.seen(), [[]])

    def test_nothing_of_the_app_is_handed_on(self):
        own, seen = contextvars.ContextVar("own", default="default"), []
        own.set("set")
        with serving(self.token), ThreadPoolExecutor(1) as pool:
            run_thread(threading.Thread(target=lambda: seen.append(own.get())))
            pool.submit(lambda: seen.append(own.get())).result()
        self.assertEqual(seen, ["default", "default"])

    def test_no_thread_keeps_a_trace_of_it(self):
        with serving(self.token):
            thread = threading.Thread(target=self.call)
            before = set(vars(thread))
            run_thread(thread)
        self.assertLessEqual(set(vars(thread)), before)
        self.seen()

    def test_work_after_a_barrier_and_a_result_is_still_the_requests(self):
        barrier = threading.Barrier(3)

        def work(pool):
            barrier.wait()
            pool.submit(self.call).result()
            self.call()

        with serving(self.token), ThreadPoolExecutor(2) as pool:
            threads = [threading.Thread(target=work, args=(pool,)) for _ in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        self.assertEqual(self.seen(), [[self.token]] * 6)


class Pools(unittest.TestCase):
    def setUp(self):
        self.url, self.token = new_url(), new_token()

    def call(self, *_):
        by_requests(self.url)

    def test_every_way_to_give_work(self):
        with ThreadPoolExecutor(3) as pool, ThreadPool(3) as other:
            ways = [
                lambda: pool.submit(self.call).result(),
                lambda: list(pool.map(self.call, range(1))),
                lambda: other.apply(self.call),
                lambda: other.apply_async(self.call).get(),
                lambda: other.map(self.call, range(1)),
                lambda: other.starmap(self.call, [(1, 2)]),
                lambda: list(other.imap(self.call, range(1))),
                lambda: list(other.imap_unordered(self.call, range(1))),
            ]
            for way in ways:
                with serving(self.token):
                    way()
                self.assertEqual(tokens_of(self.url), [[self.token]])
                way()
                self.assertEqual(tokens_of(self.url), [[]])

    def test_a_pool_that_a_request_made_serves_others(self):
        for make in (ThreadPoolExecutor, ThreadPool):
            with serving(self.token) as first:
                pool = make(1)
                submit = pool.submit if make is ThreadPoolExecutor else lambda work: pool.apply_async(work)
                done = submit(self.call)
                (done.result if make is ThreadPoolExecutor else done.get)()
                others = []
                thread = threading.Thread(target=lambda: others.append(self.for_another(submit)))
                from hopspan_shim import cause

                former = cause.use(None)  # another request's thread, not the first's
                run_thread(thread)
                cause.put_back(former)
                self.assertFalse(first.ended)
            self.assertEqual(tokens_of(self.url), [[self.token], others[0], []])
            pool.shutdown() if make is ThreadPoolExecutor else pool.terminate()

    def for_another(self, submit):
        token = new_token()
        with serving(token):
            future = submit(self.call)
            (future.result if hasattr(future, "result") else future.get)()
        future = submit(self.call)
        (future.result if hasattr(future, "result") else future.get)()
        return [token]

    def test_results_and_errors_come_back(self):
        with serving(self.token), ThreadPoolExecutor(1) as pool:
            self.assertEqual(pool.submit(lambda a, b=0: (a, b), 1, b=2).result(), (1, 2))
            with self.assertRaises(KeyError):
                pool.submit({}.__getitem__, "x").result()
            with self.assertRaises(TypeError):
                pool.submit()


class Orders(unittest.TestCase):
    """Workers that a request happened to start, and that work for all."""

    def setUp(self):
        self.url, self.token = new_url(), new_token()

    def worker(self, orders):
        while True:
            order = orders.get()
            if order == "none":
                return
            by_requests(self.url + "?" + order)

    def test_a_worker_started_by_a_request_that_serves_all(self):
        from hopspan_shim import cause

        for kind in (queue.Queue, queue.PriorityQueue, queue.SimpleQueue):
            orders = kind()
            with serving(self.token):
                thread = threading.Thread(target=self.worker, args=(orders,))
                thread.start()
                former = cause.use(None)
                orders.put("from-another")
                orders.put("none")
                cause.put_back(former)
                thread.join()
            self.assertEqual(tokens_of(self.url), [[]], kind)

    def test_the_stand_in_of_a_queue_in_c_is_as_it(self):
        import _queue
        import pickle

        orders = queue.SimpleQueue()
        self.assertIsInstance(orders, _queue.SimpleQueue)
        self.assertEqual(queue.SimpleQueue.__name__, "SimpleQueue")
        self.assertEqual(repr(queue.SimpleQueue), repr(_queue.SimpleQueue))
        orders.put(1)
        orders.put_nowait(2)
        self.assertEqual((orders.qsize(), orders.get(timeout=1), orders.get_nowait(), orders.empty()), (2, 1, 2, True))
        with self.assertRaises(queue.Empty):
            orders.get_nowait()
        with self.assertRaises(queue.Empty):
            orders.get(True, 0.001)
        with self.assertRaises(TypeError):
            pickle.dumps(orders)

    def test_workers_that_serve_one_request(self):
        for kind in (queue.Queue, queue.LifoQueue, queue.PriorityQueue, queue.SimpleQueue):
            with serving(self.token):
                orders = kind()
                for order in ("1", "2", "3"):
                    orders.put(order)
                threads = [threading.Thread(target=self.drain, args=(orders,)) for _ in range(2)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
            self.assertEqual(tokens_of(self.url), [[self.token]] * 3)

    def drain(self, orders):
        while True:
            try:
                by_requests(self.url + "?" + orders.get_nowait())
            except queue.Empty:
                return

    def test_a_hand_made_queue(self):
        items, filled = [], threading.Condition()

        def work(wait):
            with filled:
                wait()
                items.pop()
            by_requests(self.url)

        for wait in (lambda: items or filled.wait(), lambda: filled.wait_for(lambda: items)):
            with serving(self.token):
                thread = threading.Thread(target=work, args=(wait,))
                thread.start()
                with filled:
                    filled.wait_for(lambda: True)
                while not filled._waiters:
                    pass
                with filled:
                    items.append(1)
                    filled.notify()
                thread.join()
            self.assertEqual(tokens_of(self.url), [[]])

    def test_an_event_is_an_order_of_whoever_set_it(self):
        from hopspan_shim import cause

        for setter, expected in ((self.token, [self.token]), (None, []), (new_token(), [])):
            told = threading.Event()
            with serving(self.token) as request:
                thread = threading.Thread(target=lambda: (told.wait(), by_requests(self.url)))
                thread.start()
                former = cause.use(request if setter == self.token else None)
                if setter is None or setter == self.token:
                    told.set()
                else:
                    with serving(setter):
                        told.set()
                cause.put_back(former)
                thread.join()
            self.assertEqual(tokens_of(self.url), [expected])

    def test_an_event_that_did_not_come_is_no_order(self):
        with serving(self.token):
            run_thread(threading.Thread(target=lambda: (threading.Event().wait(0.001), by_requests(self.url))))
        self.assertEqual(tokens_of(self.url), [[self.token]])

    def test_the_request_itself_may_wait_for_anything(self):
        answers, filled, told = queue.Queue(), threading.Condition(), threading.Event()
        answers.put("from nobody")
        told.set()
        with serving(self.token):
            answers.get()
            told.wait()
            with filled:
                filled.wait(0)
            by_requests(self.url)
        self.assertEqual(tokens_of(self.url), [[self.token]])

    def test_an_asyncio_worker_that_serves_all(self):
        async def run():
            orders = asyncio.Queue()

            async def work():
                while True:
                    await orders.get()
                    await asyncio.get_running_loop().run_in_executor(None, by_requests, self.url)
                    orders.task_done()

            with serving(self.token):
                worker = asyncio.get_running_loop().create_task(work())
                orders.put_nowait(1)  # by the request itself: still its own
                await orders.join()
                self.assertEqual(tokens_of(self.url), [[self.token]])
                with serving(new_token()):  # another request's order
                    orders.put_nowait(2)
                await orders.join()
                self.assertEqual(tokens_of(self.url), [[]])
            worker.cancel()

        asyncio.run(run())

    def test_a_fork_works_for_nobody(self):
        with serving(self.token):
            child = os.fork()
            if child == 0:
                from hopspan_shim import cause

                os._exit(0 if cause.current() is None else 1)
            self.assertEqual(os.waitpid(child, 0)[1], 0)
            by_requests(self.url)
        self.assertEqual(tokens_of(self.url), [[self.token]])
