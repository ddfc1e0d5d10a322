"""Views for tests of hopspan in front of a real Django: echo what came, stream, fail, call out.

No view touches a trace header but to show it.
"""

import hashlib
import json
import os
import signal
import time
import urllib.request

import requests
from django.http import HttpResponse, HttpResponseNotModified, JsonResponse, StreamingHttpResponse

CHUNK = b"0123456789abcdef" * 4096  # 64 KiB
session = requests.Session()  # one pool per worker process, as an app would have


def healthz(request):
    return HttpResponse("ok\n")


def seen(request, body):
    """What arrived, as JSON. Header names are lower case; a header sent twice is one value, as WSGI joins it."""
    return {
        "method": request.method,
        "path": request.path,
        "raw_path": request.META.get("RAW_URI") or request.get_full_path(),
        "query": request.META.get("QUERY_STRING", ""),
        "headers": {name.lower(): value for name, value in request.headers.items()},
        "scheme": request.scheme,
        "host": request.get_host(),
        "remote": request.META.get("REMOTE_ADDR", ""),
        "pid": os.getpid(),
        "body_bytes": len(body),
        "body_sha256": hashlib.sha256(body).hexdigest(),
    }


def echo(request, rest=""):
    return JsonResponse(seen(request, request.body))


def order(request, pk):
    return JsonResponse({"order": pk, "traceparent": request.headers.get("traceparent")})


def status(request, code):
    """Any status; 204 and 304 have no body."""
    if code == 304:
        return HttpResponseNotModified()
    if code == 204:
        return HttpResponse(status=204)
    response = HttpResponse(f"status {code}\n", status=code)
    if code in (301, 302, 303, 307, 308):
        response["Location"] = "/echo/"
    return response


def error(request):
    """A real exception, answered by Django with 500."""
    return HttpResponse({"in": "stock"}["missing"])


def slow(request):
    """Answers after `?ms=`."""
    time.sleep(int(request.GET.get("ms", 100)) / 1000)
    return HttpResponse("slow\n")


def stream(request):
    """`?n=` lines, `?ms=` apart, no Content-Length; with `?fail=k` the app breaks after line k."""
    count, pause = int(request.GET.get("n", 5)), int(request.GET.get("ms", 20)) / 1000
    fail = int(request.GET.get("fail", -1))

    def lines():
        for number in range(count):
            if number == fail:
                raise RuntimeError("broke in the middle of the body")
            yield f"line {number}\n"
            time.sleep(pause)

    return StreamingHttpResponse(lines(), content_type="text/plain")


def sized(request, size):
    """`size` bytes, streamed with a Content-Length, or chunked with `?chunked=1`."""

    def chunks():
        left = size
        while left > 0:
            yield CHUNK[:left]
            left -= len(CHUNK)

    response = StreamingHttpResponse(chunks(), content_type="application/octet-stream")
    if not request.GET.get("chunked"):
        response["Content-Length"] = str(size)
    return response


def upload(request):
    """Reads the body in pieces, never whole; `?ms=` between pieces makes a slow reader."""
    digest, total, pause = hashlib.sha256(), 0, int(request.GET.get("ms", 0)) / 1000
    while True:
        piece = request.read(65536)
        if not piece:
            break
        digest.update(piece)
        total += len(piece)
        time.sleep(pause)
    return JsonResponse({"body_bytes": total, "body_sha256": digest.hexdigest()})


def upload_early_413(request):
    """Answers without having read a byte of the body."""
    return HttpResponse("too large\n", status=413)


def cookies(request):
    """Three Set-Cookie lines."""
    response = JsonResponse(dict(request.COOKIES))
    response.set_cookie("a", "1")
    response.set_cookie("b", "two words", path="/cookies/", httponly=True)
    response.set_cookie("c", "3", max_age=60, samesite="Lax")
    return response


def get(client, url):
    """Status and body of a GET by a client library; all of them honour HTTP_PROXY."""
    if client == "urllib":
        try:
            with urllib.request.urlopen(url, timeout=30) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
    if client == "httpx":
        import httpx

        answer = httpx.get(url, timeout=30)
    elif client == "session":
        answer = session.get(url, timeout=30)
    else:
        answer = requests.get(url, timeout=30)
    return answer.status_code, answer.text


def call(request):
    """Calls `?url=` `?n=` times, one after another, by `?client=` (requests, session, urllib, httpx).

    Each call's status and what the callee answered (JSON where it is) come back; a failed call is a 502 of this view.
    """
    url, count = request.GET["url"], int(request.GET.get("n", 1))
    calls = []
    for _ in range(count):
        try:
            code, text = get(request.GET.get("client", "requests"), url)
        except Exception as error:
            return JsonResponse({"failed": repr(error), "calls": calls}, status=502)
        try:
            body = json.loads(text)
        except ValueError:
            body = text
        calls.append({"status": code, "body": body})
        time.sleep(int(request.GET.get("ms", 0)) / 1000)
    return JsonResponse({"pid": os.getpid(), "traceparent": request.headers.get("traceparent"), "calls": calls})


def fan_out(request):
    """Calls `?url=` from `?n=` threads at once: no call has a provable parent in a prefork server's terms."""
    from concurrent.futures import ThreadPoolExecutor

    count = int(request.GET.get("n", 3))
    with ThreadPoolExecutor(count) as pool:
        answers = list(pool.map(lambda _: get("requests", request.GET["url"]), range(count)))
    return JsonResponse({"calls": [{"status": code, "body": json.loads(text)} for code, text in answers]})


def die(request):
    """The worker process dies without an answer."""
    os.kill(os.getpid(), signal.SIGKILL)
    return HttpResponse("not reached\n")
