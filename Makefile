# Each target sets up what it needs; nothing but Python 3.11 and a package registry is assumed.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
# Newer ones, and Django 6, which needs them. One that is not found here is skipped, and it is said.
NEWER := 3.12 3.13
find-python = $(firstword $(wildcard $(HOME)/.pyenv/versions/$(1).*/bin/python$(1)) $(shell command -v python$(1)))
FOUND := $(foreach version,$(NEWER),$(if $(call find-python,$(version)),$(version)))

# Compiled once, not by each of the processes that tests start.
unexport PYTHONDONTWRITEBYTECODE

BIN := .venv/bin
INSTALL := $(BIN)/uv pip install --quiet --python
# What uv.lock names, from the package index that this machine is set up with.
LOCKED := $(BIN)/uv export --quiet --frozen
SYNC := $(BIN)/uv pip sync --quiet --python
EXTRAS := celery fastapi django flask huey opentelemetry procrastinate prometheus sentry sqlalchemy
# More than there are processors in most machines: tests with processes of their own, and with
# brokers, wait more than they work. In short sessions fewer, since each imports and collects
# everything first.
PYTEST := -m pytest --quiet -n 6 --dist loadgroup
FEW := -n 4

# A busy machine may make one in thousands of the tests with processes of their own lose its
# patience: what fails is tried once more, by itself. `make test` names it at the end.
# All in one session, since each has to import and collect everything first.
TESTS := $(BIN)/python $(PYTEST) -m "not host or not (slow or repeats)" --cov --cov-report=
HOSTS := $(BIN)/python $(PYTEST) -m "host and not slow and not repeats"
# With other versions, what depends on them. `make matrix` leaves nothing out but what is slow.
WHICH_OF_FLOOR := not slow and not costly
NOT_ON_NEW := costly and (core or gateways)
FLOOR_OF := tests/fastapi tests/starlette tests/django tests/flask tests/stores/test_sqlalchemy.py tests/stores/test_sqlalchemy_sessions.py tests/engines/test_celery.py tests/engines/test_celery_contract.py tests/engines/test_huey.py tests/engines/test_procrastinate.py
FLOOR = .venv-floor/bin/python $(PYTEST) $(FEW) -m "$(WHICH_OF_FLOOR)" -W "default::DeprecationWarning" $(FLOOR_OF)
NEW = $(PYTEST) $(FEW) -m "not slow and (not host or quick)" -k "(django or not hosts) and not ($(NOT_ON_NEW))" tests/core tests/gateways
# What frameworks do with a Python shows on the newest one that is found.
NEWEST := $(lastword $(FOUND))
ON_FRAMEWORKS := tests/fastapi tests/starlette tests/django tests/flask tests/testing/test_frameworks.py tests/hosts
FIRST := --junit-xml .first-runs/
AGAIN := --last-failed --last-failed-no-failures none -n 2

.PHONY: agents bench bench-check bench-quick check clean costs demo demo-durable demo-engines everything hosts lint lint-mypy lint-pyright lint-ruff lock matrix test test-faults test-floor test-hosts test-inner test-load test-new test-versions test-wheel yardstick $(NEWER:%=test-%)

test: .venv/.ready
	@rm -rf .first-runs
	@$(MAKE) --no-print-directory everything; result=$$?; \
	$(BIN)/python -m tests.retried .first-runs/tests.xml; exit $$result

everything: lint-ruff lint-mypy
	$(TESTS) $(FIRST)tests.xml || $(TESTS) --cov-append $(AGAIN)
	$(BIN)/coverage report --include='bgadapters/core/*' --fail-under=100
	$(BIN)/coverage report --fail-under=97
	@$(MAKE) --no-print-directory -j 2 lint-pyright test-versions
	$(MAKE) bench-check

# One after another, beside pyright, which has use for one processor only.
test-versions:
	$(MAKE) test-wheel
	$(MAKE) test-floor
	$(foreach version,$(NEWER),$(MAKE) test-$(version) && ) true

# The inner loop, which is to stay at about a minute. What is told of types without a cache is left to `make lint`.
check: .venv/.ready
	@$(MAKE) --no-print-directory -j 2 lint-ruff lint-mypy test-inner

test-inner: .venv/.ready
	$(BIN)/python $(PYTEST) $(FEW) -m "not slow and not costly and (not host or quick)" -k "not hosts or test_promises"

# Renews the list of what the inner loop cannot afford. On a machine with nothing else to do.
costs: .venv/.ready
	$(BIN)/python $(PYTEST) -m "not host and not slow" --costs tests/costs.txt

# The oldest versions and the newer Pythons with all that is not slow, and all hosts. Before a release.
matrix:
	$(MAKE) test-floor test-new FEW= WHICH_OF_FLOOR="not slow" NOT_ON_NEW="no_such_name" FLOOR_OF="$(FLOOR_OF) tests/gateways" THERE="$(ON_FRAMEWORKS)"
	$(MAKE) hosts

# Every host; writes the page that says what holds where.
hosts: .venv/.ready
	$(BIN)/python $(PYTEST) tests/hosts --ignore tests/hosts/test_table.py --hosts-table docs/hosts.md

demo: .venv-demo/.ready
	.venv-demo/bin/python -m examples.demo

# Fifty sign-ups, kill -9 in the middle, fifty mails.
demo-durable: .venv-demo/.ready
	.venv-demo/bin/python -m examples.demo.durable

# The same call sites in this process, in a pool of processes, on Huey and on Celery.
demo-engines: .venv-demo/.ready
	.venv-demo/bin/python -m examples.demo.engines

