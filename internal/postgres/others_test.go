package postgres

import (
	"strconv"
	"testing"
)

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
		got, err := o.observe(strconv.FormatUint(step.xid, 10))
		if err != nil || got != step.want {
			t.Errorf("step %d: %d others, %v; want %d", i+1, got, err, step.want)
		}
	}
	o.unseen()
	if got, err := o.observe("4294967312"); err != nil || got != 4 {
		t.Errorf("%d others, %v; want 4: of 309 to 311 one was our own, and two were before", got, err)
	}
	if _, err := o.observe("x"); err == nil {
		t.Error("no error for what is no id")
	}
}
