"""The table and what is on the shelf when the shop opens. Of teapots there are none."""

from django.db import migrations, models


def open_shop(apps, schema_editor):
    stock = apps.get_model("inventory", "Stock")
    for sku, left in {"mug": 1_000_000, "poster": 1_000_000, "teapot": 0, "piano": 3}.items():
        stock.objects.create(sku=sku, left=left)


class Migration(migrations.Migration):
    initial = True
    operations = [
        migrations.CreateModel(
            name="Stock",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("sku", models.SlugField(unique=True)),
                ("left", models.PositiveIntegerField()),
            ],
        ),
        migrations.RunPython(open_shop),
    ]
