package postgres

import (
	"net"
	"slices"
	"testing"
	"time"

	"message-cleanup/internal/cleanup"
)

// What the table test of check cannot plant: the whole of it is in
// cmd/message-cleanup.
func TestWhatIsWrongWithAServerHasAName(t *testing.T) {
	t.Parallel()
	const skew = time.Minute
	for _, c := range []struct {
		want   string
		server Server
	}{
		{"standby", Server{Version: 150018, Standby: true}},
		{"read-only", Server{Version: 150018, ReadOnly: true}},
		{"clock-skew", Server{Version: 150018, Skew: -2 * skew}},
	} {
		err := c.server.Check(skew)
		if got := cleanup.FindingOf("", err); got.Name != c.want || got.Severity != cleanup.SeverityError || got.Hint == "" {
			t.Errorf("%+v: found %+v, want an error %s with a hint", c.server, got, c.want)
		}
	}
	var names []string
	for _, finding := range (Server{Version: 150018, Pooled: true}).Warnings() {
		names = append(names, finding.Name+" "+string(finding.Severity))
	}
	if !slices.Equal(names, []string{"pooler warning"}) {
		t.Errorf("behind a pooler: %q", names)
	}
}

func TestAnAddressLeavesTheHost(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		address net.Addr
		want    bool
	}{
		{&net.UnixAddr{Name: "/run/postgresql/.s.PGSQL.5432", Net: "unix"}, false},
		{&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}, false},
		{&net.TCPAddr{IP: net.IPv6loopback}, false},
		{&net.TCPAddr{IP: net.IPv4(192, 0, 2, 1)}, true},
		{&net.TCPAddr{IP: net.ParseIP("2001:db8::1")}, true},
	} {
		if got := leavesHost(c.address); got != c.want {
			t.Errorf("%v: %t, want %t", c.address, got, c.want)
		}
	}
}
