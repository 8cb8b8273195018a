import time
from collections import Counter

T = Counter()
N = Counter()


def wrap(mod, name):
    f = getattr(mod, name)

    def g(*a, **k):
        t = time.perf_counter()
        try:
            return f(*a, **k)
        finally:
            T[name] += time.perf_counter() - t
            N[name] += 1

    setattr(mod, name, g)


def pytest_collection_finish(session):
    import tests.conftest as c

    for n in (
        "empty_tables",
        "delete_rate_limits",
        "create_initial_rows",
        "first_alert_rows",
        "stop_inbox",
        "stop_writer",
        "close_pools",
    ):
        wrap(c, n)
    wrap(c.process_caches, "reset")
    wrap(c.series_registry, "refresh_registry")


def pytest_sessionfinish(session):
    print("\nPROF", {k: (round(v, 2), N[k], round(1000 * v / N[k], 1)) for k, v in T.items()})
