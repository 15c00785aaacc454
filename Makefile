# The commands to remember. Each one fetches libtorch first where this user has none (scripts/libtorch.sh).

.PHONY: help demo test check bless fuzz interop libtorch

help:
	@echo 'make demo    run the BLIP bootstrap (workflows/demo.blip) on generated scenes; report in out/demo'
	@echo 'make test    every test'
	@echo 'make check   what CI runs: test, fmt, clippy, docs'
	@echo 'make interop shards from and to the Python libraries webdataset and datasets (makes a venv in target/)'
	@echo 'make bless   rewrite the expectations of the tests that are data; read the diff before committing it'

libtorch:
	@scripts/libtorch.sh

demo: libtorch
	cargo build --release --bin blip
	target/release/blip run workflows/demo.blip --report out/demo

test: libtorch
	cargo test --workspace --no-fail-fast

check: test
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps

interop: libtorch
	scripts/interop.sh

bless: libtorch
	BLESS=1 cargo test --workspace --no-fail-fast
