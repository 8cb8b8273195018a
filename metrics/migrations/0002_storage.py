"""What Django cannot say of the storage tables.

Payloads are compressed already, so PostgreSQL should not try again (EXTERNAL). Young blocks come and go by the
hundred a second: their dead rows are collected early, or the table would grow with what is long gone.
"""

from django.db import migrations

FORWARD = """
ALTER TABLE metrics_block ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY;
ALTER TABLE metrics_young ALTER COLUMN payload SET STORAGE EXTERNAL;
ALTER TABLE metrics_block ALTER COLUMN payload SET STORAGE EXTERNAL;
ALTER TABLE metrics_latest ALTER COLUMN payload SET STORAGE EXTERNAL;
ALTER TABLE metrics_young SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
    toast.autovacuum_vacuum_scale_factor = 0, toast.autovacuum_vacuum_threshold = 10000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 5000);
ALTER TABLE metrics_head SET (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
ALTER TABLE metrics_merged SET (fillfactor = 10);
CREATE INDEX block_unsettled ON metrics_block (shard, bucket, day, level) WHERE level < 100;
"""


class Migration(migrations.Migration):
    dependencies = [("metrics", "0001_initial")]
    operations = [migrations.RunSQL(FORWARD, migrations.RunSQL.noop)]
