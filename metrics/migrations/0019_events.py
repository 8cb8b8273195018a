
import metrics.models.events
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('metrics', '0018_export_devices'),
    ]

    operations = [
        migrations.CreateModel(
            name='EventCursor',
            fields=[
                ('name', models.CharField(max_length=100, primary_key=True, serialize=False)),
                ('epoch', models.CharField(max_length=8)),
                ('low', models.BigIntegerField(help_text='Every event of earlier transactions has been read.')),
                ('high', models.BigIntegerField(help_text='The first transaction after the band that is being read.')),
                ('last_id', models.BigIntegerField(default=0, help_text='Last event read in the band.')),
                ('checkpoint_xid', models.BigIntegerField(help_text='Events of earlier transactions may be deleted.')),
                ('checkpoint_at', models.DateTimeField(help_text='When `low` had this value; moves after ten minutes.')),
                ('next_checkpoint_xid', models.BigIntegerField()),
                ('seen_at', models.DateTimeField()),
            ],
        ),
        migrations.CreateModel(
            name='Event',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('xid', metrics.models.events.TransactionIdField(db_default=metrics.models.events.CurrentTransaction())),
                ('event_id', models.UUIDField(unique=True)),
                ('type', models.CharField(max_length=60)),
                ('subject', models.CharField(max_length=420)),
                ('device_id', models.CharField(help_text='The device that decides who may see it.', max_length=200, null=True)),
                ('owner_id', models.BigIntegerField(help_text='The only user who may see it.', null=True)),
                ('time', models.DateTimeField()),
                ('data', models.JSONField()),
            ],
            options={
                'indexes': [models.Index(fields=['xid', 'id'], name='event_by_transaction')],
            },
        ),
    ]
