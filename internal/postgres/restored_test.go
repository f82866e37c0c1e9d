package postgres_test

import (
	"errors"
	"testing"

	"message-cleanup/internal/cleanup"
	"message-cleanup/internal/pgtest"
)

func TestARestoredBackupIsHeldAndAPromotedStandbyIsNot(t *testing.T) {
	t.Parallel()
	primary := pgtest.Private(t, pgtest.Options{})
	url := primary.URL("postgres")
	table(t, pgtest.Conn(t, url), 10)
	s := newSetup(t, url)
	s.ledger = true
	want(t, s.run(t), cleanup.OutcomeComplete, 10)
	held := func(url string) error {
		return open(t, url).Ledger(ledgerTable).CheckRestored(t.Context(), s.policy.Name)
	}
	if err := held(url); err != nil {
		t.Errorf("the same server: %v", err)
	}

	standby := pgtest.Standby(t, primary, "second")
	conn := pgtest.Conn(t, standby.URL("postgres"))
	pgtest.Eventually(t, "the ledger to be on the standby", func() bool {
		return pgtest.Int(t, conn, "SELECT count(*) FROM "+ledgerTable+" WHERE hash IS NOT NULL") == 1
	})
	pgtest.Exec(t, conn, "SELECT pg_promote()")
	if err := held(standby.URL("postgres")); err != nil {
		t.Errorf("a promoted standby: %v", err)
	}

	// What a recovery to a point in time leaves in the configuration.
	pgtest.Exec(t, conn, "ALTER SYSTEM SET recovery_target_time = '2020-01-01'")
	if err := errors.Join(standby.Stop("fast"), standby.StartServer()); err != nil {
		t.Fatal(err)
	}
	if err := held(standby.URL("postgres")); err == nil || cleanup.KindOf(err) != cleanup.NeedsPerson || cleanup.HintOf(err) == "" {
		t.Errorf("a backup recovered to a point in time: %v", err)
	} else {
		t.Log(err)
	}

	// After a run that was let through, it is the database of the last run.
	s.url = standby.URL("postgres")
	want(t, s.run(t), cleanup.OutcomeComplete, 0)
	if err := held(s.url); err != nil {
		t.Errorf("after a run: %v", err)
	}
}
