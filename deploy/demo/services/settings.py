"""Django settings of all three services: each is a project of its own by its URLs, its apps and its process.

Nothing here knows of tracing: no OpenTelemetry package, no middleware, no header.
"""

import os
import pathlib

SERVICE = os.environ["SERVICE"]  # order, payment or inventory

SECRET_KEY = "only for the demo"
DEBUG = False
ALLOWED_HOSTS = ["*"]  # callers use the services' names
ROOT_URLCONF = SERVICE + ".urls"
WSGI_APPLICATION = "wsgi.application"
MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
USE_TZ = True

INSTALLED_APPS = []
DATABASES = {}
if SERVICE == "inventory":
    INSTALLED_APPS = ["inventory"]
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": pathlib.Path(os.environ["DEMO_STATE"]) / "inventory.sqlite3",
            "OPTIONS": {"timeout": 30},
        }
    }
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# A failing view's traceback goes to stderr, as any service's would.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": SERVICE + ": %(levelname)s %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "loggers": {"django.request": {"handlers": ["stderr"], "level": "ERROR", "propagate": False}},
}
