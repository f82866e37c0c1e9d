# What each target does: make help
SHELL := /bin/bash
PREFIX ?= /usr
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -s -w -buildid= -X main.version=$(VERSION)

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build the static binary bin/message-cleanup
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)' -o bin/message-cleanup ./cmd/message-cleanup

demo: postgresql build ## delete expired messages from a throw-away PostgreSQL (installs it if it is missing)
	go run ./internal/pgtest/demo bin/message-cleanup

test: postgresql ## run all tests, on throw-away PostgreSQL servers
	go test -timeout 10m ./...

bench: postgresql ## measure against one big DELETE (BENCH_ROWS=2000000)
	go run ./internal/bench

.PHONY: help build demo test bench
