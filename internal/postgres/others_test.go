package postgres

import "testing"

func TestOthersAreTheIDsBetweenOnesOwn(t *testing.T) {
	t.Parallel()
	var o others
	for i, step := range []struct {
		xid  uint64
		want int64
	}{
		{4_294_967_300, 0}, // beyond 32 bits
		{4_294_967_301, 0},
		{4_294_967_305, 3},
		{4_294_967_307, 4}, // 306 is in work, with another worker
		{4_294_967_306, 3},
		{4_294_967_308, 3},
		{17, 2}, // lost in a crash: nobody is counted twice
	} {
		if got := o.observe(step.xid); got != step.want {
			t.Errorf("step %d: %d others, want %d", i+1, got, step.want)
		}
	}
	o.unseen()
	if got := o.observe(4_294_967_312); got != 4 {
		t.Errorf("%d others, want 4: of 309 to 311 one was our own, and two were before", got)
	}
}
