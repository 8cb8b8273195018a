"""The journal takes little space, and every change of it is detected."""

from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from hypothesis import given
from hypothesis import strategies as st

from metrics.storage.connection import connect
from metrics.storage.format.codec import DamagedPayload
from metrics.storage.merge.retention import delete_expired
from metrics.storage.write import journal
from metrics.storage.write.journal import JournalLine, decode_pack, encode_pack, pack_journal
from metrics.storage.write.journal_verify import verify_journal
from tests.metrics.test_storage import TODAY, store_points

line = st.builds(
    JournalLine,
    st.integers(0, 2**40),
    st.integers(0, 2**52),
    st.binary(max_size=99),
    st.binary(min_size=32, max_size=32),
)


@pytest.mark.slow
@given(st.lists(line, min_size=1, max_size=50))
def test_pack_decodes_to_its_lines(lines):
    payload = encode_pack(lines)
    assert decode_pack(payload) == lines
    with pytest.raises(DamagedPayload):
        decode_pack(payload[:-1] + bytes([payload[-1] ^ 255]))


@pytest.mark.slow
def test_packed_line_takes_under_60_bytes(site, monkeypatch):
    monkeypatch.setattr(journal, "PACK_LINES", 200)
    for number in range(200):
        store_points([(1, TODAY + number, 1.0, b"")])
    with connect() as connection:
        assert pack_journal(connection, 0, after=0) == 200
        [size] = connection.execute("SELECT pg_column_size(payload) FROM metrics_journalpack").fetchone()
    assert size / 200 < 60


@pytest.fixture
def chain(site, monkeypatch):
    """A connection to a journal of two packs of five lines and three unpacked lines."""
    monkeypatch.setattr(journal, "PACK_LINES", 5)
    with connect() as connection:
        for number in range(13):
            store_points([(1, TODAY + number, 1.0, b"")])
        assert pack_journal(connection, 0, after=0) == 10
        yield connection


def test_packing_takes_full_packs_of_old_lines_and_keeps_the_chain_valid(chain):
    packs = chain.execute("SELECT seq_from, seq_to FROM metrics_journalpack ORDER BY seq_from").fetchall()
    assert packs == [(1, 5), (6, 10)]
    assert chain.execute("SELECT array_agg(seq ORDER BY seq) FROM metrics_journal").fetchone() == ([11, 12, 13],)
    assert verify_journal(chain, 0) == (13, None)
    assert pack_journal(chain, 0, after=300) == 0


def test_concurrent_packing_packs_each_line_once(chain):
    for number in range(5):
        store_points([(1, TODAY + number, 2.0, b"")])
    with connect() as other, chain.transaction():
        assert journal._pack_once(chain, 0, 0) == 5
        assert pack_journal(other, 0, after=0) == 0
    assert verify_journal(chain, 0) == (18, None)


def test_killed_packing_leaves_no_changes(chain):
    for number in range(5):
        store_points([(1, TODAY + number, 2.0, b"")])
    with connect() as other, other.transaction(force_rollback=True):
        pack_journal(other, 0, after=0)
    assert verify_journal(chain, 0) == (18, None)


def test_deleting_expired_lines_keeps_the_rest_of_the_chain_valid(chain):
    chain.execute("UPDATE metrics_journalpack SET at_to = now() - interval '31 days' WHERE seq_from = 1")
    delete_expired(chain)
    assert verify_journal(chain, 0) == (8, None)


def test_last_line_of_an_idle_site_is_kept_and_valid(chain):
    chain.execute("UPDATE metrics_journalpack SET at_to = now() - interval '31 days'")
    chain.execute("UPDATE metrics_journal SET at = now() - interval '31 days'")
    delete_expired(chain)
    assert chain.execute("SELECT array_agg(seq) FROM metrics_journal").fetchone() == ([13],)
    assert verify_journal(chain, 0) == (1, None)


def rewrite_pack(connection) -> None:
    """Rewrite a pack with a valid checksum."""
    [payload] = connection.execute("SELECT payload FROM metrics_journalpack WHERE seq_from = 6", binary=True).fetchone()
    lines = decode_pack(payload)
    lines[2] = lines[2]._replace(entries=b'[{"sender":"nobody"}]')
    connection.execute("UPDATE metrics_journalpack SET payload = %s WHERE seq_from = 6", (encode_pack(lines),))


@pytest.mark.parametrize(
    ("change", "seq", "reason"),
    [
        ("UPDATE metrics_journal SET entries = replace(entries, '1', '2') WHERE seq = 12", 12, "entries"),
        ("UPDATE metrics_journal SET payload_digest = sha256('') WHERE seq = 12", 12, "entries"),
        ("UPDATE metrics_journal SET digest = sha256(''), payload_digest = NULL WHERE seq = 12", 12, "does not match"),
        ("UPDATE metrics_journal SET checksum = sha256('') WHERE seq = 12", 12, "does not match"),
        ("DELETE FROM metrics_journal WHERE seq = 12", 13, "12 to 12 are missing"),
        ("DELETE FROM metrics_journal WHERE seq = 13", 13, "missing"),
        ("DELETE FROM metrics_journalpack WHERE seq_from = 6", 11, "6 to 10 are missing"),
        ("UPDATE metrics_journalpack SET payload = set_byte(payload, 9, get_byte(payload, 9) # 255) WHERE seq_from = 6",
         6, "damaged"),
        ("UPDATE metrics_head SET checksum = sha256('')", 13, "head"),
        (rewrite_pack, 10, "does not match"),
    ],
)  # fmt: skip
def test_change_of_the_journal_is_detected(chain, change, seq, reason):
    change(chain) if callable(change) else chain.execute(change)
    _, broken = verify_journal(chain, 0)
    assert broken.seq == seq and reason in broken.reason
    with pytest.raises(CommandError, match=f"commit {seq}"):
        call_command("verify_audit", stdout=StringIO())


def test_unchanged_journal_is_valid(chain):
    output = StringIO()
    call_command("verify_audit", stdout=output)
    assert output.getvalue() == "13 commits are valid\n0 audit entries are valid\n"
