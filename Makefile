PYTHON ?= python3
V := .venv/bin

.PHONY: demo tour test test-long bench check lock clean
install: .venv/.installed
.venv/.installed: requirements/dev.txt requirements/uv.txt pyproject.toml
	@echo "installing into .venv (pinned, hashes checked)"
	@test -x $(V)/python || $(PYTHON) -m venv .venv
	@$(V)/python -m pip install -q --require-hashes -r requirements/uv.txt
	@$(V)/uv pip install -q --python $(V)/python --require-hashes -r requirements/dev.txt
	@$(V)/uv pip install -q --python $(V)/python --no-deps -e .
	@touch $@

lock: ; uv pip compile -q --generate-hashes --no-emit-index-url --no-emit-find-links --universal --no-header --python-version 3.11 --extra dev pyproject.toml -o requirements/dev.txt
