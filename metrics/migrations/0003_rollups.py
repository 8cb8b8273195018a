
import django.core.validators
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('metrics', '0002_storage'),
    ]

    operations = [
        migrations.CreateModel(
            name='GroupedBy',
            fields=[
                ('metric_name', models.CharField(max_length=200, primary_key=True, serialize=False)),
                ('points', models.PositiveSmallIntegerField()),
                ('minutes', models.PositiveSmallIntegerField()),
                ('hours', models.PositiveSmallIntegerField()),
            ],
        ),
        migrations.AddField(
            model_name='block',
            name='keep',
            field=models.PositiveSmallIntegerField(help_text='Days that all of it is kept, once known.', null=True),
        ),
        migrations.AddField(
            model_name='metricdefinition',
            name='rollup_1h_days',
            field=models.PositiveIntegerField(default=1825, help_text='Days that the same of every hour is kept; never less long than the points.', validators=[django.core.validators.MinValueValidator(1), django.core.validators.MaxValueValidator(3650)], verbose_name='rollup 1 h days'),
        ),
        migrations.AddField(
            model_name='metricdefinition',
            name='rollup_5m_days',
            field=models.PositiveIntegerField(default=180, help_text='Days that count, sum, least, greatest, first and last value of every five minutes are kept; never less long than the points.', validators=[django.core.validators.MinValueValidator(1), django.core.validators.MaxValueValidator(3650)], verbose_name='rollup 5 min days'),
        ),
        migrations.AlterField(
            model_name='metricdefinition',
            name='retention_days',
            field=models.PositiveIntegerField(default=90, help_text='Days that its points are kept as they were sent.', validators=[django.core.validators.MinValueValidator(1), django.core.validators.MaxValueValidator(3650)]),
        ),
        migrations.CreateModel(
            name='Rollup',
            fields=[
                ('pk', models.CompositePrimaryKey('shard', 'id', blank=True, editable=False, primary_key=True, serialize=False)),
                ('shard', models.PositiveSmallIntegerField()),
                ('id', models.BigIntegerField()),
                ('bucket', models.IntegerField()),
                ('resolution', models.PositiveSmallIntegerField(help_text='seconds of an interval')),
                ('day', models.IntegerField(help_text='days since 1970, UTC')),
                ('series_from', models.BigIntegerField()),
                ('series_to', models.BigIntegerField()),
                ('intervals', models.IntegerField()),
                ('keep', models.PositiveSmallIntegerField(help_text='Days that all of it is kept.')),
                ('payload', models.BinaryField()),
            ],
            options={
                'indexes': [models.Index(fields=['shard', 'bucket', 'resolution', 'day'], name='rollup_place')],
            },
        ),
        migrations.AddConstraint(
            model_name='metricdefinition',
            constraint=models.CheckConstraint(condition=models.Q(('rollup_1h_days__gte', models.F('rollup_5m_days'))), name='hours_outlive_minutes', violation_error_message='Hourly rollups are kept at least as long as those of five minutes.'),
        ),
        # As with the other payloads. Days that were made before are made anew: by policy, and with their rollups.
        migrations.RunSQL(
            "ALTER TABLE metrics_rollup ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY;"
            "ALTER TABLE metrics_rollup ALTER COLUMN payload SET STORAGE EXTERNAL;"
            "UPDATE metrics_block SET level = 99 WHERE level = 100;",
            migrations.RunSQL.noop,
        ),
    ]
