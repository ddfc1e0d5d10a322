"""`/sync/<way>/` and `/async/<way>/`: see blocking.py and awaiting.py."""

from django.http import HttpResponse
from django.urls import path

from . import awaiting, blocking

urlpatterns = [
    path("healthz", lambda request: HttpResponse("ok\n")),
    path("sync/<way>/", blocking.view),
    path("async/<way>/", awaiting.view),
]
