# Everything sets itself up: `make demo` and `make test` need Python 3.11+ and make, nothing else.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
DEMO := demo
FUZZ ?= 20000

.PHONY: help demo test check format fuzz test-system test-kills test-tokenizers test-exact test-vllm test-cluster images sbom test-images scan bench bench-client bench-scoring lock docs clean

help: ## Show the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

demo: .venv/.runtime ## Both studies on a small real model, in a few minutes
	$(BIN)/grace run --limit 8 --out $(DEMO)
	$(BIN)/grace summarise $(DEMO)

test: .venv/.dev ## All quick tests
	$(BIN)/python -m pytest -n auto --dist worksteal --cov=src/grace \
		--cov-report=term:skip-covered --cov-fail-under=90

check: .venv/.dev ## Format, lint, types, layers, spelling
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/typos

format: .venv/.dev ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

fuzz: .venv/.dev ## Mutated files, replies and responses for every parser (FUZZ=20000)
	PYTHONPATH=tests:tests/inference $(BIN)/python -m fuzz $(FUZZ) $(FUZZ_FLAGS)

test-system: .venv/.dev ## Real servers, real processes, 40 kills
	$(BIN)/python -m pytest -m slow tests

test-kills: .venv/.dev ## Kills at random moments, as many as KILLS says (500)
	KILLS=$${KILLS:-500} $(BIN)/python -m pytest -m slow tests/system/test_kills.py

test-tokenizers: .venv/.dev ## Chat conventions against the models' real tokenizers (needs npm)
	$(BIN)/python -m pytest -m tokenizers tests/conventions

test-exact: .venv-exact/.ready ## Scores against transformers in fp32 on the same weights
	PYTHONPATH=tests .venv-exact/bin/python -m exact $(EXACT_FLAGS)

test-vllm: .venv-vllm/.ready ## A real vLLM server: scores, texts, extraction, whole runs
	.venv-vllm/bin/python -m pytest -m vllm tests/real_vllm $(VLLM_FLAGS)

images: ## The runner and the CPU model server as container images (BASE=, ENGINE=, TAG=)
	scripts/image-build.sh runner
	scripts/image-build.sh cpu-server

sbom: ## What is in the images, as CycloneDX, under dist/sbom
	scripts/image-build.sh sbom runner
	scripts/image-build.sh sbom cpu-server

# Where they cannot be built, the build files are checked all the same, and what is missing is said.
test-images: .venv/.dev ## Build the images, run them confined, build one again and compare
	scripts/need-podman.sh || true
	$(BIN)/python -m pytest -m "images or not images" -rs tests/deploy $(IMAGES_FLAGS)

scan: .venv/.runtime .venv-scan/.ready ## The rendered manifests of both profiles, by a policy scanner
	$(BIN)/python scripts/scan.py $(CURDIR)/.venv-scan/bin/checkov

test-cluster: .venv/.dev ## The cluster that KUBECONFIG names, in a namespace of its own
	$(BIN)/python -m pytest -m cluster tests/cluster $(CLUSTER_FLAGS)

bench: bench-client bench-scoring ## What scoring costs, beside other tools (BENCH_FLAGS=--small)

bench-client: .venv-bench/.ready ## The client alone, against a server that answers at once
	PYTHONPATH=.:tests .venv-bench/bin/python -m benchmarks client $(BENCH_FLAGS)

bench-scoring: .venv-bench/.ready .venv-vllm/.ready ## All tools on one vLLM server
	PYTHONPATH=.:tests .venv-bench/bin/python -m benchmarks scoring $(BENCH_FLAGS)

docs: .venv/.dev ## Write the generated pages of docs/ again
	$(BIN)/python scripts/reference.py

lock: ## Resolve dependencies again (needs uv)
	scripts/lock.sh

clean: ## Remove environments and caches
	rm -rf .venv .venv-exact .venv-vllm .venv-bench .venv-scan .mypy_cache .pytest_cache .ruff_cache .hypothesis fuzz-failures

.venv/.made:
	scripts/make-venv.sh $(PYTHON) .venv
	touch $@

.venv/.runtime: .venv/.made requirements/runtime.txt pyproject.toml
	$(PIP) --require-hashes -r requirements/runtime.txt
	PATH="$(CURDIR)/$(BIN):$$PATH" $(PIP) --no-deps --no-build-isolation -e .
	touch $@

.venv/.dev: .venv/.runtime requirements/dev.txt
	$(PIP) --require-hashes -r requirements/dev.txt
	touch $@

# An environment of its own: the scanner wants older packages than Grace. Grace is not in it.
.venv-scan/.ready: requirements/scan.txt
	scripts/make-venv.sh $(PYTHON) .venv-scan
	.venv-scan/bin/python -m pip --disable-pip-version-check install --quiet \
		--require-hashes -r requirements/scan.txt
	touch $@

.venv-exact/.ready: EXACT_PIP := .venv-exact/bin/python -m pip --disable-pip-version-check install --quiet
.venv-exact/.ready: requirements/exact.txt
	scripts/make-venv.sh $(PYTHON) .venv-exact
	$(EXACT_PIP) torch==2.13.0
	$(EXACT_PIP) --require-hashes -r requirements/exact.txt
	PATH="$(CURDIR)/.venv-exact/bin:$$PATH" $(EXACT_PIP) --no-deps --no-build-isolation -e .
	touch $@

# Without dependencies: the list is complete, and vLLM names a build of PyTorch that no index has.
.venv-vllm/.ready: VLLM_PIP := .venv-vllm/bin/python -m pip --disable-pip-version-check install --quiet
.venv-vllm/.ready: requirements/vllm.txt
	scripts/need-numa.sh $(PYTHON)
	scripts/make-venv.sh $(PYTHON) .venv-vllm
	$(VLLM_PIP) torch==2.13.0
	$(VLLM_PIP) --no-deps --require-hashes -r requirements/vllm.txt
	PATH="$(CURDIR)/.venv-vllm/bin:$$PATH" $(VLLM_PIP) --no-deps --no-build-isolation -e .
	touch $@

# Without dependencies: the list is complete, and pip holds a pin of typepy not to be one of
# typepy[datetime], which another package of the list asks for.
.venv-bench/.ready: BENCH_PIP := .venv-bench/bin/python -m pip --disable-pip-version-check install --quiet
.venv-bench/.ready: requirements/bench.txt
	scripts/make-venv.sh $(PYTHON) .venv-bench
	$(BENCH_PIP) torch==2.13.0
	$(BENCH_PIP) --no-deps --require-hashes -r requirements/bench.txt
	PATH="$(CURDIR)/.venv-bench/bin:$$PATH" $(BENCH_PIP) --no-deps --no-build-isolation -e .
	touch $@
