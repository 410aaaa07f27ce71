# Everything from a bare clone with Python 3.11. `make help` lists the targets.
PYTHON ?= python3.11
TOOLS := .cache/tools
UV := $(TOOLS)/bin/uv
BIN := .venv/bin
READY := .venv/.ready
SHARED ?= ../shared/data
FIT_DATA ?= $(if $(wildcard $(SHARED)/photos),--photos $(SHARED)/photos --photos $(SHARED)/objects/coco/images \
	--outlines $(SHARED)/objects/coco/labels --outlines $(SHARED)/segments,--photos samples/originals --photos samples/donors)
EVAL_SETS ?= $(if $(wildcard $(SHARED)/validation),--set $(SHARED)/validation/imd2020 --set $(SHARED)/validation/comofod)
EVAL_DATA ?= $(if $(wildcard $(SHARED)/photos),$(FIT_DATA),--photos samples/originals --photos samples/donors --split all)
FIT ?=
EVAL ?=
SIZES ?= 10000 100000
HASHES ?= 1000000
LOOKUP ?=
EXPERIMENT ?=
export PENTIMENTO_CACHE_DIR ?= $(CURDIR)/.cache

# A shared or small machine's threads wait for each other more than they work; processes are started by the hundred.
TESTING := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all renderer test-helm chart lint check format bench bench-freshness bench-harvest \
	bench-lookup bench-pair bench-review bench-search bench-web bench-web-iml screenshots experiment-loop fit fit-constrained \
	fit-web-iml fit-embedder eval-constrained eval-web-iml eval-embedder lock docs monitoring promtool browser postgres clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-17s %s\n", $$1, $$2}'

$(UV): requirements-uv.lock
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 is needed: set PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/pip install --quiet --require-hashes -r requirements-uv.lock
	@touch $(UV)

$(READY): $(UV) requirements.lock pyproject.toml
	test -x $(BIN)/python || $(UV) venv --quiet --python $(TOOLS)/bin/python .venv
	$(UV) pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $(READY)

setup: $(READY) ## install everything that the lock names into .venv

demo: setup ## start the whole stack, judge the samples, write overlays to demo-output/
	$(BIN)/pentimento demo --out demo-output

