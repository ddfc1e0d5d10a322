"""The inventory service: takes goods off the shelf.

A sold-out article fails here, for real: the database refuses the update, nobody catches the IntegrityError, Django
answers 500, and the two services in front of this one pass it on.
"""

import json
import time

from django.db.models import F
from django.http import HttpResponse, JsonResponse
from django.views.decorators.http import require_POST

from .models import Stock


def healthz(request):
    return HttpResponse("ok\n")


@require_POST
def reserve(request, order):
    wanted = json.loads(request.body)
    time.sleep(0.003)  # the way to the shelf
    Stock.objects.filter(sku=wanted["sku"]).update(left=F("left") - wanted["quantity"])
    return JsonResponse({"order": order, "sku": wanted["sku"], "quantity": wanted["quantity"]})
