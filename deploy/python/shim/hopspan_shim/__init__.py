"""Lets hopspan know which inbound request an outbound call belongs to, without a change to the app.

hopspan gives every request a token in the header `hopspan-token`. The shim remembers it while the request is worked
on and copies it to the calls that the request makes through hopspan, and to nothing else. The token means nothing to
anyone but this hopspan, and only while that request is in flight; hopspan takes it off before a call leaves.

It reads and writes that one header. It sends nothing, keeps nothing, starts no thread, imports no third-party module,
and passes no context variable on but its own. Where a hook fails, the app runs as if there were none.

    cause     which request the running code works for
    inbound   where a request begins and ends: Django, Flask, Starlette
    carry     what a request starts: threads, thread pools, greenlets (asyncio tasks need no help)
    outbound  where a call leaves: http.client, httpcore, aiohttp
    hooks     how a library is changed once it is imported, not before
"""


def install():
    """Hooks the libraries that are imported already, and the others once they are. A second call does nothing."""
    from . import carry, hooks, inbound, outbound

    carry.forget_in_forks()
    hooks.install({**carry.HOOKS, **inbound.HOOKS, **outbound.HOOKS})
