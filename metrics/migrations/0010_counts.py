import django.contrib.postgres.fields
import django.db.models.functions.datetime
from django.db import migrations, models

# As with the other payloads; rows that move with every merge are collected early. What is stored already is counted
# by the workers, stretch by stretch (metrics.storage.merge.rebuild_point_counts): every stretch that has blocks waits for that.
STORAGE = """
ALTER TABLE metrics_count ALTER COLUMN payload SET STORAGE EXTERNAL;
ALTER TABLE metrics_count SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
    toast.autovacuum_vacuum_scale_factor = 0, toast.autovacuum_vacuum_threshold = 2000);
INSERT INTO metrics_count (shard, stretch, hour, points, bytes, pending, payload)
    SELECT DISTINCT shard, bucket / 16, 0, 0, 0, 0, ''::bytea FROM metrics_block;
"""


class Migration(migrations.Migration):

    dependencies = [
        ('metrics', '0009_members'),
    ]

    operations = [
        migrations.CreateModel(
            name='Activity',
            fields=[
                ('pk', models.CompositePrimaryKey('minute', 'kind', blank=True, editable=False, primary_key=True, serialize=False)),
                ('minute', models.DateTimeField()),
                ('kind', models.CharField(help_text='ingest, or other for everything else', max_length=10)),
                ('requests', models.BigIntegerField(default=0)),
                ('failures', models.BigIntegerField(default=0, help_text='answers of 500 and above')),
                ('seconds', models.FloatField(default=0.0, help_text='from the request to the beginning of the answer, all together')),
                ('points', models.BigIntegerField(default=0)),
                ('rejected', models.BigIntegerField(default=0, help_text='points')),
                ('latencies', django.contrib.postgres.fields.ArrayField(base_field=models.BigIntegerField(), help_text='requests by metrics.statistics.histogram.LATENCIES', size=None)),
            ],
        ),
        migrations.CreateModel(
            name='Count',
            fields=[
                ('pk', models.CompositePrimaryKey('shard', 'stretch', 'hour', blank=True, editable=False, primary_key=True, serialize=False)),
                ('shard', models.PositiveSmallIntegerField()),
                ('stretch', models.IntegerField(help_text='series id // metrics.storage.merge.point_counts.STRETCH')),
                ('hour', models.IntegerField(help_text='hours since 1970, UTC; 0: all there is')),
                ('points', models.BigIntegerField(default=0)),
                ('bytes', models.BigIntegerField(default=0, help_text='payloads of merged blocks; in the row of all there is')),
                ('pending', models.BigIntegerField(help_text='Set where it has to be counted anew: since which transaction', null=True)),
                ('payload', models.BinaryField()),
            ],
        ),
        migrations.CreateModel(
            name='Heartbeat',
            fields=[
                ('name', models.CharField(max_length=200, primary_key=True, serialize=False)),
                ('at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
        ),
        migrations.RunSQL(STORAGE, migrations.RunSQL.noop),
    ]
