"""Tests of deploy/python/shim against the real libraries; `tests/django/shim` runs them."""
