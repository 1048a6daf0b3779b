# The front door. Every recipe is a line that you could type; `make -n TARGET` shows them.
#
# What is missing for compiling plugins is installed on the way (plugins/toolchain.sh and toolchain-javascript.sh say
# how). cargo-deny, where there is none, goes to a cache directory of ours, not among your own tools.

TOOLS := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/downbeat/tools
PLUGINS := --manifest-path plugins/Cargo.toml --target-dir plugins/target
NODE := $(or $(DOWNBEAT_NODE),$(or $(XDG_DATA_HOME),$(HOME)/.local/share)/downbeat/node)
export PATH := $(PATH):$(TOOLS)/bin:$(NODE)/bin

TARGET := $(or $(CARGO_TARGET_DIR),target)
MODEL := --manifest-path engine/journal/model/Cargo.toml --target-dir $(TARGET)/model

.PHONY: help demo test bench instructions lint toolchain toolchain-javascript
.DEFAULT_GOAL := help

help: ## Show this list
	@grep -E '^[a-z-]+:.* ## ' $(MAKEFILE_LIST) | sed 's/:.* ## /\t/' | expand -t 24

# With the tests, so that `make test` finds everything compiled: their dependencies switch on features of shared crates.
demo: toolchain ## Build the engine and its steps, then run the release workflow on a real application
	cargo build --locked --workspace --bins --tests
	$(TARGET)/debug/downbeat run workflows/release/release.toml --policy workflows/policy.toml

test: toolchain toolchain-javascript ## Run all tests: the plugins' own, the model of the journal's queue, then the engine's
	cargo test --locked $(PLUGINS) --workspace
	cargo run --locked $(MODEL)
	cargo test --locked --workspace

bench: toolchain ## Measure every figure of engine/BENCHMARKS.md (compiles everything anew, optimised: some ten minutes)
	cargo build --locked --release -p downbeat-cli -p downbeat-bench
	$(TARGET)/release/downbeat-bench

instructions: ## Count the instructions of a step, and compare them with the committed counts (needs valgrind)
	cargo build --locked --workspace --bins --tests
	$(TARGET)/debug/downbeat-bench instructions --check

lint: ## Check format, lints, licences, duplicates and sources of all workspaces
	cargo fmt --all --check
	cargo fmt --all --check --manifest-path plugins/Cargo.toml
	cargo fmt --check --manifest-path engine/journal/model/Cargo.toml
	cargo fmt --check --manifest-path fuzz/Cargo.toml
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo clippy --locked $(PLUGINS) --workspace --all-targets -- -D warnings
	cargo clippy --locked $(MODEL) -- -D warnings
	cargo deny --version 2>/dev/null || cargo install --locked --debug --no-default-features --root $(TOOLS) cargo-deny
	cargo deny --locked check -A unmatched-skip -A unnecessary-skip licenses bans sources
	cargo deny --locked --manifest-path plugins/Cargo.toml --config deny.toml check -A unmatched-skip -A unnecessary-skip licenses bans sources
	cargo deny --locked --manifest-path engine/journal/model/Cargo.toml --config deny.toml check -A unmatched-skip -A unnecessary-skip licenses bans sources
	@if [ -d "$${CARGO_HOME:-$$HOME/.cargo}/advisory-dbs" ]; then cargo deny --offline check advisories; \
	else echo "advisories: not checked, no database on this machine (\`cargo deny fetch db\` gets one)"; fi

toolchain: ## Install what compiling plugins in Rust needs, if it is missing
	plugins/toolchain.sh

toolchain-javascript: ## Install what building plugins in JavaScript needs, if it is missing
	plugins/toolchain-javascript.sh
