from django.conf import settings
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.state import StateApps


def make_operators(apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    apps.get_model("auth", "Group").objects.get_or_create(name="operators")


class Migration(migrations.Migration):
    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("metrics", "0008_exports"),
    ]

    operations = [
        migrations.AddField(
            model_name="devicegroup",
            name="members",
            field=models.ManyToManyField(
                blank=True,
                help_text="People who see the devices of this group; admins see all devices.",
                related_name="device_groups",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.RunPython(make_operators, migrations.RunPython.noop),
    ]
