"""Settings of the fan-out project: nothing but views."""

SECRET_KEY = "only for tests"
DEBUG = False
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "fanout.urls"
MIDDLEWARE = []
INSTALLED_APPS = []
DATABASES = {}
USE_TZ = True
