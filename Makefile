# The targets are scripts in dev/; each says at its top what it does and may be run by itself.

.PHONY: help demo test faults up down clean-instance lint bench sim model
.DEFAULT_GOAL := help

export GPUS WORKERS

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## a real training job, from submit to exit, on private services that are removed afterwards
	@dev/demo

test: ## every test of every crate, with real services
	@dev/test

faults: ## random faults on services that die: N=20 schedules, or SEED=7 again
	@BERTH_FAULTS_N='$(N)' BERTH_FAULTS_SEED='$(SEED)' NEXTEST_PROFILE=faults dev/test -p berth-tests --test faults --no-capture

sim: ## the fault simulator: SEEDS=2000, or SEED=7 again with its trace
	@cargo run -q -p berth-sim -- $(if $(SEED),--seed '$(SEED)',--seeds '$(or $(SEEDS),2000)')

model: ## the model checker's larger worlds, minutes each; the small ones are among the tests
	@cargo test -q -p berth-model --test worlds -- --ignored --nocapture --test-threads=1

up: ## services, scheduler and workers in the background (GPUS=4xA100-80GB WORKERS=1)
	@dev/up

down: ## stop what make up started; its data stays
	@dev/down

clean-instance: ## stop what make up started and delete its data
	@dev/down --remove

lint: ## rustfmt, clippy, shellcheck, cargo-deny
	@dev/lint

bench: ## the measurements, a table and target/bench/*.json; about six minutes after the build
	@dev/bench
