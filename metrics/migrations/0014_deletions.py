import django.contrib.postgres.fields
import django.utils.timezone
from django.db import migrations, models

import metrics.models.deletions


class Migration(migrations.Migration):
    dependencies = [("metrics", "0013_devices")]

    operations = [
        migrations.AddField(
            model_name="head",
            name="deleted_at_revision",
            field=models.BigIntegerField(db_default=0, help_text="The revision of the last deletion of a device."),
        ),
        migrations.CreateModel(
            name="Deletion",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "deletion_id",
                    models.CharField(
                        default=metrics.models.deletions.new_deletion_id, editable=False, max_length=24, unique=True
                    ),
                ),
                ("device_id", models.CharField(max_length=200)),
                ("requested_by", models.CharField(max_length=400)),
                (
                    "series",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.BigIntegerField(), help_text="What it had, in ascending order.", size=None
                    ),
                ),
                ("heads", models.JSONField(help_text="The last commit of each shard that may hold points of it.")),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("queued", "Queued"),
                            ("running", "Running"),
                            ("ending", "Ending"),
                            ("done", "Done"),
                        ],
                        default="queued",
                        max_length=10,
                    ),
                ),
                ("progress", models.FloatField(default=0.0)),
                ("points", models.BigIntegerField(default=0, help_text="That were taken out.")),
                (
                    "incomplete",
                    models.JSONField(default=list, help_text="What could not be read and may still hold points of it."),
                ),
                ("bucket", models.IntegerField(help_text="Up to which place all is done.", null=True)),
                ("day", models.IntegerField(null=True)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("started_at", models.DateTimeField(null=True)),
                ("finished_at", models.DateTimeField(null=True)),
            ],
            options={
                "ordering": ["-id"],
                "indexes": [
                    models.Index(fields=["device_id", "-id"], name="deletion_of_device"),
                    models.Index(
                        condition=models.Q(("status__in", ["queued", "running", "ending"])),
                        fields=["id"],
                        name="deletion_unfinished",
                    ),
                ],
            },
        ),
    ]
