"""Ways to call out from an async view; as in blocking.py."""

import asyncio

from asgiref.sync import sync_to_async
from django.http import HttpResponse, StreamingHttpResponse

from . import blocking
from .blocking import CALLS, Targets

state = {}


async def fetch(url):
    import httpx

    async with httpx.AsyncClient(verify=False) as client:
        await client.get(url, timeout=30)


def client():
    """One httpx client for all requests of this event loop."""
    import httpx

    return state.setdefault((asyncio.get_running_loop(), "httpx"), httpx.AsyncClient(timeout=30, verify=False))


async def session():
    import aiohttp

    key = (asyncio.get_running_loop(), "aiohttp")
    if key not in state:
        state[key] = aiohttp.ClientSession(trust_env=True)
    return state[key]


async def ask(url):
    async with (await session()).get(url) as response:
        await response.read()


async def fresh(to):
    for _ in range(CALLS):
        await fetch(to.caused)


async def pooled(to):
    for _ in range(CALLS):
        await client().get(to.caused)


async def aiohttp(to):
    for _ in range(CALLS):
        await ask(to.caused)


async def own(to):
    for _ in range(CALLS):
        await client().get(to.own, headers={"traceparent": to.own_context})


async def gather(to):
    await asyncio.gather(*(fetch(to.caused) for _ in range(CALLS)))


async def aiohttp_gather(to):
    await asyncio.gather(*(ask(to.caused) for _ in range(CALLS)))


async def tasks(to):
    loop = asyncio.get_running_loop()
    for task in [loop.create_task(client().get(to.caused)) for _ in range(CALLS)]:
        await task


async def to_thread(to):
    loop = asyncio.get_running_loop()
    if hasattr(asyncio, "to_thread"):  # 3.9
        await asyncio.gather(*(asyncio.to_thread(blocking.get, to.caused) for _ in range(CALLS)))
    else:
        await asyncio.gather(*(loop.run_in_executor(None, blocking.get, to.caused) for _ in range(CALLS)))


async def in_executor(to):
    loop = asyncio.get_running_loop()
    await asyncio.gather(*(loop.run_in_executor(None, blocking.get, to.caused) for _ in range(CALLS)))


async def in_sync(to):
    await sync_to_async(blocking.fresh)(to)
    await asyncio.sleep(0)


async def stream(to):
    async def chunks():
        for _ in range(CALLS):
            await fetch(to.caused)
            yield b"chunk\n"

    return StreamingHttpResponse(chunks())


async def late_task(to):
    """A task that goes on when the response has long ended."""
    await fresh(to)

    async def late():
        await asyncio.get_running_loop().run_in_executor(blocking.patient_executor, to.wait_for_the_end)
        await fetch(to.late)

    state[object()] = asyncio.get_running_loop().create_task(late())


async def order(to):
    """A task that the first request starts, and that works for all of them from then on."""
    key = (asyncio.get_running_loop(), "orders")
    if key not in state:
        orders = state[key] = asyncio.Queue()
        orders.put_nowait(to.ordered)

        async def work():
            while True:
                await fetch(await orders.get())

        state[object()] = asyncio.get_running_loop().create_task(work())
        await asyncio.sleep(0)
    state[key].put_nowait(to.ordered)
    await fresh(to)


WAYS = {
    way.__name__: way
    for way in (
        *(fresh, pooled, aiohttp, own, gather, aiohttp_gather, tasks, to_thread, in_executor, in_sync, stream),
        *(late_task, order),
    )
}


async def view(request, way):
    return await WAYS[way](Targets(request, "async-" + way)) or HttpResponse("called")
