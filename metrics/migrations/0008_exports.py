
import django.utils.timezone
import metrics.models
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('metrics', '0007_lanes'),
    ]

    operations = [
        migrations.CreateModel(
            name='ExportJob',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('export_id', models.CharField(default=metrics.models.new_export_id, editable=False, max_length=24, unique=True)),
                ('owner', models.CharField(help_text='Who asked: key:<number>:<name> or user:<name>', max_length=400)),
                ('question', models.JSONField()),
                ('format', models.CharField(max_length=10)),
                ('status', models.CharField(choices=[('queued', 'Queued'), ('running', 'Running'), ('done', 'Done'), ('failed', 'Failed'), ('cancelled', 'Cancelled')], default='queued', max_length=10)),
                ('progress', models.FloatField(default=0.0)),
                ('rows', models.BigIntegerField(default=0)),
                ('bytes', models.BigIntegerField(default=0)),
                ('detail', models.TextField(blank=True, help_text='Why it failed.')),
                ('incomplete', models.JSONField(default=list, help_text='What could not be read and is left out.')),
                ('place', models.JSONField(help_text='Where to go on.', null=True)),
                ('files', models.JSONField(default=list, help_text='[name, bytes that count] of each file, in order.')),
                ('attempt', models.PositiveIntegerField(default=0)),
                ('lease_until', models.DateTimeField(null=True)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('started_at', models.DateTimeField(null=True)),
                ('finished_at', models.DateTimeField(null=True)),
                ('expires_at', models.DateTimeField(null=True)),
            ],
            options={
                'ordering': ['-id'],
                'indexes': [models.Index(fields=['owner', '-id'], name='export_owner'), models.Index(condition=models.Q(('status__in', ['queued', 'running'])), fields=['id'], name='export_unfinished'), models.Index(fields=['expires_at'], name='export_expiry')],
            },
        ),
    ]
