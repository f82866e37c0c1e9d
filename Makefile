# What each target does: make help
PREFIX  ?= /usr/local
DESTDIR ?=
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -s -w -buildid= -X main.version=$(VERSION)
SCRIPTS := .ci/need .ci/run
PYTHON  := /usr/lib/python3/dist-packages

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build the static binary bin/message-cleanup
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)' -o bin/message-cleanup ./cmd/message-cleanup

demo: build ## delete expired messages from a throw-away PostgreSQL, which it installs if it is missing
	@.ci/need initdb:postgresql
	@go run ./internal/pgtest/demo bin/message-cleanup

test: ## run all tests, on throw-away PostgreSQL servers; installs what is missing
	@.ci/need initdb:postgresql pgbouncer:pgbouncer systemd-analyze:systemd script:bsdutils
	go test -timeout 10m ./...

lint: ## check format, vet, staticcheck, shellcheck and that go.mod is tidy; installs what is missing
	@.ci/need shellcheck:shellcheck
	@test -z "$$(gofmt -l .)" || { echo 'not gofmt-ed:'; gofmt -l .; exit 1; }
	go vet ./...
	go tool -modfile=.ci/tools/go.mod staticcheck ./...
	shellcheck $(SCRIPTS)
	go mod tidy -diff

bench: ## measure against other ways and write docs/benchmarks.md (smaller: BENCH_ROWS=200000 BENCH_PARTS=grid)
	@.ci/need initdb:postgresql pgbench:postgresql \
		$(PYTHON)/sqlalchemy:python3-sqlalchemy $(PYTHON)/psycopg2:python3-psycopg2
	@major=$$(ls /usr/lib/postgresql | sort -n | tail -n 1); \
		.ci/need "/usr/share/postgresql/$$major/extension/pg_partman.control:postgresql-$$major-partman" || \
		echo 'Going on without pg_partman.'
	go run ./internal/bench

install: build ## install binary, units, user and configuration (PREFIX=/usr/local DESTDIR=)
	install -D -m 0755 bin/message-cleanup $(DESTDIR)$(PREFIX)/bin/message-cleanup
	install -d $(DESTDIR)$(PREFIX)/lib/systemd/system
	sed 's|/usr/bin/message-cleanup|$(PREFIX)/bin/message-cleanup|' systemd/message-cleanup.service \
		> $(DESTDIR)$(PREFIX)/lib/systemd/system/message-cleanup.service
	install -m 0644 systemd/message-cleanup.timer $(DESTDIR)$(PREFIX)/lib/systemd/system/
	install -D -m 0644 packaging/message-cleanup.sysusers $(DESTDIR)$(PREFIX)/lib/sysusers.d/message-cleanup.conf
	test -e $(DESTDIR)/etc/message-cleanup/config.yaml || \
		install -D -m 0644 packaging/config.yaml $(DESTDIR)/etc/message-cleanup/config.yaml

uninstall: ## remove what install installed, but keep the configuration
	rm -f $(DESTDIR)$(PREFIX)/bin/message-cleanup \
		$(DESTDIR)$(PREFIX)/lib/systemd/system/message-cleanup.service \
		$(DESTDIR)$(PREFIX)/lib/systemd/system/message-cleanup.timer \
		$(DESTDIR)$(PREFIX)/lib/sysusers.d/message-cleanup.conf

clean: ## remove what build built
	rm -rf bin

.PHONY: help build demo test lint bench install uninstall clean
