# medloop. `make` lists the targets.
.DEFAULT_GOAL := help
.PHONY: help install browser dicom-tools demo test test-fast soak benchmarks check format lock lock-images build-and-push synth bootstrap deploy deploy-production images aws-smoke destroy clean engine images-local

PYTHON ?= python3.11
BIN := .venv/bin
STAMP := .venv/.installed

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# The stamp depends on the files that define the environment: `make -n` shows if an install is due.
$(STAMP): pyproject.toml constraints.txt medloop/samples/requirements.txt
	@echo "creating .venv: 5.5 GB, most of it torch; this takes some minutes"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch torchvision
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[jobs,infra,dicom,dev]'
	$(BIN)/python -m pip install --quiet --no-deps --requirement medloop/samples/requirements.txt
	@touch $@

install: $(STAMP) ## create .venv with all dependencies

# The same names as in tests/browser/conftest.py.
browser: ## install Chromium for tests/browser from Debian's packages, unless a browser is installed (MEDLOOP_CHROMIUM names it)
	@for name in "$$MEDLOOP_CHROMIUM" chromium chromium-browser google-chrome; do command -v "$$name" && exit; done; \
	if [ "$$(id -u)" = 0 ]; then as=; else as=sudo; fi; \
	{ $$as apt-get update -qq && $$as apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core; } || \
	{ echo "no browser: install Chromium or Chrome, and set MEDLOOP_CHROMIUM if it isn't in PATH" >&2; exit 1; }

demo: $(STAMP) ## train, evaluate, register and deploy both tasks on real images, locally
	$(BIN)/medloop demo

# Workers with two spinning threads each would wait for each other; jobs that tests start have a separate setting.
test test-fast soak: export OMP_NUM_THREADS := 1
# Images of containers often forbid bytecode; then each worker, and each process that a test starts, compiles all again.
test test-fast soak: export PYTHONDONTWRITEBYTECODE :=

# Three workers for two cores: the end-to-end tests wait half of their time, while others run.
test: $(STAMP) ## run the tests; FILES="tests/unit/cli tests/infra": a part
	$(BIN)/python -m pytest -n 3 --dist worksteal -m 'not soak' --durations 10 $(FILES)

test-fast: $(STAMP) ## run the tests that take milliseconds, of all areas; FILES=... a part
	$(BIN)/python -m pytest -n 2 --dist worksteal -m 'not slow and not soak' --durations 10 $(FILES)

soak: $(STAMP) ## run the long tests: kill loops, coverage simulations, load; FILES=... a part
	$(BIN)/python -m pytest -m soak $(FILES)

# With another environment's torch and MONAI: make benchmarks BENCHMARK_PYTHON=python3
BENCHMARK_PYTHON ?= $(BIN)/python

benchmarks: $(if $(filter $(BIN)/python,$(BENCHMARK_PYTHON)),$(STAMP)) ## compare training and inference with MONAI and the workshop; PART=1 or 2: ten minutes on a GPU each
	PYTHONPATH=. $(BENCHMARK_PYTHON) benchmarks/run_all.py $(if $(PART),--part $(PART)) $(if $(DATA),--data $(DATA)) $(if $(SIZE),--size $(SIZE))

check: $(STAMP) ## check style and types, as CI does
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP) ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: $(STAMP) ## pin all dependencies again in constraints.txt
	$(BIN)/uv pip compile pyproject.toml --extra jobs --extra infra --extra dicom --extra dev --python-version 3.11 \
		--python-platform x86_64-unknown-linux-gnu --no-annotate --no-header --upgrade --output-file constraints.txt
	$(MAKE) lock-images

