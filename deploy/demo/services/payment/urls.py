"""URLs of the payment service."""

from django.urls import path

from . import views

urlpatterns = [
    path("healthz", views.healthz),
    path("payments/<slug:order>/", views.pay),
]
