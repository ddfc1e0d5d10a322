"""For uvicorn: `uvicorn --app-dir tests/django probe.asgi:application`."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "probe.settings")
application = get_asgi_application()
