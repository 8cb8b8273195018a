from django.db import migrations, models

# An entry is numbered and chained when its transaction commits: whoever changes much in one transaction holds the
# head of the chain for its last moment alone. What is numbered already comes from a backup, and stays as it is.
# (TRUNCATE is left to `flush`; the head then tells that there was something.)
TRIGGERS = """
CREATE FUNCTION metrics_chain_audit() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    place bigint;
    link bytea;
    said text;
BEGIN
    INSERT INTO metrics_audithead AS head (id, number, checksum) VALUES (1, 1, '')
        ON CONFLICT (id) DO UPDATE SET number = head.number + 1
        RETURNING head.number, head.checksum INTO place, link;
    SELECT coalesce(string_agg(shard || ':' || seq || ':' || encode(checksum, 'hex'), ' ' ORDER BY shard), '')
        INTO said FROM metrics_head WHERE seq > 0;
    link := sha256(link || NEW.digest || convert_to(NEW.id || ' ' || place || ' ' || said, 'UTF8'));
    UPDATE metrics_auditentry SET number = place, heads = said, checksum = link WHERE id = NEW.id;
    UPDATE metrics_audithead SET checksum = link WHERE id = 1;
    RETURN NULL;
END $$;

CREATE CONSTRAINT TRIGGER audit_is_chained AFTER INSERT ON metrics_auditentry
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.number IS NULL) EXECUTE FUNCTION metrics_chain_audit();

CREATE FUNCTION metrics_refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND OLD.number IS NULL THEN
        RETURN NEW;  -- it is being chained
    END IF;
    RAISE EXCEPTION 'audit entries are never changed or deleted' USING ERRCODE = 'restrict_violation';
END $$;

CREATE TRIGGER audit_is_append_only BEFORE UPDATE OR DELETE ON metrics_auditentry
    FOR EACH ROW EXECUTE FUNCTION metrics_refuse_audit_change();
"""
NO_TRIGGERS = """
DROP TRIGGER audit_is_append_only ON metrics_auditentry;
DROP TRIGGER audit_is_chained ON metrics_auditentry;
DROP FUNCTION metrics_refuse_audit_change();
DROP FUNCTION metrics_chain_audit();
"""


class Migration(migrations.Migration):

    dependencies = [
        ('metrics', '0011_idempotency'),
    ]

    operations = [
        migrations.CreateModel(
            name='AuditHead',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('number', models.BigIntegerField()),
                ('checksum', models.BinaryField()),
            ],
        ),
        migrations.CreateModel(
            name='AuditEntry',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('number', models.BigIntegerField(help_text='Place in the chain, from 1 on without gaps.', null=True, unique=True)),
                ('at', models.DateTimeField(help_text='When it was done (UTC).')),
                ('actor', models.CharField(help_text='user:NAME, key:NUMBER:NAME, or command:NAME on the server.', max_length=400)),
                ('request_id', models.CharField(blank=True, help_text='The request that did it.', max_length=200)),
                ('address', models.CharField(blank=True, help_text='Where the request came from.', max_length=45)),
                ('action', models.CharField(help_text='created, changed, deleted, signed in, or what else was done.', max_length=50)),
                ('object_type', models.CharField(help_text='What kind of object.', max_length=50)),
                ('object_id', models.CharField(help_text='Which one, by the name that it is known by.', max_length=400)),
                ('before', models.TextField(blank=True, help_text='JSON, as it was written: what was there before.')),
                ('after', models.TextField(blank=True, help_text='JSON, as it was written: what is there since.')),
                ('heads', models.TextField(blank=True, help_text="shard:seq:checksum of the journal's last commits at that time.")),
                ('digest', models.BinaryField(help_text='SHA-256 of what was done')),
                ('checksum', models.BinaryField(help_text='SHA-256 of the checksum before, the digest, number and heads', null=True)),
            ],
            options={
                'verbose_name': 'audit entry',
                'verbose_name_plural': 'audit entries',
                'ordering': ['-number'],
                'indexes': [models.Index(fields=['actor', '-number'], name='audit_actor'), models.Index(fields=['object_type', 'object_id', '-number'], name='audit_object'), models.Index(fields=['action', '-number'], name='audit_action'), models.Index(fields=['at'], name='audit_at')],
            },
        ),
        migrations.AlterField(
            model_name='exportjob',
            name='owner',
            field=models.CharField(help_text='Who asked: key:NUMBER:NAME or user:NAME', max_length=400),
        ),
        migrations.RunSQL(TRIGGERS, NO_TRIGGERS),
    ]
