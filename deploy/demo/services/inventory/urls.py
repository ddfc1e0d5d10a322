"""URLs of the inventory service."""

from django.urls import path

from . import views

urlpatterns = [
    path("healthz", views.healthz),
    path("reservations/<slug:order>/", views.reserve),
]
