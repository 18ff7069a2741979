# KubeNetProbe: everything a person or CI calls. `make help` lists it.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

export PATH := $(CURDIR)/node_modules/.bin:$(PATH)

BPF_SOURCES := $(wildcard bpf/*.bpf.c)
BPF_OBJECTS := $(BPF_SOURCES:bpf/%.bpf.c=build/bpf/%.bpf.o)
BPF_HEADERS := $(wildcard bpf/include/*.h)
# Where <bpf/bpf_helpers.h> lives: the vendored libbpf, so that no distribution's version matters.
BPF_CFLAGS := -g -O2 -Wall -Werror -target bpf -mcpu=v3 -Ibpf/include -isystem native/vendor/include

.PHONY: help deps build bpf native ts run test lint bench guests clean
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

deps: ## Install what is missing (apt, npm)
	@scripts/bootstrap

build: deps native bpf ts ## Build the addon, the BPF programs and the agent

native:
	@$(MAKE) -C native

bpf: $(BPF_OBJECTS)
build/bpf/%.bpf.o: bpf/%.bpf.c $(BPF_HEADERS)
	@mkdir -p $(@D)
	clang $(BPF_CFLAGS) -c $< -o $@.tmp
	llvm-strip -g $@.tmp && mv $@.tmp $@

ts:
	tsc -p tsconfig.build.json

run: build ## Run the agent on this host (needs root)
	bin/kubenetprobe run

test: build ## Run every test
	vitest run

lint: ## Format, lint and architecture checks
	biome check .
	tsc --noEmit

clean: ## Remove what was built
	rm -rf build dist
