PYTHON ?= python3
V := .venv/bin
WORKERS ?= 2
LOCK := $(V)/uv pip compile -q --generate-hashes --no-emit-index-url --no-emit-find-links --universal --no-header --python-version 3.11 pyproject.toml

.PHONY: demo tour test test-postgresql test-long bench bench-tools check docs install lock clean

demo: install ## a real Tryton behind the gate, on loopback; Ctrl-C removes it
	@$(V)/ostiary demo

tour: install ## walks the story against the running system; exits 0 only if all of it holds
	@$(V)/python -m tools.tour

test: install check ## everything, real Tryton, Envoy and PostgreSQL included
	@$(V)/python -m pytest -n $(WORKERS) --dist loadgroup

test-postgresql: install ## what `make test` runs on SQLite alone, a running installation above all, on a real PostgreSQL
	@OSTIARY_TEST_STORE=postgresql $(V)/python -m pytest -n $(WORKERS) --dist loadgroup -m "chosen_store and not long"

test-long: install ## the same properties, for minutes
	@$(V)/python -m pytest -m long

bench: install bench-tools ## make bench [ONLY=gate] [OUT=file.json]
	@$(V)/python -m bench $(if $(ONLY),--only $(ONLY)) $(if $(OUT),--out $(OUT))

bench-tools: install ## wrk and haproxy, from Debian where we are root there
	@$(V)/python -m bench.tools

check: install ## style, types, walls
	@$(V)/ruff format --check -q src tests tools bench
	@$(V)/ruff check -q src tests tools bench
	@$(V)/mypy
	@$(V)/lint-imports --no-cache > .import-walls.log || (cat .import-walls.log; exit 1)

docs: install ## regenerates what docs/reference holds
	@$(V)/python -m tools.reference

install: .venv/.installed
.venv/.installed: requirements/dev.txt requirements/uv.txt pyproject.toml
	@echo "installing into .venv (pinned, hashes checked)"
	@test -x $(V)/python || $(PYTHON) -m venv .venv
	@$(V)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/uv.txt
	@$(V)/uv pip install -q --python $(V)/python --require-hashes -r requirements/dev.txt
	@$(V)/uv pip install -q --python $(V)/python --no-deps -e .
	@touch $@

lock: install ## pins what is developed with, and of that what a plain installation needs
	@$(LOCK) --extra dev -o requirements/dev.txt
	@$(LOCK) -c requirements/dev.txt -o requirements/run.txt

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import-walls.log
