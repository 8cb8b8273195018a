
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('metrics', '0004_groups'),
    ]

    operations = [
        migrations.CreateModel(
            name='JournalPack',
            fields=[
                ('pk', models.CompositePrimaryKey('shard', 'seq_from', blank=True, editable=False, primary_key=True, serialize=False)),
                ('shard', models.PositiveSmallIntegerField()),
                ('seq_from', models.BigIntegerField()),
                ('seq_to', models.BigIntegerField()),
                ('at_from', models.DateTimeField()),
                ('at_to', models.DateTimeField()),
                ('before', models.BinaryField(help_text='The checksum before the first line, where it was known', null=True)),
                ('checksum', models.BinaryField(help_text='The checksum of the last line')),
                ('payload', models.BinaryField()),
            ],
        ),
        migrations.AddField(
            model_name='journal',
            name='payload_digest',
            field=models.BinaryField(help_text='SHA-256 of the payload', null=True),
        ),
        migrations.AlterField(
            model_name='journal',
            name='digest',
            field=models.BinaryField(help_text="SHA-256 of the payload's digest and the entries"),
        ),
        migrations.AlterField(
            model_name='journal',
            name='entries',
            field=models.TextField(help_text='JSON as it was written, byte for byte'),
        ),
        migrations.RunSQL(
            "ALTER TABLE metrics_journalpack ALTER COLUMN payload SET STORAGE EXTERNAL;", migrations.RunSQL.noop
        ),
    ]
