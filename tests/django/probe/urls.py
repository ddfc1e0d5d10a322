"""The probe's URLs; README.md says what each does."""

from django.urls import path

from . import views

urlpatterns = [
    path("healthz", views.healthz),
    path("echo/", views.echo),
    path("echo/<path:rest>", views.echo),
    path("orders/<int:pk>/", views.order),
    path("status/<int:code>/", views.status),
    path("error/", views.error),
    path("slow/", views.slow),
    path("stream/", views.stream),
    path("bytes/<int:size>/", views.sized),
    path("upload/", views.upload),
    path("upload-early-413/", views.upload_early_413),
    path("cookies/", views.cookies),
    path("call/", views.call),
    path("fan-out/", views.fan_out),
    path("die/", views.die),
]
