"""A Django project that calls out in every way that Python offers; `tests/django/joins` drives it."""