lint: lint-ruff
	@$(MAKE) --no-print-directory -j 2 lint-mypy lint-pyright

lint-ruff: .venv/.ready
	$(BIN)/ruff check
	$(BIN)/ruff format --check

lint-mypy: .venv/.ready
	$(BIN)/mypy

lint-pyright: .venv/.ready
	$(BIN)/pyright

# Renews every version in uv.lock. It names the standard index, whatever this machine uses.
lock: .venv/.ready
	$(BIN)/uv lock --upgrade --default-index https://pypi.org/simple

# Every server and every framework on it.
test-hosts: .venv/.ready
	$(HOSTS) $(FIRST)hosts.xml || $(HOSTS) $(AGAIN)

# What FastAPI's own tasks and ours look like to the agents of others.
agents: .venv-agents/.ready
	.venv-agents/bin/python -m pytest --quiet -p no:ddtrace tests/telemetry/test_agents.py

# 50,000 requests, rolling restarts of every server, the servers' own long patience, and many more
# combinations of options.
test-load: .venv/.ready
	$(BIN)/python $(PYTEST) tests/hosts -m slow
	$(BIN)/python $(PYTEST) tests/engines/test_process.py -m slow
	MACHINE_EXAMPLES=3000 $(BIN)/python $(PYTEST) tests/core/test_options_machine.py --timeout 1800

# Servers with durable tasks killed and stopped at random moments, again and again; prints counts.
test-faults: .venv/.ready
	$(BIN)/python -m pytest --quiet -n 2 --dist loadgroup -s tests/durable tests/engines/test_celery_faults.py tests/engines/test_huey_faults.py tests/engines/test_procrastinate_faults.py

# The wheel, bare and with each extra alone.
test-wheel: .venv/.ready
	$(BIN)/python -m tests.wheel.build $(BIN)/uv $(EXTRAS)

# The oldest versions that the extras admit, with what depends on them.
test-floor: .venv-floor/.ready
	$(FLOOR) || $(FLOOR) $(AGAIN)

# The newer Pythons, and with them the newest Django, with what depends on them.
test-new: $(NEWER:%=test-%)

$(FOUND:%=test-%): test-%: .venv-%/.ready
	.venv-$*/bin/python $(NEW) $(THERE) || .venv-$*/bin/python $(NEW) $(THERE) $(AGAIN)
$(NEWEST:%=test-%): THERE = $(ON_FRAMEWORKS)

$(filter-out $(FOUND:%=test-%),$(NEWER:%=test-%)): test-%:
	@echo "SKIPPED: no Python $* found"

# Django's own tests of its tasks framework, which are in its sdist, against our backend.
yardstick: .venv-3.13/.ready
	$(call find-python,3.13) -m pip download --quiet --disable-pip-version-check --no-deps --no-binary django --dest .yardstick "django==$$(.venv-3.13/bin/python -m django --version)"
	.venv-3.13/bin/python -m tests.django.yardstick .yardstick/[Dd]jango-*.tar.gz

# Everything beside its peers, in about half an hour; writes benchmarks/RESULTS.md and its plots.
bench: .venv-bench/.ready
	.venv-bench/bin/python -m benchmarks

# All of it in small, to see whether it runs; writes nothing.
bench-quick: .venv-bench/.ready
	.venv-bench/bin/python -m benchmarks --quick

# Whether a ratio has become worse.
bench-check: .venv-bench/.ready
	.venv-bench/bin/python -m benchmarks --check

.venv/.ready: pyproject.toml uv.lock
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(LOCKED) --all-extras --group test --group apps --group apps-django5 --group servers --group lint | $(SYNC) .venv -
	$(LOCKED) --only-group uwsgi | $(INSTALL) .venv -r - || echo "uWSGI could not be compiled here: its tests will be skipped"
	touch $@

$(NEWER:%=.venv-%/.ready): .venv-%/.ready: .venv/.ready
	$(BIN)/uv venv --quiet --clear --python $(call find-python,$*) .venv-$*
	$(LOCKED) --all-extras --group test --group apps | $(SYNC) .venv-$* -
	touch $@

.venv-floor/.ready: .venv/.ready
	$(BIN)/uv venv --quiet --clear --python $(PYTHON) .venv-floor
	$(INSTALL) .venv-floor --resolution lowest-direct -e '.[fastapi,django,flask,sqlalchemy,celery,huey,procrastinate]' --group test
	touch $@

# What is sold to watch applications with is kept apart: it patches what it finds.
.venv-agents/.ready: .venv/.ready
	$(BIN)/uv venv --quiet --clear --python $(PYTHON) .venv-agents
	$(LOCKED) --all-extras --group test --group agents | $(SYNC) .venv-agents -
	touch $@

# One of the peers needs Django 6.
.venv-bench/.ready: .venv/.ready
	$(BIN)/uv venv --quiet --clear --python $(or $(call find-python,3.13),$(PYTHON)) .venv-bench
	$(LOCKED) --all-extras --group test --group servers --group bench | $(SYNC) .venv-bench -
	touch $@

.venv-demo/.ready: pyproject.toml
	$(PYTHON) -m venv .venv-demo
	.venv-demo/bin/python -m pip install --quiet --disable-pip-version-check -e '.[fastapi,django,flask,celery,huey]' uvicorn 'gunicorn>=25.1' aiosmtpd h11
	touch $@

clean:
	rm -rf .venv .venv-* .bench-run .first-runs .yardstick dist build .coverage* .mypy_cache .pytest_cache .ruff_cache .hypothesis
