"""The shelf: how many of each thing are left. The database refuses to go below zero."""

from django.db import models


class Stock(models.Model):
    sku = models.SlugField(unique=True)
    left = models.PositiveIntegerField()  # SQLite gets CHECK ("left" >= 0)