test: setup browser postgres renderer ## every kind of test, in minutes
	$(TESTING) $(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile --durations=30

test-all: setup browser postgres renderer ## the full matrix, slow ones included
	$(TESTING) $(BIN)/python -m pytest

HELM := $(TOOLS)/bin/helm
APISERVER := $(TOOLS)/bin/kube-apiserver
PROMTOOL := $(TOOLS)/bin/promtool
HELM_VERSION ?= v3.19.0
KUBERNETES_VERSION ?= v1.34.2
PROMETHEUS_VERSION ?= v0.316.0

$(HELM): | $(UV)
	@command -v go >/dev/null || { echo "Go is missing: helm is not built, tests that need it are skipped"; exit 0; }; \
		GOBIN=$(CURDIR)/$(TOOLS)/bin go install -buildvcs=false helm.sh/helm/v3/cmd/helm@$(HELM_VERSION)

$(APISERVER): | $(UV)
	@command -v go >/dev/null || { echo "Go is missing: kube-apiserver is not built, its tests are skipped"; exit 0; }; \
		sh tests/helm/kube-apiserver.sh $(KUBERNETES_VERSION) $(CURDIR)/$(APISERVER)

$(PROMTOOL): | $(UV)
	@command -v go >/dev/null || { echo "Go is missing: promtool is not built, its tests are skipped"; exit 0; }; \
		GOBIN=$(CURDIR)/$(TOOLS)/bin go install -buildvcs=false github.com/prometheus/prometheus/cmd/promtool@$(PROMETHEUS_VERSION)

renderer: ## build helm where Go is, so that the chart is tested too
	@$(MAKE) --no-print-directory $(HELM) || echo "helm could not be built: the chart's tests are skipped"

test-helm: setup $(HELM) $(APISERVER) $(PROMTOOL) ## the chart: lint, each shape rendered, admitted, installed, run; its rules; needs Go
	@command -v etcd >/dev/null || { if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq etcd-server >/dev/null; \
	else echo "etcd is missing: apt-get install etcd-server (admission is not tested without)"; fi; }
	$(BIN)/python -m pytest tests/helm tests/deploy tests/monitoring

lint: setup ## format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

check: lint ## what `lint` does, and imports, unit and docs tests
	$(BIN)/python -m pytest -q tests/core tests/docs tests/contracts tests/test_imports.py -m "not slow"

format: setup ## put the code into form
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup ## measure the stream against the bare model server, side by side
	$(BIN)/python -m bench --out docs/benchmarks.md

bench-freshness: setup ## how long a registered original takes to be findable, 200 of them at 5 a second
	$(BIN)/python -m bench.freshness --count 200 --rate 5

bench-search: setup ## how long searches take among 100,000 verdicts
	$(BIN)/python -m bench.search --verdicts 100000

bench-lookup: setup ## what lookup finds, then what its index costs; SIZES="10000 100000", HASHES=1000000, LOOKUP="--data DIR" keeps indexes
	$(BIN)/python -m bench.lookup recall $(EVAL_DATA) --out docs/lookup.md
	$(BIN)/python -m bench.lookup scale --originals $(SIZES) --hashes $(HASHES) $(if $(wildcard $(SHARED)/photos),--photos $(SHARED)/photos) \
		$(LOOKUP) --out docs/lookup.md
	$(BIN)/python -m bench.lookup words --originals $(SIZES) $(if $(wildcard $(SHARED)/photos),--photos $(SHARED)/photos) \
		--out docs/lookup.md

bench-web: bench-review bench-search ## what the dashboard costs with a hundred thousand cases and verdicts

bench-review: setup ## what the review API costs with a hundred thousand open cases
	$(BIN)/python -m bench.review

bench-harvest: setup ## what a pair costs a harvest by stage, and what as many as MIMLv2 has would cost
	$(BIN)/python -m bench.harvest

experiment-loop: setup ## whether the network learns from masks that nobody drew, written to docs/experiment-loop.md; an hour
	$(BIN)/python -m bench.experiment_loop $(if $(wildcard $(SHARED)/photos),--photos $(SHARED)/photos,--photos samples/originals \
		--photos samples/donors) $(EXPERIMENT)

bench-pair: setup ## where the time of a pair goes, and its memory, on one core
	$(BIN)/python -m trainer.pair_timing

bench-web-iml: setup ## time and memory of the single-image model, each case in a fresh process; needs a quiet machine
	$(BIN)/python -m trainer.single_timing

fit: fit-constrained fit-web-iml fit-embedder ## fit every network; FIT_DATA names photographs and label maps (see the model cards)

fit-constrained: setup ## the three networks of the pair model; FIT="--profile gpu" for a GPU, FIT=--resume to go on
	$(BIN)/python -m trainer.fit difference $(FIT_DATA) --steps 5000 --version 0.2.0 $(FIT)
	$(BIN)/python -m trainer.fit correlation $(FIT_DATA) --steps 900 --version 0.2.0 $(FIT)
	$(BIN)/python -m trainer.fit pair_kind $(FIT_DATA) --steps 500 --version 0.2.0 $(FIT)

fit-web-iml: setup ## the single-image network
	$(BIN)/python -m trainer.fit web_iml $(FIT_DATA) --steps 6800 --version 0.4.0 $(FIT)

fit-embedder: setup ## the network that finds originals by their parts
	$(BIN)/python -m trainer.fit embedder $(FIT_DATA) --size 96 --minutes 40 --peak-rate 0.002 --warmup-steps 50 --seed 20261127 $(FIT)

eval-constrained: setup ## measure the pair model on real pairs and on generated ones of photographs never fitted on
	$(BIN)/python -m trainer.evaluate_constrained $(EVAL_SETS) $(EVAL_DATA) --out docs/evaluation-constrained.md

eval-web-iml: setup ## measure the single-image model on real forgeries, generated ones and photographs, beside baselines
	$(BIN)/python -m trainer.evaluate_web_iml $(EVAL_SETS) $(EVAL_DATA) --out docs/evaluation-web-iml.md $(EVAL)

eval-embedder: setup ## how often originals are found again by their parts, beside PDQ, on photographs never fitted on
	$(BIN)/python -m trainer.evaluate_embedder $(FIT_DATA)

chart: setup ## generate the chart's schema, README and topics, and the images' lock files
	$(BIN)/python -m helm.files
	$(BIN)/python -m deploy.locks

monitoring: setup ## write dashboards, objectives and alerts into the chart
	$(BIN)/python -m deploy.monitoring

promtool: setup $(PROMTOOL) ## objectives and alerts, read and evaluated by Prometheus' own promtool; needs Go, and minutes
	$(BIN)/python -m pytest tests/monitoring

docs: setup ## generate schemas, AsyncAPI, OpenAPI and the settings page
	$(BIN)/python -m services.core.schemas --out docs
	$(BIN)/python -m services.settings_docs --out docs/settings.md
	$(BIN)/python -m services.web.openapi --out docs/openapi.json

screenshots: setup browser ## pictures of the main pages for the documents, from the real stack, into docs/screenshots/
	$(BIN)/python -m bench.screenshots

lock: $(UV) ## resolve the lock files anew
	$(UV) pip compile pyproject.toml --all-extras --generate-hashes --no-emit-index-url --no-header --quiet \
		--python-version 3.11 --no-emit-package pentimento --output-file requirements.lock
	echo "uv==$$($(UV) --version | cut -d' ' -f2)" | $(UV) pip compile - --generate-hashes --no-emit-index-url \
		--no-header --quiet --python-version 3.11 --output-file requirements-uv.lock
	@echo "then: make chart, for the images' lock files"

browser:
	@command -v chromium >/dev/null || { if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "installing chromium for the browser test"; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null; \
	else echo "The browser test needs chromium: apt-get install chromium (it is skipped without)"; fi; }

postgres: # Debian's speaks TLS, which the embedded one does not; any version does
	@ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || { if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "installing postgresql for the tests of its TLS"; mkdir -p /etc/postgresql-common/createcluster.d; \
		echo "create_main_cluster = false" > /etc/postgresql-common/createcluster.d/pentimento.conf; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql >/dev/null \
			|| echo "postgresql could not be installed: the tests of its TLS are skipped"; \
	else echo "The tests of PostgreSQL's TLS need Debian's: apt-get install postgresql (they are skipped without)"; fi; }

clean: ## remove what was installed and built
	rm -rf .venv .cache demo-output
