# Two commands: `make demo` and `make test`. Both install what they need, locked, into .venv and nowhere else.
PYTHON ?= python3
SAMPLES ?=
ONCE ?=
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: demo test check lint clean lock

demo: $(VENV)/.run
	@exec $(RUN) -m triage demo $(if $(SAMPLES),--samples "$(SAMPLES)") $(if $(ONCE),--once)

test: $(VENV)/.dev
	OPENBLAS_NUM_THREADS=1 $(RUN) -m pytest $(PYTEST)

check: $(VENV)/.dev
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy

# the locks name packages and digests, no host: any registry or mirror that pip is set up for will do
$(VENV)/.run: requirements.lock pyproject.toml .ci/venv.sh
	@sh .ci/venv.sh $(PYTHON) $(VENV) requirements.lock
	@touch $@

$(VENV)/.dev: requirements-dev.lock pyproject.toml .ci/venv.sh
	@sh .ci/venv.sh $(PYTHON) $(VENV) requirements-dev.lock
	@touch $@ $(VENV)/.run

lock: $(VENV)/.dev
	$(RUN) -m pip install --quiet uv
	for extra in "" dev; do $(VENV)/bin/uv pip compile --quiet pyproject.toml --extra build $${extra:+--extra $$extra} \
		--python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --no-header \
		--output-file requirements$${extra:+-$$extra}.lock; done

clean:
	rm -rf $(VENV) .demo .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info
