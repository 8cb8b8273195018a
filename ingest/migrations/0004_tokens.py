import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
        ("ingest", "0003_keys"),
    ]

    operations = [
        migrations.CreateModel(
            name="UsedServiceToken",
            fields=[
                (
                    "digest",
                    models.BinaryField(editable=False, max_length=32, primary_key=True, serialize=False),
                ),
                ("expires_at", models.DateTimeField(db_index=True)),
            ],
        ),
        migrations.CreateModel(
            name="TokenFamily",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("digest", models.BinaryField(max_length=32, unique=True)),
                ("newest", models.BinaryField(max_length=32, verbose_name="digest of the newest second part")),
                (
                    "stamp",
                    models.CharField(
                        blank=True, editable=False, help_text="Changes with the password.", max_length=64
                    ),
                ),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ("expires_at", models.DateTimeField(db_index=True)),
                ("revoked_at", models.DateTimeField(null=True)),
                (
                    "key",
                    models.ForeignKey(
                        null=True, on_delete=django.db.models.deletion.CASCADE, related_name="+", to="ingest.apikey"
                    ),
                ),
                (
                    "user",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "verbose_name_plural": "token families",
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("key__isnull", True), ("user__isnull", False)),
                            models.Q(("key__isnull", False), ("user__isnull", True)),
                            _connector="OR",
                        ),
                        name="family_of_a_person_or_a_key",
                    )
                ],
            },
        ),
    ]
