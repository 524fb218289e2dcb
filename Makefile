# Every command sets up what it needs, from a fresh clone: `make run` with Python 3.11+ and make only, `make test` with
# Node.js 20+ and npm besides.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OLDEST := $(VENV)/.oldest
DEPLOY := $(VENV)/.deploy
AUTOBAHN := $(VENV)/.autobahn
KINDS := tests/deploy/kinds/node_modules
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: run test soak coverage .set-up .packages lint types frontend publisher-js oldest example example-next example-next-test bench balancers autobahn chaos deploy-check manifests image-check dist sbom screenshot grafana top-picture lock clean

run: $(VENV)/.gateway  ## a gateway with demo jobs, and a page to watch them
	@$(BIN)/progress-gateway demo

ifdef T
test: $(VENV)/.dev
	$(PYTEST) $(T)
else
test:  ## everything that CI runs; some tests: make test T="tests/feed -k probe"; the same random examples again: SEED=7
	@$(AGAIN) -j4 --output-sync .set-up
	@# One process for each core, and not more: many tests wait for an answer within a time.
	@tests/side-by-side "$(AGAIN) frontend" -- $(AGAIN) --keep-going lint types oldest publisher-js; checks=$$?; \
	$(PYTEST) -n auto -m "not alone and not soak"; beside=$$?; \
	$(PYTEST) -m "alone and not soak"; alone=$$?; \
	exit $$((checks | beside | alone))
endif
PYTEST = $(BIN)/python -m pytest $(if $(SEED),--hypothesis-seed=$(SEED))
AGAIN = $(MAKE) --no-print-directory

.set-up: .packages $(VENV)/.dev $(OLDEST)/.installed $(DEPLOY)/.installed $(KINDS)/.installed frontend/node_modules/.installed publisher-js/node_modules/.installed

.packages:
	@tests/system-packages redis-server openssl curl nginx-light haproxy systemd prometheus chromium

coverage: .set-up  ## all tests, and which lines and branches they miss
	$(BIN)/python -m coverage erase
	$(BIN)/python -m coverage run -m pytest -n auto -m "not alone"
	$(BIN)/python -m coverage run -m pytest -m alone
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report

soak: .set-up  ## what takes long: thousands of random examples, coverage, an hour of faults
	TEST_EXAMPLES=soak $(PYTEST) -n auto -m "hypothesis or soak"
	@$(AGAIN) coverage
	@$(AGAIN) example-next-test
	@$(AGAIN) chaos

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

frontend: frontend/node_modules/.installed $(VENV)/.dev  ## the npm package: lint, types, build, sizes, tests, in Chromium too
	@tests/system-packages chromium
	cd frontend && npm run --silent check

publisher-js: publisher-js/node_modules/.installed $(VENV)/.dev  ## the npm package for job authors: lint, types, build, sizes, tests
	cd publisher-js && npm run --silent check

