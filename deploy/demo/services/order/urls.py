"""URLs of the order service. hopspan's routes in ../../order.yaml are these very patterns."""

from django.urls import path

from . import views

urlpatterns = [
    path("healthz", views.healthz),
    path("orders/<slug:order>/", views.place),
]
