"""Mark the series of devices and metrics that were sent with several kinds of value."""

from django.db import migrations, models

MARK = """
UPDATE metrics_series s SET has_other_kinds = true WHERE EXISTS (SELECT FROM metrics_series o
    WHERE o.device_id = s.device_id AND o.metric_name = s.metric_name AND o.kind <> s.kind)
"""


class Migration(migrations.Migration):

    dependencies = [
        ('metrics', '0016_batch_digest'),
    ]

    operations = [
        migrations.AddField(
            model_name='head',
            name='other_kinds_revision',
            field=models.BigIntegerField(db_default=0, help_text='Number of times that series of another kind of value were created.'),
        ),
        migrations.AddField(
            model_name='series',
            name='has_other_kinds',
            field=models.BooleanField(db_default=False, help_text='The device has sent the metric with other kinds of value too.'),
        ),
        migrations.RunSQL(MARK, migrations.RunSQL.noop),
        migrations.AddIndex(
            model_name='series',
            index=models.Index(condition=models.Q(('has_other_kinds', True)), fields=['id'], name='series_other_kinds'),
        ),
    ]