publisher-js/dist/index.js: publisher-js/node_modules/.installed publisher/publish.lua $(wildcard publisher-js/src/*.ts)
	@cd publisher-js && npm run --silent build -- --log-level error

oldest: $(OLDEST)/.installed  ## the publisher with the oldest redis-py and pydantic that it allows, and with arq, which needs one
	$(OLDEST)/bin/python -m pytest $(OLDEST_TESTS)
OLDEST_TESTS := $(addprefix tests/,publisher/test_options.py publisher/test_client.py publisher/test_aio_client.py publisher/test_broadcast_many.py \
	publisher/test_will_retry.py publisher/test_routes.py publisher/test_odd_answers.py publisher/test_locate.py \
	contract/test_publish_cluster.py contract/test_publish_sentinel.py \
	examples/test_arq_worker.py)

example: frontend/node_modules/.installed  ## a React page beside `make run`
	@cd frontend && npm run --silent example

example-next: examples/nextjs/node_modules/.installed  ## a Next.js app beside `make run`: http://127.0.0.1:3000
	@cd examples/nextjs && NEXT_TELEMETRY_DISABLED=1 npm run --silent dev

example-next-test: examples/nextjs/node_modules/.installed $(VENV)/.dev  ## the same app: types, build, and a test in Chromium; a minute
	@tests/system-packages chromium
	cd examples/nextjs && NEXT_TELEMETRY_DISABLED=1 npm run --silent build
	cd frontend && npx --no-install vitest run --config vitest.next.config.ts

bench: $(VENV)/.dev  ## the figures of bench/README.md, in 13 minutes; some: make bench F="P1 hostile", or F=--quick
	$(BIN)/python -m bench $(F)

balancers: $(VENV)/.dev $(DEPLOY)/.installed  ## the table of docs/load-balancers.md, in half an hour; some: make balancers F="caddy --act roll"
	@tests/system-packages nginx-light haproxy
	$(BIN)/python -m tests.rolling $(F)

autobahn: $(VENV)/.dev $(AUTOBAHN)/.installed  ## the Autobahn test suite against our frames, in half a minute; needs Python 2.7
	$(BIN)/python -m tests.autobahn $(AUTOBAHN)/bin/wstest $(CASES)

chaos: $(VENV)/.dev  ## an hour of faults: docs/chaos.md; make chaos SEEDS="1 2 3" ROUNDS=50 CLIENTS=200
	@tests/system-packages redis-server
	for redis in any cluster sentinel; do \
		$(BIN)/python -m tests.chaos --redis $$redis --seeds $(SEEDS) --rounds $(ROUNDS) --clients $(CLIENTS) || exit; done
	$(BIN)/python -m tests.chaos --many-projects 10000
	@echo "The controls, which have to lose something:"
	! $(CONTROL) no-probe --only "lose from Redis"
	! $(CONTROL) no-reload --only refuse
SEEDS = $(shell $(BIN)/python -c "import random; print(*random.sample(range(10_000), 3))")
ROUNDS = 50
CLIENTS = 200
CONTROL = $(BIN)/python -m tests.chaos --seeds 1 --rounds 1 --clients 60 --patience 8 --control

deploy-check: $(VENV)/.dev $(DEPLOY)/.installed $(KINDS)/.installed  ## each file of deploy/ by its own tool: deploy/README.md
	@tests/system-packages redis-server prometheus nginx-light haproxy systemd
	$(BIN)/python -m pytest tests/deploy tests/rolling/test_configurations.py tests/rolling/test_wheels.py tests/rolling/test_host.py tests/test_timing.py

manifests: $(DEPLOY)/.installed  ## deploy/k8s/, made from the chart
	$(DEPLOY)/bin/python deploy/helm/render.py

image-check: $(VENV)/.dev  ## the Dockerfile, built by buildah and run as its user, read-only; as root on Debian; without one a BASE=directory
	@tests/system-packages buildah debootstrap bubblewrap
	$(BIN)/python -m tests.image $(if $(BASE),--base $(BASE))

dist: $(VENV)/.dev frontend/node_modules/.installed publisher-js/node_modules/.installed  ## what a release uploads: wheel, source, npm packages
	rm -rf dist
	$(BIN)/python -m hatchling build -d dist
	@cd frontend && npm run --silent build -- --log-level warn && npm pack --silent --pack-destination ../dist
	@cd publisher-js && npm run --silent build -- --log-level warn && npm pack --silent --pack-destination ../dist

sbom: $(DEPLOY)/.installed  ## dist/progress-gateway.cdx.json: what is in the image besides its base, with hashes (CycloneDX)
	@mkdir -p dist
	$(DEPLOY)/bin/cyclonedx-py requirements requirements-image.lock --pyproject pyproject.toml --output-reproducible \
		--short-PURLs -o dist/progress-gateway.cdx.json

screenshot: $(VENV)/.dev frontend/node_modules/.installed  ## docs/dashboard.png, in half a minute: the page of `make run`
	@tests/system-packages chromium
	$(BIN)/python -m tests.screenshot

grafana: $(VENV)/.dev  ## docs/grafana.png, in three minutes: the Grafana dashboard's queries over two live replicas
	@tests/system-packages prometheus chromium
	$(BIN)/python -m tests.deploy.picture

top-picture: $(VENV)/.dev  ## docs/top.svg, in a minute: `progress-gateway top` with two replicas and 1,000 clients
	$(BIN)/python -m tests.top_picture

lock: $(VENV)/.dev  ## resolve the newest allowed versions into the lock files, and the oldest into requirements-oldest.lock
	$(BIN)/uv pip compile $(LOCK_OPTIONS) --group build --extra gateway -o requirements.lock
	$(BIN)/uv pip compile $(LOCK_OPTIONS) --group build --group image --extra gateway --extra otel -o requirements-image.lock
	$(BIN)/uv pip compile $(LOCK_OPTIONS) --group build --extra dev -o requirements-dev.lock
	$(BIN)/uv pip compile $(LOCK_OPTIONS) --group oldest --resolution lowest-direct -o requirements-oldest.lock
	$(BIN)/uv pip compile $(filter-out pyproject.toml,$(LOCK_OPTIONS)) --group deploy -o requirements-deploy.lock
LOCK_OPTIONS := --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	--no-annotate pyproject.toml

clean:
	rm -rf $(VENV) frontend/node_modules publisher-js/node_modules bench/peers/node/node_modules examples/nextjs/node_modules examples/nextjs/.next $(KINDS) frontend/dist publisher-js/dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage* bench/build

# The editable install writes console scripts and metadata, so it runs again when pyproject.toml changes.
$(VENV)/.gateway: requirements.lock pyproject.toml | $(BIN)/python
	@echo "Installing the gateway into $(VENV) (once; about half a minute) ..."
	@$(PIP) --require-hashes -r requirements.lock
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements-dev.lock pyproject.toml | $(BIN)/python
	@echo "Installing the gateway and its development tools into $(VENV) (once) ..."
	@$(PIP) --require-hashes -r requirements-dev.lock
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

# The tests run from the checkout, so nothing of the project is installed here. The lock file names all packages, and
# pip cannot match arq's `redis[hiredis]` with it by itself: hence --no-deps.
$(OLDEST)/.installed: requirements-oldest.lock | $(BIN)/python
	@echo "Installing the oldest redis-py and pydantic, and arq, into $(OLDEST) (once) ..."
	@$(BIN)/python -m venv $(OLDEST)
	@$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r $<
	@touch $@

$(DEPLOY)/.installed: requirements-deploy.lock | $(BIN)/python
	@echo "Installing the tools that check deploy/ into $(DEPLOY) (once) ..."
	@$(BIN)/python -m venv $(DEPLOY)
	@$(DEPLOY)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

# The suite exists for Python 2.7 only, and the last virtualenv that can set one up is this one.
PYTHON2 ?= $(firstword $(wildcard $(HOME)/.pyenv/versions/2.7.*/bin/python2.7) python2.7)
$(AUTOBAHN)/.installed: | $(BIN)/python
	@$(PYTHON2) -c '' 2>/dev/null || { echo "Python 2.7 is needed: make autobahn PYTHON2=/path/to/python2.7"; exit 1; }
	@echo "Installing the Autobahn test suite into $(AUTOBAHN) (once) ..."
	@$(PYTHON2) -m pip install --quiet --disable-pip-version-check --target $(AUTOBAHN)/virtualenv virtualenv==20.15.1
	@PYTHONPATH=$(AUTOBAHN)/virtualenv $(PYTHON2) -m virtualenv --quiet $(AUTOBAHN)
	@$(AUTOBAHN)/bin/pip install --quiet --disable-pip-version-check autobahntestsuite==25.10.1
	@touch $@

frontend/node_modules/.installed publisher-js/node_modules/.installed $(KINDS)/.installed: %/node_modules/.installed: %/package-lock.json %/.npmrc
	@node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' 2>/dev/null || \
		{ echo "Node.js 20 or newer is needed, with npm: https://nodejs.org/en/download"; exit 1; }
	@echo "Installing what $*/package.json names (once) ..."
	@cd $* && npm ci --silent
	@touch $@

# The app installs copies of both packages as they would be published.
examples/nextjs/node_modules/.installed: examples/nextjs/package-lock.json frontend/dist/index.js publisher-js/dist/index.js
	@echo "Installing what examples/nextjs/package.json names ..."
	@cd examples/nextjs && npm ci --silent
	@touch $@

frontend/dist/index.js: frontend/node_modules/.installed $(wildcard frontend/src/*.ts frontend/src/*.tsx)
	@cd frontend && npm run --silent build -- --log-level error

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11 ..."; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
		{ rm -rf $(VENV); echo "Python's venv module is missing (Debian, Ubuntu: apt install python3-venv)"; exit 1; }