# The versions are those of constraints.txt, for the images' platform; hashes hold for each Python that a base image brings.
lock-images: $(STAMP) ## lock each container's requirements.in in its requirements.txt, with hashes, at the versions of constraints.txt
	@for folder in $(sort $(dir $(wildcard containers/*/requirements.in))); do \
	$(BIN)/uv pip compile "$${folder}requirements.in" --constraint constraints.txt --excludes containers/brought-by-base.txt --generate-hashes \
		--python-version 3.11 --python-platform x86_64-manylinux_2_28 --no-annotate --no-header --quiet \
		--output-file "$${folder}requirements.txt" || exit 1; done

engine: ## install podman from Debian's packages, unless podman, buildah or Docker works (tests/containers/test_built_images.py)
	@for name in podman buildah docker; do "$$name" info >/dev/null 2>&1 && exit; done; \
	if [ "$$(id -u)" = 0 ]; then as=; else as=sudo; fi; \
	{ $$as apt-get update -qq && $$as apt-get install -y -qq --no-install-recommends podman runc; } || \
	{ echo "no container engine: install podman, buildah or Docker" >&2; exit 1; }

dicom-tools: ## install other readers of DICOM from Debian's packages, which tests compare with (dcm2niix, dcmtk, dicom3tools, Orthanc)
	@for name in dcm2niix dcmdump dciodvfy Orthanc; do command -v "$$name" >/dev/null || missing=1; done; [ -n "$$missing" ] || exit 0; \
	if [ "$$(id -u)" = 0 ]; then as=; else as=sudo; fi; \
	$$as apt-get update -qq && $$as apt-get install -y -qq --no-install-recommends dcm2niix dcmtk dicom3tools orthanc orthanc-dicomweb

images-local: $(STAMP) ## build the container images on this machine, with a bill of materials each; BASE=image ENGINE=podman OPTIONS='--volume=A:B:ro'
	$(BIN)/medloop images build $(if $(BASE),--base $(BASE)) $(if $(ENGINE),--engine $(ENGINE)) $(foreach word,$(OPTIONS),'--option=$(word)')

build-and-push: $(STAMP) ## build the container images with podman, buildah or Docker and push them to ECR (MEDLOOP_BUCKET, MEDLOOP_ROLE_ARN)
	$(BIN)/medloop images push

# CDK's command line, the newest that reads this library's assemblies; npx fetches it. Node comes with the environment.
CDK := PATH="$$PWD/$(BIN):$$($(BIN)/python -c 'import infra, os; print(os.path.dirname(os.environ["JSII_NODE"]))'):$$PATH" \
	npx --yes aws-cdk@2.1148.1 --app '$(BIN)/python -m infra.app'

synth: $(STAMP) ## write the account's CloudFormation template into cdk.out; offline
	CDK_OUTDIR=cdk.out $(BIN)/python -m infra.app

bootstrap: $(STAMP) ## create the bucket for deployments, once per account and region
	$(CDK) bootstrap

deploy: $(STAMP) ## deploy the infrastructure into the account of your credentials (docs/deploy.md)
	$(CDK) deploy medloop

deploy-production: $(STAMP) ## deploy production into an account of its own, the one of your credentials (docs/delivery.md)
	$(CDK) deploy medloop-production

images: $(STAMP) ## build and push the images of the current commit in CodeBuild, without local Docker
	@tmp=$$(mktemp -d) && trap 'rm -r "$$tmp"' EXIT && eval "$$($(BIN)/python -m infra.outputs)" && \
	git archive --format zip --output "$$tmp/medloop.zip" HEAD && $(BIN)/python -m infra.images.start "$$tmp/medloop.zip"

aws-smoke: $(STAMP) ## try the deployed account with what medloop sends, for under a dollar; ARGS=--dry-run lists what it creates and deletes
	@$(BIN)/python -m aws_smoke $(ARGS)

destroy: $(STAMP) ## delete the infrastructure; buckets and keys are kept unless storage.keep_on_destroy is false
	$(CDK) destroy medloop

clean: ## remove the environment, caches and local runs
	rm -rf .venv .medloop .pytest_cache .ruff_cache .mypy_cache .hypothesis build dist cdk.out *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
