# What each target does: make help
PREFIX  ?= /usr/local
DESTDIR ?=
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -s -w -buildid= -X main.version=$(VERSION)
SCRIPTS := .ci/need .ci/run packaging/build packaging/lint packaging/notices packaging/repo packaging/scripts/* \
	internal/e2e/matrix internal/pgtest/fetch internal/pgtest/matrix
FUZZTIME ?= 60s
PYTHON  := /usr/lib/python3/dist-packages
# What the end-to-end tests start, and what brings it. No more than packages of
# Debian; elsewhere they say what they lack.
E2E_NEEDS := pg_createcluster:postgresql systemctl:systemd-sysv dbus-daemon:dbus curl:curl gpg:gnupg \
	apt-ftparchive:apt-utils createrepo_c:createrepo-c rpmsign:rpm dnf:dnf

help: ## show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build the static binary bin/message-cleanup
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)' -o bin/message-cleanup ./cmd/message-cleanup

demo: build ## delete expired messages from a throw-away PostgreSQL, which it installs if it is missing
	@.ci/need initdb:postgresql
	@go run ./internal/pgtest/demo bin/message-cleanup

test: ## run all tests, on throw-away PostgreSQL servers; installs what is missing
	@.ci/need initdb:postgresql pgbouncer:pgbouncer systemd-analyze:systemd script:bsdutils promtool:prometheus
	go test -timeout 10m -parallel 4 $$(go list ./... | grep -v /internal/e2e)
	@$(MAKE) --no-print-directory e2e

test-matrix: ## the tests that speak to a server, on PostgreSQL 13 to 18, whose binaries npm gets
	@.ci/need pgbouncer:pgbouncer script:bsdutils
	internal/pgtest/matrix

e2e: ## boot a systemd, install the packages with apt and dnf, and use them; part of test, as root
	@[ "$$(id -u)" -ne 0 ] || .ci/need $(E2E_NEEDS)
	go test -timeout 10m -count=1 -v ./internal/e2e/...

e2e-matrix: ## the Debian package on Debian 11, 12 and 13, in root file systems that mmdebstrap makes
	@.ci/need mmdebstrap:mmdebstrap $(E2E_NEEDS)
	internal/e2e/matrix

lint: ## check format, vet, staticcheck, shellcheck and that go.mod is tidy; installs what is missing
	@.ci/need shellcheck:shellcheck
	@test -z "$$(gofmt -l .)" || { echo 'not gofmt-ed:'; gofmt -l .; exit 1; }
	go vet ./...
	go tool -modfile=.ci/tools/go.mod staticcheck ./...
	shellcheck $(SCRIPTS)
	go mod tidy -diff

fuzz: ## run each fuzz target for a minute (FUZZTIME=60s)
	@.ci/need initdb:postgresql
	@for package in ./internal/config ./internal/postgres ./internal/systemd; do \
		for target in $$(go test -list '^Fuzz' $$package | grep '^Fuzz'); do \
			go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$package || exit 1; \
		done; \
	done

vulncheck: ## look for known vulnerabilities in what the program calls; asks vuln.go.dev
	go tool -modfile=.ci/tools/go.mod govulncheck ./...

bench: ## measure against other ways and write docs/benchmarks.md (smaller: BENCH_ROWS=200000 BENCH_PARTS=grid)
	@.ci/need initdb:postgresql pgbench:postgresql \
		$(PYTHON)/sqlalchemy:python3-sqlalchemy $(PYTHON)/psycopg2:python3-psycopg2
	@major=$$(ls /usr/lib/postgresql | sort -n | tail -n 1); \
		.ci/need "/usr/share/postgresql/$$major/extension/pg_partman.control:postgresql-$$major-partman" || \
		echo 'Going on without pg_partman.'
	go run ./internal/bench

soak: build ## let faults of all kinds happen to runs on a table in use, for SOAK=30m, and check every run
	@.ci/need initdb:postgresql
	go run ./internal/soak bin/message-cleanup

packages: ## build deb and rpm for amd64 and arm64 into dist/, with SHA256SUMS
	packaging/build dist

lint-packages: ## lintian and rpmlint on what is in dist/; installs them if they are missing
	@.ci/need lintian:lintian rpmlint:rpmlint cpio:cpio
	packaging/lint dist

repo: ## add what is in dist/ to dist/repo, signed by gpg's SIGN_KEY, for apt and dnf (URL=https://...)
	@.ci/need gpg:gnupg apt-ftparchive:apt-utils createrepo_c:createrepo-c rpmsign:rpm
	packaging/repo dist dist/repo "$(SIGN_KEY)"

install: build ## install binary, units, user and configuration (PREFIX=/usr/local DESTDIR=)
	install -D -m 0755 bin/message-cleanup $(DESTDIR)$(PREFIX)/bin/message-cleanup
	install -d $(DESTDIR)$(PREFIX)/lib/systemd/system
	sed 's|/usr/bin/message-cleanup|$(PREFIX)/bin/message-cleanup|' systemd/message-cleanup.service \
		> $(DESTDIR)$(PREFIX)/lib/systemd/system/message-cleanup.service
	install -m 0644 systemd/message-cleanup.timer systemd/system-messagecleanup.slice $(DESTDIR)$(PREFIX)/lib/systemd/system/
	cd $(DESTDIR)$(PREFIX)/lib/systemd/system && for kind in service timer; do \
		sed -f $(CURDIR)/systemd/instance.sed message-cleanup.$$kind > message-cleanup@.$$kind; done
	install -D -m 0644 systemd/message-cleanup.catalog $(DESTDIR)$(PREFIX)/lib/systemd/catalog/message-cleanup.catalog
	install -D -m 0644 packaging/message-cleanup.sysusers $(DESTDIR)$(PREFIX)/lib/sysusers.d/message-cleanup.conf
	test -e $(DESTDIR)/etc/message-cleanup/config.yaml || \
		install -D -m 0644 packaging/config.yaml $(DESTDIR)/etc/message-cleanup/config.yaml

uninstall: ## remove what install installed, but keep the configuration
	rm -f $(DESTDIR)$(PREFIX)/bin/message-cleanup \
		$(DESTDIR)$(PREFIX)/lib/systemd/system/message-cleanup.service \
		$(DESTDIR)$(PREFIX)/lib/systemd/system/message-cleanup.timer \
		$(DESTDIR)$(PREFIX)/lib/systemd/system/message-cleanup@.service \
		$(DESTDIR)$(PREFIX)/lib/systemd/system/message-cleanup@.timer \
		$(DESTDIR)$(PREFIX)/lib/systemd/system/system-messagecleanup.slice \
		$(DESTDIR)$(PREFIX)/lib/systemd/catalog/message-cleanup.catalog \
		$(DESTDIR)$(PREFIX)/lib/sysusers.d/message-cleanup.conf

clean: ## remove what build built
	rm -rf bin dist

.PHONY: help build demo test test-matrix e2e e2e-matrix lint fuzz vulncheck bench soak packages lint-packages repo install uninstall clean
