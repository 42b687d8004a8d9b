# Two commands that set up all they need: `make demo` and `make test`.
PYTHON = .venv/bin/python

.PHONY: demo test lint perf clean

demo: .venv/run.stamp            ## evaluate a real policy on a real simulator
	$(PYTHON) -m vlaeval_hpc $(ARGS)

test: .venv/test.stamp lint      ## every check and every test, on a real Slurm and Apptainer that root brings up
	$(PYTHON) -m pytest $(ARGS)

lint: .venv/test.stamp
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/vermin --quiet --no-tips --target=3.8- --violations \
	  vlaeval_hpc/run vlaeval_hpc/wire vlaeval_hpc/worker vlaeval_hpc/benchmarks \
	  vlaeval_hpc/errors.py vlaeval_hpc/bootstrap.py vlaeval_hpc/__init__.py

perf: .venv/test.stamp           ## speed against vla-eval 0.8.0, in one run: ratios, their spreads, what is promised
	@status=0; for script in wire batching libero; do \
	  echo "perf/$$script.py"; PYTHONPATH=. $(PYTHON) perf/$$script.py $(ARGS) || status=1; \
	done; exit $$status

.venv/run.stamp: setup.cfg scripts/setup
	scripts/setup run

.venv/test.stamp: setup.cfg scripts/setup
	scripts/setup test

clean:
	rm -rf .venv
