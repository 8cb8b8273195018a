import django.contrib.postgres.indexes
import django.core.validators
from django.db import migrations, models
from django.db.models.functions import Now


class Migration(migrations.Migration):
    dependencies = [("metrics", "0012_audit")]

    operations = [
        migrations.AddField(
            model_name="device",
            name="device_type",
            field=models.CharField(blank=True, default="", db_default="", help_text="What kind it is.", max_length=200),
        ),
        migrations.AddField(
            model_name="device",
            name="description",
            field=models.TextField(blank=True, default="", db_default=""),
        ),
        migrations.AddField(
            model_name="device",
            name="location",
            field=models.CharField(
                blank=True, default="", db_default="", help_text="Where it is, in words.", max_length=200
            ),
        ),
        migrations.AddField(
            model_name="device",
            name="latitude",
            field=models.FloatField(
                blank=True,
                help_text="Degrees north (WGS 84).",
                null=True,
                validators=[
                    django.core.validators.MinValueValidator(-90),
                    django.core.validators.MaxValueValidator(90),
                ],
            ),
        ),
        migrations.AddField(
            model_name="device",
            name="longitude",
            field=models.FloatField(
                blank=True,
                help_text="Degrees east (WGS 84).",
                null=True,
                validators=[
                    django.core.validators.MinValueValidator(-180),
                    django.core.validators.MaxValueValidator(180),
                ],
            ),
        ),
        migrations.AddField(
            model_name="device",
            name="tags",
            field=models.JSONField(blank=True, db_default=models.Value({}, models.JSONField()), default=dict),
        ),
        migrations.AddField(
            model_name="device",
            name="metadata",
            field=models.JSONField(blank=True, db_default=models.Value({}, models.JSONField()), default=dict),
        ),
        migrations.AddField(
            model_name="device",
            name="updated_at",
            field=models.DateTimeField(auto_now=True, db_default=Now()),
        ),
        migrations.AddField(
            model_name="devicegroup",
            name="updated_at",
            field=models.DateTimeField(auto_now=True, db_default=Now()),
        ),
        migrations.AddIndex(
            model_name="device",
            index=models.Index(fields=["device_type", "device_id"], name="device_by_type"),
        ),
        migrations.AddIndex(
            model_name="device",
            index=django.contrib.postgres.indexes.GinIndex(
                fields=["tags"], name="device_by_tag", opclasses=["jsonb_path_ops"]
            ),
        ),
        # What Django's `istartswith` asks for, as a search for the beginning of an id or of a name.
        migrations.RunSQL(
            "CREATE INDEX device_begins_id ON metrics_device (upper(device_id::text) text_pattern_ops);"
            "CREATE INDEX device_begins_name ON metrics_device (upper(name::text) text_pattern_ops);",
            "DROP INDEX device_begins_id, device_begins_name;",
        ),
        migrations.AddConstraint(
            model_name="device",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("latitude__isnull", True), ("longitude__isnull", True)),
                    models.Q(
                        ("latitude__isnull", False),
                        ("latitude__range", (-90, 90)),
                        ("longitude__isnull", False),
                        ("longitude__range", (-180, 180)),
                    ),
                    _connector="OR",
                ),
                name="whole_position",
                violation_error_message="Latitude (-90 to 90) and longitude (-180 to 180) are given together.",
            ),
        ),
    ]
