"""The order service: takes an order and has the payment service pay for it."""

import requests
from django.http import HttpResponse, JsonResponse
from django.views.decorators.http import require_POST

PRICES = {"mug": 12, "poster": 25, "teapot": 48, "piano": 7200}


def healthz(request):
    return HttpResponse("ok\n")


@require_POST
def place(request, order):
    sku = request.POST.get("sku", "mug")
    quantity = int(request.POST.get("quantity", 1))
    paid = requests.post(
        f"http://payment-service/payments/{order}/",
        json={"sku": sku, "quantity": quantity, "amount": PRICES[sku] * quantity},
        timeout=30,
    )
    if paid.status_code == 402:
        return JsonResponse({"order": order, "state": "declined"}, status=402)
    paid.raise_for_status()
    return JsonResponse({"order": order, "state": "placed", "payment": paid.json()})
