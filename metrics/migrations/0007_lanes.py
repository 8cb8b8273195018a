
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('metrics', '0006_damage'),
    ]

    operations = [
        migrations.CreateModel(
            name='Lane',
            fields=[
                ('metric_name', models.CharField(max_length=200, primary_key=True, serialize=False)),
                ('next', models.BigIntegerField()),
                ('end', models.BigIntegerField(db_index=True)),
                ('size', models.PositiveSmallIntegerField()),
            ],
        ),
    ]
