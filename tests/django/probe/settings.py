"""Settings of the probe: a Django project that shows a test what arrived, and misbehaves on request."""

SECRET_KEY = "only for tests"
DEBUG = False
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "probe.urls"
MIDDLEWARE = []
INSTALLED_APPS = []
DATABASES = {}
TIME_ZONE = "UTC"
USE_TZ = True
FILE_UPLOAD_MAX_MEMORY_SIZE = DATA_UPLOAD_MAX_MEMORY_SIZE = None
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"stderr": {"class": "logging.StreamHandler"}},
    "loggers": {"django": {"handlers": ["stderr"], "level": "ERROR", "propagate": False}},
}
