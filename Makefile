# The commands to remember. Each one fetches libtorch first where this user has none (scripts/libtorch.sh).

.PHONY: help demo test lint check deny bless fuzz soak interop parity peers lock dist libtorch bench-engine bench-grammar bench-data bench-model

help:
	@echo 'make demo    run the BLIP bootstrap (workflows/demo.blip) on generated scenes; report in out/demo'
	@echo 'make test    every test'
	@echo 'make soak    what takes longer: more rounds of killed processes, failing disks, random graphs'
	@echo 'make fuzz    the language against texts of a fuzzer, for FUZZ_SECONDS=180 (installs cargo-fuzz in target/)'
	@echo 'make check   what CI runs: test, then lint: fmt, clippy, docs, scripts, and deny if it is installed'
	@echo 'make deny    licences, sources and known vulnerabilities of dependencies (installs cargo-deny in target/)'
	@echo 'make dist    a tarball for machines without a compiler, in target/dist'
	@echo 'make interop shards and graphs from and to the programs of others (see make peers)'
	@echo 'make parity  compare with transformers on new random models, SEED=N for the same ones; fetches 0.6 GB once'
	@echo 'make peers   an environment in target/peers for everything that blip is compared with; fetches 2 GB once'
	@echo 'make lock    pin again what scripts fetch from PyPI, after a change of a .in file'
	@echo 'make bless   rewrite the expectations of the tests that are data; read the diff before committing it'
	@echo 'make bench-engine   what the engine itself costs, beside ninja, make, snakemake and dvc'
	@echo 'make bench-grammar  what parsing, checking and formatting cost, beside a raw parse and a TOML parser'
	@echo 'make bench-data     decoding, resizing and reading shards, beside decoders alone, Pillow and webdataset'
	@echo 'make bench-model    encoding, captioning and training steps, beside the speed of matrix products'

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

# Generated texts against the invariants of parser, checker and formatter, for FUZZ_SECONDS.
FUZZ_SECONDS ?= 180
fuzz:
	scripts/fuzz.sh $(FUZZ_SECONDS)

# .ci/run is these two.
check: test
	@$(MAKE) --no-print-directory lint

lint: libtorch
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps
	python3 -m unittest discover --start-directory scripts/tests
	scripts/deny.sh --if-installed

deny:
	scripts/deny.sh

dist: libtorch
	scripts/dist.sh

interop: libtorch
	scripts/interop.sh

# Each peer has an environment of its own: their dependencies do not agree with each other.
peers:
	@set -e; for name in $$(scripts/peer.sh --list); do scripts/peer.sh "$$name"; done

lock:
	scripts/lock.py

bless: libtorch
	BLESS=1 cargo test --workspace --no-fail-fast

# The tests of parity on new fixtures; the table is on standard output. See tests/parity/README.md.
SEED ?= $(shell date +%s)
PARITY := $(CURDIR)/out/parity
parity: libtorch
	@echo 'parity: SEED=$(SEED)'
	python=$$(scripts/peer.sh transformers) && \
	$$python tests/parity/make.py $(PARITY) --seed $(SEED) --live && \
	BLIP_PARITY=$(PARITY) cargo test -q --workspace --test parity -- --nocapture --test-threads=1 && \
	cargo build -q --workspace --examples && \
	target/debug/examples/export_for_parity $(PARITY) && \
	$$python tests/parity/exported.py $(PARITY)

# ninja and make are measured where they are installed, snakemake and dvc where `make peers` has made them or they are
# installed. FULL=--full goes up to 100,000 stages.
PEERS := $(CURDIR)/target/peers
bench-engine:
	PATH="$(PEERS)/snakemake/bin:$(PEERS)/dvc/bin:$$PATH" cargo bench -p blip-engine --bench engine -- $(FULL)

bench-grammar:
	cargo bench -p blip-grammar --bench grammar

# Pillow and webdataset are measured where `make peers` has made them or they are installed.
bench-data:
	cargo bench -p blip-data --bench data

# FULL=--full measures ViT-B and BERT-base too.
bench-model: libtorch
	cargo bench -p blip-model --bench model -- $(FULL)
