"""The payment service: reserves the goods, then charges the card."""

import json
import time

import requests
from django.http import HttpResponse, JsonResponse
from django.views.decorators.http import require_POST

CARD_LIMIT = 5000


def healthz(request):
    return HttpResponse("ok\n")


@require_POST
def pay(request, order):
    wanted = json.loads(request.body)
    if wanted["amount"] > CARD_LIMIT:
        return JsonResponse({"order": order, "declined": "over the card's limit"}, status=402)
    reserved = requests.post(
        f"http://inventory-service/reservations/{order}/",
        json={"sku": wanted["sku"], "quantity": wanted["quantity"]},
        timeout=30,
    )
    reserved.raise_for_status()
    time.sleep(0.008)  # the card network
    return JsonResponse({"order": order, "charged": wanted["amount"], "reserved": reserved.json()})
