// Package e2e tests what people install: it boots a systemd with a PostgreSQL,
// installs the packages with apt and dnf, and does what an administrator does.
//
// The machine that is booted is this one. Its root file system is the lower layer
// of an overlay whose upper layer, in memory, takes all writes; systemd is PID 1
// in namespaces of its own, without a network. So no image has to be had, and
// nothing is left behind. It is a test bed and no jail: root in there sees all
// files of the host.
//
// It needs root with CAP_SYS_ADMIN, cgroup2, and the Debian packages that the
// Makefile names. Where something is missing the test says so and is skipped, or
// fails if MESSAGE_CLEANUP_E2E=required. MESSAGE_CLEANUP_E2E_ROOT names another
// root file system to boot: `make e2e-matrix` has one for each Debian release.
package e2e
