# make run    build, and run the quickstart: no server needed
# make test   install what is missing, start the real servers, run all tests
# make help   the other targets
SHELL := /bin/bash
export MILLRACE_CACHE ?= $(HOME)/.cache/millrace
export CARGO_TARGET_DIR ?= $(MILLRACE_CACHE)/target
export SERVICES_LIB ?= $(MILLRACE_CACHE)/services
MILLRACE = $(CARGO_TARGET_DIR)/release/millrace
PYTHON = $(MILLRACE_CACHE)/venv/bin/python

.PHONY: help run build test unit fuzz e2e fmt bench bench-console bench-lint bench-quick bench-state big soak chaos

help:
	@grep -E '^# make|^## ' Makefile | sed 's/^#* *//'

## make build        the executable, $(MILLRACE)
build:
	@scripts/install.sh build
	cargo build --release --locked

run: build
	$(MILLRACE) run topologies/quickstart/topology.yaml

test: unit e2e

## make unit         unit, property and golden tests: no server
unit:
	@scripts/install.sh build
	cargo test --release --locked --workspace

## make fuzz         lint against texts near those of its corpus: about 10 minutes
fuzz:
	@scripts/install.sh build
	MILLRACE_FUZZ=30 cargo test --release --locked -p millrace --test it fuzz::

## make e2e          the jobs against real servers: Kafka, HBase, Redis, ClickHouse's engine, S3
e2e: build
	@scripts/install.sh test
	cargo test --release --locked --workspace --test kafka --test s3 -- --ignored
	@# The outboxes' suite mostly waits for servers: it runs beside the others.
	@log=$$(mktemp); cargo test --release --locked --workspace --test outbox -- --ignored --test-threads 1 >$$log 2>&1 & outbox=$$!; \
	$(PYTHON) -m pytest -q -n 2 --dist loadfile tests/e2e; others=$$?; \
	wait $$outbox; failed=$$?; cat $$log; rm $$log; exit $$((failed + others))

## make chaos        the fault tests in their long form: hours. SEEDS=5: 200 rounds a sink of three processes killed at random; goes on where it was
SEEDS ?= 5
chaos: build
	@scripts/install.sh test
	$(PYTHON) -m pytest -q -rP tests/e2e/test_cluster.py tests/e2e/test_chaos.py tests/e2e/test_outages.py tests/e2e/test_guards.py tests/e2e/test_exactly_once.py tests/e2e/test_faults.py --chaos --seeds $(SEEDS)

## make soak         10 minutes against a slow sink: memory must not grow
soak: build
	@scripts/install.sh test
	$(PYTHON) tests/soak/soak.py

## make bench-quick  jobs J1, J1t, J2, J3, J4 against the bare loop and Benthos: under 5 minutes once the peers are built
bench-quick: build
	bench/bench.py --quick

## make bench        the same and Flink
bench: build
	bench/bench.py

## make bench-lint   lint of 1,000 files of 200 lines, completion in the language server: 10 seconds
bench-lint: build
	bench/lint.py

## make bench-console  200 tasks, 20 of them running: how long the list takes, how much memory the console: a minute
bench-console: build
	bench/console.py

## make bench-state  checkpoints of state on disk: J2, J3, J4 with one every 10 s, what is uploaded after 1 %, recovery of 1 GB
bench-state: build
	bench/state.py rate
	bench/state.py incremental
	bench/state.py recovery

## make big          10 GB of state in 1 GiB of memory, killed twice: an hour and 40 GB of disk
big: build
	bench/state.py big

## make fmt          format the Rust sources
fmt:
	cargo fmt --all
