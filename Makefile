# Every target is a line or two over an ordinary tool; `make setup` comes first by itself.
PYTHON ?= python3
BIN := .venv/bin
SLURM ?= /tmp/bambo-slurm

# Waiting OpenMP threads that spin make two busy cores several times slower.
export OMP_WAIT_POLICY := passive
export GOMP_SPINCOUNT := 0

.PHONY: setup demo test test-slurm test-vllm test-peers test-page lint format bench-demo bench-compare bench-async bench-merge bench-merge-large bench-scale bench-search bench-engines bench-proposal reference lock

setup: .venv/installed  ## a virtual environment with the pinned dependencies

.venv/installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -e .
	touch $@

demo: setup  ## the whole search on the embedded pair, then two models to take home
	$(BIN)/snakemake all export --cores 2

test-slurm: setup  ## the same workflow on a one-node Slurm of its own (Debian packages, root)
	tests/slurm/cluster.sh up $(SLURM)
	$(BIN)/pytest tests/slurm; status=$$?; tests/slurm/cluster.sh down $(SLURM); exit $$status

test-vllm: .venv-vllm/installed  ## the engine vllm, on this CPU, in an environment of its own (4 GB)
	.venv-vllm/bin/python -m pytest tests/unit/test_evaluation_vllm.py

.venv-vllm/installed: tests/vllm/requirements.lock
	$(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/pip install --quiet --disable-pip-version-check $$(grep ^torch== $<)
	.venv-vllm/bin/pip install --quiet --disable-pip-version-check --no-deps -r $<
	.venv-vllm/bin/pip install --quiet --disable-pip-version-check --no-deps -e .
	touch $@

test-peers: setup .venv-mergekit/installed  ## merging against mergekit, in an environment of its own (1.6 GB)
	$(BIN)/pytest tests/peers

.venv-mergekit/installed: tests/peers/requirements.lock
	$(PYTHON) -m venv .venv-mergekit
	.venv-mergekit/bin/pip install --quiet --disable-pip-version-check $$(grep ^torch== $<)
	.venv-mergekit/bin/pip install --quiet --disable-pip-version-check --no-deps -r $<
	touch $@

test-page: setup  ## the interactive page in headless Chromium (Debian's, installed where it is missing; root)
	command -v chromium > /dev/null || { apt-get update -qq && apt-get install -qqy --no-install-recommends chromium; }
	$(BIN)/pytest tests/page

test: setup  ## all tests: fast ones, then real runs of small workflows; two files at a time
	$(BIN)/pytest --numprocesses 2 --dist loadfile

lint: setup  ## format, lint, types, spelling, workflow lint
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/snakefmt --check Snakefile workflow/rules
	$(BIN)/mypy
	$(BIN)/codespell
	$(BIN)/snakemake --lint

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/snakefmt Snakefile workflow/rules

bench-demo: setup  ## block-wise search against grids, strategies and block counts; writes results/benchmarks
	$(BIN)/python benchmarks/demo_search.py

bench-compare: setup  ## the searches of config/compare.yaml on the embedded pair, their fronts on fresh questions; an hour
	$(BIN)/python benchmarks/demo_compare.py

bench-merge: setup .venv-mergekit/installed  ## every method beside mergekit, and beside reading and writing alone
	$(BIN)/python benchmarks/merge_throughput.py

bench-merge-large: setup  ## every method on a model of 10 GB with large embeddings; 30 GB of disk
	$(BIN)/python benchmarks/merge_throughput.py --large

bench-scale: setup  ## 1,000 simulated evaluations, and ten searches in one config: what Snakemake and proposals cost
	$(BIN)/python benchmarks/workflow_scale.py

bench-search: setup  ## all searches on simulated landscapes, most telling runs first; days of CPU time, goes on where it was
	$(BIN)/python benchmarks/search_quality.py

bench-async: setup  ## asynchronous against synchronous, simulated evaluations that take two minutes or so: forty minutes
	$(BIN)/python benchmarks/async_schedule.py

bench-proposal: setup  ## CPU seconds of a proposal by observations, variables, candidates and points under way
	$(BIN)/python benchmarks/proposal_cost.py

bench-engines: setup  ## start, speed and replacement of weights of each engine, on random models
	$(BIN)/python benchmarks/engines.py --layers 4

reference: setup  ## what is generated from code: config/README.md, config/schema.json, docs/rules.svg
	$(BIN)/python -m bambo.config --write

lock: setup  ## write requirements.lock anew from pyproject.toml
	$(BIN)/pip-compile --quiet --extra dev --extra tracking --strip-extras --no-header --no-emit-index-url --no-emit-find-links \
	  --output-file requirements.lock pyproject.toml
	sed -i 's/+cpu$$//' requirements.lock
