"""Empty the test database between tests, by a function of the database, since planning 90 statements takes 10 ms."""

from django.db import connection

KEPT_TABLES = {"django_migrations", "django_content_type", "auth_permission"}
MAX_ROWS_TO_DELETE = 1_000  # per table; above, TRUNCATE is faster than DELETE
SEQUENCES = """
SELECT c.oid::regclass::text, owner.relname FROM pg_class c
JOIN pg_depend d ON d.objid = c.oid AND d.deptype IN ('a', 'i') JOIN pg_class owner ON owner.oid = d.refobjid
WHERE c.relkind = 'S'
"""
# Deletes all rows and restarts the sequences. Returns the tables to truncate instead: those with rows, if one of them
# has many, or if a constraint that is checked at once forbids the order of the deletions.
FUNCTION = """
CREATE OR REPLACE FUNCTION tests_empty_tables() RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    used text[] := '{{}}';
    has_many boolean := false;
BEGIN
    {find}
    IF has_many THEN
        RETURN used;
    END IF;
    PERFORM set_config('tests.emptying', 'on', true);
    {delete}
    SET CONSTRAINTS ALL IMMEDIATE;
    {restart}
    RETURN '{{}}';
EXCEPTION WHEN integrity_constraint_violation THEN
    RETURN used;
END $$
"""
FIND = """
    IF EXISTS (SELECT 1 FROM {table}) THEN
        used := used || '{table}'::text;
        has_many := has_many OR EXISTS (SELECT 1 FROM {table} OFFSET {limit});
    END IF;"""
DELETE = """
    IF '{table}' = ANY (used) THEN
        DELETE FROM {table};
    END IF;"""
RESTART = """
    IF (SELECT is_called FROM {sequence}) THEN
        PERFORM setval('{sequence}', 1, false);
    END IF;"""
# TRUNCATE would be allowed, but takes as long as everything else together.
ALLOW_DELETION_OF_AUDIT_ENTRIES = """
CREATE OR REPLACE TRIGGER audit_is_append_only BEFORE UPDATE OR DELETE ON metrics_auditentry
    FOR EACH ROW WHEN (current_setting('tests.emptying', true) IS DISTINCT FROM 'on')
    EXECUTE FUNCTION metrics_refuse_audit_change();
"""


def create_function() -> None:
    """Create the function in the test database, after its migrations."""
    tables = sorted(set(connection.introspection.django_table_names(only_existing=True)) - KEPT_TABLES)
    with connection.cursor() as cursor:
        cursor.execute(SEQUENCES)
        sequences = sorted(sequence for sequence, table in cursor.fetchall() if table in tables)
        cursor.execute(
            FUNCTION.format(
                find="".join(FIND.format(table=table, limit=MAX_ROWS_TO_DELETE) for table in tables),
                delete="".join(DELETE.format(table=table) for table in tables),
                restart="".join(RESTART.format(sequence=sequence) for sequence in sequences),
            )
        )
        cursor.execute(ALLOW_DELETION_OF_AUDIT_ENTRIES)


def empty_tables() -> None:
    """Delete every row and restart the sequences."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT tests_empty_tables()")
        [used] = cursor.fetchone()
        if used:
            cursor.execute(f"TRUNCATE {', '.join(used)} CASCADE")
            cursor.execute("SELECT tests_empty_tables()")  # restarts the sequences
