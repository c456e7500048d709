# make run sets everything up and serves; make test checks everything. Both may be run again at any time.

# The system's own Python where it will do: distributions build theirs with profile-guided optimisation, which makes a
# call a fifth cheaper than a Python that was built as its sources come.
PYTHON ?= $(shell /usr/bin/python3 -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && \
	echo /usr/bin/python3 || echo python3)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input -q
PACKAGES := config sip_trunk media agent_presence kb_portal pbx
VENDOR := kb_portal/static/vendor
SOURCES := $(PACKAGES) tests tools $(wildcard bench)
# WARMLINE_COMPILE=1 has mypyc compile the SIP protocol and what drives it, for a third less of its cost, which is a tenth of a call.
BUILD := $(if $(filter 1,$(WARMLINE_COMPILE)),compiled,plain)
COMPILED := sip_trunk/*.so sip_trunk/sip/*.so agent_presence/*.so *__mypyc*.so

.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: run setup test check bench lint format migration clean

run: setup
	@exec $(BIN)/warmline serve

# What is done is marked inside the folder it made, so that deleting the folder makes it anew.
setup: .venv/.made .venv/.server .make/voice $(VENDOR)/jssip.js $(VENDOR)/htmx.js .make/$(BUILD)

.venv/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "Warmline needs Python 3.11 or later as $(PYTHON); another can be named: make PYTHON=python3.12 run" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		tools/debian.sh "/usr/lib/python3.*/ensurepip/__init__.py:python3-venv"
	@echo "Making the virtual environment .venv"
	@$(PYTHON) -m venv .venv
	@touch $@

.venv/.server: requirements/build.lock requirements/server.lock setup.py | .venv/.made
	@echo "Installing the server's Python packages (a minute or two, the first time)"
	@$(PIP) install --require-hashes -r requirements/build.lock -r requirements/server.lock
	@WARMLINE_COMPILE=0 $(PIP) install --no-deps --no-build-isolation --config-settings editable_mode=compat -e .
	@touch $@

.venv/.develop: requirements/develop.lock .venv/.server
	@echo "Installing what the tests need from Python"
	@$(PIP) install --require-hashes -r requirements/develop.lock
	@touch $@

node_modules/.fetched: package.json package-lock.json
	@tools/debian.sh node:nodejs npm:npm
	@echo "Fetching JsSIP and htmx"
	@npm ci --ignore-scripts --no-audit --no-fund --no-update-notifier --loglevel=error
	@touch $@

$(VENDOR)/jssip.js: node_modules/.fetched
	@echo "Bundling them for the browser"
	@mkdir -p $(VENDOR)
	@node_modules/.bin/esbuild node_modules/jssip/lib/JsSIP.js --bundle --format=iife --global-name=JsSIP \
		--minify --target=es2020 --legal-comments=inline --log-level=warning --outfile=$@

$(VENDOR)/htmx.js: node_modules/.fetched
	@mkdir -p $(VENDOR)
	@cp node_modules/htmx.org/dist/htmx.min.js $@

.make/voice:
	@mkdir -p .make
	@tools/debian.sh --optional "spoken prompts become tones" espeak-ng:espeak-ng
	@touch $@

# A compiled module hides its source: each of these two marks takes the other away.
.make/compiled: setup.py $(wildcard sip_trunk/*.py sip_trunk/sip/*.py agent_presence/*.py) | .venv/.develop
	@mkdir -p .make
	@rm -f .make/plain $(COMPILED)
	@tools/debian.sh cc:gcc
	@test -e "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" || \
		tools/debian.sh ":python3-dev"
	@echo "Compiling the SIP protocol and what drives it (two minutes)"
	@$(BIN)/python setup.py -q build_ext --inplace
	@touch $@

.make/plain:
	@mkdir -p .make
	@rm -f .make/compiled $(COMPILED)
	@touch $@

.make/peers: Makefile
	@mkdir -p .make
	@tools/debian.sh baresip:baresip-core ":baresip-ffmpeg" sipp:sip-tester \
		chromium:chromium redis-server:redis-server espeak-ng:espeak-ng \
		"/usr/lib/postgresql/*/bin/postgres:postgresql" \
		kamailio:kamailio ":kamailio-tls-modules" rtpengine:rtpengine-daemon \
		":fonts-dejavu-core"
	@touch $@

test: setup .venv/.develop .make/peers check
	@# Most tests wait for phones: three at a time keep two cores busy.
	@$(BIN)/python -m pytest -n 3 --dist loadfile

lint: setup .venv/.develop check

check:
	@echo "Checking style and types"
	@$(BIN)/ruff check $(SOURCES)
	@$(BIN)/ruff format --check $(SOURCES)
	@$(BIN)/mypy $(PACKAGES) tests tools $(wildcard bench)

format: .venv/.develop
	@$(BIN)/ruff check --fix $(SOURCES)
	@$(BIN)/ruff format $(SOURCES)

bench: setup .venv/.develop .make/peers
	@$(BIN)/python -m bench

migration: .venv/.develop
	@$(BIN)/python -m tools.migration $(MESSAGE)
	@$(BIN)/ruff format -q config/migrations
	@$(BIN)/ruff check -q --fix config/migrations

# Data in var/ stays.
clean:
	rm -rf .venv .make $(COMPILED) node_modules $(VENDOR) build warmline.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
