"""For WSGI servers: `fanout.wsgi`."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fanout.settings")
application = get_wsgi_application()
