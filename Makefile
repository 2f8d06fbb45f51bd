# berth: a Docker Engine. `make run` and `make test` do all their own set-up on a bare Debian 12.

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := build

RUN     := $(CURDIR)/.run
VERSION ?= $(shell git describe --always --dirty 2>/dev/null || echo unknown)
X       := github.com/berthd/berth/cmd/internal/version
LDFLAGS := -s -w -X $(X).Commit=$(VERSION)

.PHONY: build run stop test lint unit integration conformance reference-conformance inside crash policies networks bench clean setup-build setup-test

build: setup-build ## the three programs, all static
	mkdir -p bin
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/berthd ./cmd/berthd
	CGO_ENABLED=1 go build -trimpath -tags 'seccomp netgo osusergo runc_nocriu' -ldflags '$(LDFLAGS) -linkmode external -extldflags "-static"' -o bin/berth-shim ./cmd/berth-shim
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/berth-conformance ./cmd/berth-conformance

setup-build:
	@hack/setup build

setup-test:
	@hack/setup test

run: ## build, start a private daemon, run a container, publish a port
	@hack/setup run
	@$(MAKE) --no-print-directory build
	@hack/run start $(RUN)

stop: ## end what `make run` started and leave nothing behind
	@hack/run stop $(RUN)

test: setup-test build unit integration reference-conformance conformance inside crash policies networks ## everything
	@echo "all tests passed"

lint: setup-build
	@hack/lint

unit:
	go test ./...
	go test -tags 'seccomp netgo osusergo runc_nocriu' ./engine/shim/... ./cmd/berth-shim/...

integration: build ## as root: real shims, mounts and rules; a crash at every step
	go test -tags root -count=1 ./engine/crashtest

conformance: build
	hack/conformance-run berth $(RUN)/test

reference-conformance: build
	hack/conformance-run reference $(RUN)/test

inside: build ## what a container sees, on berth and on dockerd
	hack/diff-run $(RUN)/inside

crash: build
	hack/crash $(RUN)/crash

policies: build
	hack/policies $(RUN)/policies

networks: build ## published ports from a second host, foreign rules, a killed daemon
	hack/networks $(RUN)/networks

bench: setup-test build ## berth and dockerd side by side, ratios
	hack/bench/run $(RUN)/bench

clean: stop
	rm -rf bin $(RUN)
