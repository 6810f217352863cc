# Each target sets up what it needs; nothing but Python 3.11 and a package registry is assumed.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
# Django 6 needs a newer Python. Where none is found its tests are skipped, and say so.
PYTHON_NEW ?= $(firstword $(wildcard $(HOME)/.pyenv/versions/3.13*/bin/python3.13) $(shell command -v python3.13))

BIN := .venv/bin
INSTALL := $(BIN)/uv pip install --quiet --python
EXTRAS := fastapi django flask
PYTEST := -m pytest --quiet -n 3 --dist loadgroup
# What talks to servers waits more than it works.
PYTEST_HOSTS := -m pytest --quiet -n 4 --dist loadgroup

# A busy machine may make one in thousands of the tests with processes of their own lose its
# patience: what fails is tried once more, by itself.
UNITS := $(BIN)/python $(PYTEST) -m "not host" --timeout 60 --cov
HOSTS := $(BIN)/python $(PYTEST_HOSTS) -m "host and not slow and not repeats"
AGAIN := --last-failed --last-failed-no-failures none

.PHONY: bench bench-check bench-quick check clean demo hosts lint test test-floor test-hosts test-load test-new test-wheel yardstick

test: lint .venv/.ready
	$(UNITS) --cov-report= || $(UNITS) --cov-append --cov-report= $(AGAIN)
	$(BIN)/coverage report --include='bgadapters/core/*' --fail-under=100
	$(BIN)/coverage report --fail-under=97
	$(MAKE) test-hosts test-wheel test-floor test-new bench-check

# The inner loop: under a minute.
check: lint .venv/.ready
	$(BIN)/python $(PYTEST) -m "not slow and (not host or quick)"

# Every host; writes the page that says what holds where.
hosts: .venv/.ready
	$(BIN)/python $(PYTEST) tests/hosts --ignore tests/hosts/test_table.py --hosts-table docs/hosts.md

demo: .venv-demo/.ready
	.venv-demo/bin/python -m examples.demo

lint: .venv/.ready
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# Every server and every framework on it.
test-hosts: .venv/.ready
	$(HOSTS) || $(HOSTS) $(AGAIN)

# 50,000 requests, rolling restarts of every server, the servers' own long patience.
test-load: .venv/.ready
	$(BIN)/python $(PYTEST) tests/hosts -m slow

# The wheel, bare and with each extra alone.
test-wheel: .venv/.ready
	$(BIN)/python -m tests.wheel.build $(BIN)/uv $(EXTRAS)

# The oldest versions that the extras admit.
test-floor: .venv-floor/.ready
	.venv-floor/bin/python $(PYTEST) -W "default::DeprecationWarning" tests/fastapi tests/starlette tests/django tests/flask tests/gateways

# The newest Django, on a newer Python.
test-new:
ifeq ($(PYTHON_NEW),)
	@echo "SKIPPED: no Python 3.13 found, which Django 6 needs"
else
	$(MAKE) .venv-new/.ready
	.venv-new/bin/python $(PYTEST) tests/core/test_loop.py tests/core/test_queue.py tests/core/test_runner.py tests/fastapi tests/gateways tests/django tests/testing/test_frameworks.py
	.venv-new/bin/python $(PYTEST) tests/hosts -m "quick and not slow" -k django
endif

# Django's own tests of its tasks framework, which are in its sdist, against our backend.
yardstick: .venv-new/.ready
	$(PYTHON_NEW) -m pip download --quiet --disable-pip-version-check --no-deps --no-binary django --dest .yardstick "django==$$(.venv-new/bin/python -m django --version)"
	.venv-new/bin/python -m tests.django.yardstick .yardstick/[Dd]jango-*.tar.gz

# Everything beside its peers, in about 25 minutes; writes benchmarks/RESULTS.md and its plots.
bench: .venv-bench/.ready
	.venv-bench/bin/python -m benchmarks

# All of it in small, to see whether it runs; writes nothing.
bench-quick: .venv-bench/.ready
	.venv-bench/bin/python -m benchmarks --quick

# Whether a ratio has become worse.
bench-check: .venv-bench/.ready
	.venv-bench/bin/python -m benchmarks --check

.venv/.ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(INSTALL) .venv -e '.[fastapi,django,flask]' 'django<6' --group test --group servers --group lint
	$(INSTALL) .venv --group uwsgi || echo "uWSGI could not be compiled here: its tests will be skipped"
	touch $@

.venv-new/.ready: .venv/.ready
	$(BIN)/uv venv --quiet --clear --python $(PYTHON_NEW) .venv-new
	$(INSTALL) .venv-new -e '.[fastapi,django,flask]' 'django>=6' --group test
	touch $@

.venv-floor/.ready: .venv/.ready
	$(BIN)/uv venv --quiet --clear --python $(PYTHON) .venv-floor
	$(INSTALL) .venv-floor --resolution lowest-direct -e '.[fastapi,django,flask]' --group test
	touch $@

# One of the peers needs Django 6.
.venv-bench/.ready: .venv/.ready
	$(BIN)/uv venv --quiet --clear --python $(or $(PYTHON_NEW),$(PYTHON)) .venv-bench
	$(INSTALL) .venv-bench -e '.[fastapi,django,flask]' --group bench
	touch $@

.venv-demo/.ready: pyproject.toml
	$(PYTHON) -m venv .venv-demo
	.venv-demo/bin/python -m pip install --quiet --disable-pip-version-check -e '.[fastapi,django,flask]' uvicorn 'gunicorn>=25.1' aiosmtpd h11
	touch $@

clean:
	rm -rf .venv .venv-* .yardstick dist build .coverage* .mypy_cache .pytest_cache .ruff_cache .hypothesis
