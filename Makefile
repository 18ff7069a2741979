# KubeNetProbe: everything that a person or CI calls. `make help` lists it.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# build/tools/bin holds what scripts/bootstrap had to find or fetch itself.
export PATH := $(CURDIR)/node_modules/.bin:$(CURDIR)/build/tools/bin:$(PATH)

# ---- BPF programs: -target bpf with headers of this tree only, so that neither the build machine's kernel nor its
# distribution matters. BPF_ARCH names the machine that will run them (x86 or arm64: registers in uprobes).
BPF_ARCH ?= $(if $(filter aarch64 arm64,$(shell uname -m)),arm64,x86)
BPF_SOURCES := $(wildcard bpf/*.bpf.c bpf/*/*.bpf.c bpf/*/*/*.bpf.c)
# Objects lie side by side, whatever folder their source is in.
BPF_OBJECTS := $(patsubst %.bpf.c,build/bpf/%.bpf.o,$(notdir $(BPF_SOURCES)))
vpath %.bpf.c $(sort $(dir $(BPF_SOURCES)))
BPF_CFLAGS := -g -O2 -Wall -Werror -target bpf -mcpu=v3 -D__TARGET_ARCH_$(BPF_ARCH) \
  -nostdinc -Ibpf -Ibpf/include -isystem native/vendor/include
TS_SOURCES := $(shell find exporter -name '*.ts' 2>/dev/null)

.PHONY: docs bpf-flags help deps test-deps build native bpf ts demo run test test-full lint format bench guests clean
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

deps:
	@scripts/bootstrap build
test-deps:
	@scripts/bootstrap test

build: native bpf ts build/THIRD_PARTY_NOTICES ## Build the native addon, the BPF programs and the agent

native: deps
	@$(MAKE) -C native all relink-parts

bpf: deps $(BPF_OBJECTS)
$(BPF_OBJECTS): build/bpf/%.bpf.o: %.bpf.c Makefile | deps
	@mkdir -p $(@D)
	clang $(BPF_CFLAGS) -MMD -MP -MF build/bpf/$*.d -MT $@ -c $< -o $@.tmp
	@llvm-strip -g $@.tmp && mv $@.tmp $@
-include $(BPF_OBJECTS:.bpf.o=.d)

ts: dist/.built
# dist/ has the modules one by one, for tests and benches; dist/agent is what runs: bundled, it starts faster and takes
# 13 MB less. Every file of it lies two levels deep, as in exporter/, so that paths relative to a module hold.
dist/.built: $(TS_SOURCES) tsconfig.json tsconfig.build.json package-lock.json Makefile | deps
	tsc -p tsconfig.build.json
	@rm -rf dist/agent
	esbuild exporter/cli/main.ts --bundle --splitting --format=esm --platform=node --target=node24 --outdir=dist/agent \
	  --metafile=dist/bundle.json --sourcemap --log-level=warning \
	  --banner:js="import { createRequire as createRequireOfBundle } from 'node:module'; const require = createRequireOfBundle(import.meta.url);"
	@touch $@

# What the agent contains of others, and under which licences.
build/THIRD_PARTY_NOTICES: dist/.built scripts/notices.ts scripts/third_party.ts native/vendor/sources.json $(wildcard native/licences/*)
	@node scripts/notices.ts dist/bundle.json >$@.tmp && mv $@.tmp $@

bpf-flags: # how the BPF programs are compiled, for tests
	@echo $(BPF_CFLAGS)

demo: test-deps build ## A shop with faults on a switch, the agent, Prometheus and Alertmanager, all on this host; needs root
	@scripts/as-root node test/demo/main.ts

run: build ## Build, then run the agent on this host; needs root. Options: make run ARGS='--listen 127.0.0.1:9464'
	@scripts/as-root bin/kubenetprobe run $(ARGS)

test: test-deps build ## Build, then run every check and test; ends with a summary. One stage: make test STAGES=unit
	@node scripts/test.ts $(STAGES)

test-full: test-deps build ## As test, with whole loads (a million requests), ten minutes of fuzzing, full guests
	@KNPTEST_FULL=1 node scripts/test.ts lint unit kernel e2e guests-full

lint: deps ## Formatting, lint, types, unused code, and the rules of the architecture
	@node scripts/test.ts lint

docs: deps ## Write the pages and files that are generated: metrics, configuration, chart
	@node exporter/cli/main.ts metrics >docs/metrics.md
	@node exporter/cli/main.ts config docs >docs/configuration.md
	@node charts/generate.ts

format: deps ## Rewrite the files as the formatter wants them
	@biome check --write .

bench: test-deps build ## Measure the agent's cost. One bench: make bench ARGS='--only iperf3 --json'
	@scripts/as-root node test/load/run.ts $(ARGS)

guests: test-deps build ## The kernel tests in other kernels under QEMU. KERNELS="6.1 7", KNPTEST_GUEST_TESTS=test/kernel/tcp
	@node scripts/test.ts guests-full

clean: ## Remove what was built
	rm -rf build dist
