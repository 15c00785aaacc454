# The commands to remember. Each one fetches libtorch first where this user has none (scripts/libtorch.sh).

.PHONY: help demo test check bless fuzz soak interop parity libtorch bench-engine

help:
	@echo 'make demo    run the BLIP bootstrap (workflows/demo.blip) on generated scenes; report in out/demo'
	@echo 'make test    every test'
	@echo 'make soak    what takes longer: more rounds of killed processes, failing disks, random graphs'
	@echo 'make fuzz    the language against texts of a fuzzer, for FUZZ_SECONDS=180 (installs cargo-fuzz in target/)'
	@echo 'make check   what CI runs: test, fmt, clippy, docs'
	@echo 'make interop shards from and to the Python libraries webdataset and datasets (makes a venv in target/)'
	@echo 'make parity  compare with transformers on new random models, SEED=N for the same ones; fetches 0.6 GB once'
	@echo 'make bless   rewrite the expectations of the tests that are data; read the diff before committing it'
	@echo 'make bench-engine  what the engine itself costs, beside ninja, make, snakemake and dvc'

libtorch:
	@scripts/libtorch.sh

demo: libtorch
	cargo build --release --bin blip
	target/release/blip run workflows/demo.blip --report out/demo

test: libtorch
	cargo test --workspace --no-fail-fast

# Each round has another seed, which a failure names.
soak: libtorch
	BLIP_SOAK=1 cargo test --release -p blip-engine --no-fail-fast

# Texts nobody would write, against what has to hold for every text. FUZZ_SECONDS says for how long.
FUZZ_SECONDS ?= 180
fuzz:
	scripts/fuzz.sh $(FUZZ_SECONDS)

check: test
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps

interop: libtorch
	scripts/interop.sh

bless: libtorch
	BLESS=1 cargo test --workspace --no-fail-fast

# The tests of parity on fixtures made anew; the table is on standard output. See tests/parity/README.md.
SEED ?= $(shell date +%s)
PARITY := $(CURDIR)/out/parity
parity: libtorch
	scripts/parity-venv.sh
	@echo 'parity: SEED=$(SEED)'
	.venv/bin/python tests/parity/make.py $(PARITY) --seed $(SEED) --live
	BLIP_PARITY=$(PARITY) cargo test -q -p blip-data -p blip-model --test parity -- --nocapture --test-threads=1
	cargo run -q -p blip-model --example export_for_parity -- $(PARITY)
	.venv/bin/python tests/parity/exported.py $(PARITY)

# ninja, make, snakemake and dvc are measured where they are installed. FULL=--full goes up to 100,000 stages.
bench-engine:
	cargo bench -p blip-engine --bench engine -- $(FULL)
