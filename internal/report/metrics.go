package report

import (
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"message-cleanup/internal/cleanup"
)

// metric is one metric of the file. Beside its own labels, each has the label
// file: the name of the textfile, which keeps those of several databases on one
// host apart, as the collector wants all series of a host to be different.
type metric struct {
	name   string
	kind   prometheus.ValueType // counters go on from what the file has; gauges are of the last run
	help   string
	labels []string
}

var ofPolicy = []string{"policy"}

var (
	lastRun     = metric{"message_cleanup_last_run_timestamp_seconds", prometheus.GaugeValue, "When the last run ended, however it did.", nil}
	lastSuccess = metric{"message_cleanup_last_success_timestamp_seconds", prometheus.GaugeValue, "When a run over all policies last ended complete; 0: never.", nil}
	lastTook    = metric{"message_cleanup_last_run_duration_seconds", prometheus.GaugeValue, "How long the last run took.", nil}
	buildInfo   = metric{"message_cleanup_build_info", prometheus.GaugeValue, "1, with the version of the program that made the last run.", []string{"version"}}

	lastOutcome    = metric{"message_cleanup_last_run_outcome", prometheus.GaugeValue, "1 for the outcome of the policy's last run, 0 for the others.", []string{"policy", "outcome"}}
	lastVerified   = metric{"message_cleanup_last_verified_timestamp_seconds", prometheus.GaugeValue, "When a run last verified that no expired row is left, held ones apart; 0: never.", ofPolicy}
	backlogRows    = metric{"message_cleanup_backlog_rows", prometheus.GaugeValue, "Expired rows that the last run left, held ones apart; absent: not counted.", ofPolicy}
	overdueSeconds = metric{"message_cleanup_oldest_overdue_seconds", prometheus.GaugeValue, "How long before the last run's cutoff the oldest row of the backlog expired; 0: there is none.", ofPolicy}
	heldRows       = metric{"message_cleanup_held_rows", prometheus.GaugeValue, "Expired rows that the policy's hold condition keeps; absent: not counted.", ofPolicy}
	lockedRows     = metric{"message_cleanup_locked_rows", prometheus.GaugeValue, "Expired rows that others held locked to the end of the last run.", ofPolicy}
	refusedRows    = metric{"message_cleanup_refused_rows", prometheus.GaugeValue, "Expired rows that the database did not delete in the last run.", ofPolicy}
	lastDeleted    = metric{"message_cleanup_last_run_deleted_rows", prometheus.GaugeValue, "Rows that the policy's last run deleted.", ofPolicy}
	deletedRows    = metric{"message_cleanup_deleted_rows_total", prometheus.CounterValue, "Rows deleted.", ofPolicy}
	batchesTotal   = metric{"message_cleanup_batches_total", prometheus.CounterValue, "Batches, each of which is one transaction.", ofPolicy}
	retriesTotal   = metric{"message_cleanup_retries_total", prometheus.CounterValue, "Tries of a batch or a query that were repeated.", ofPolicy}
	pausedSeconds  = metric{"message_cleanup_paused_seconds_total", prometheus.CounterValue, "Time without deleting, by reason; rests between batches are those of all workers together.", []string{"policy", "reason"}}
)

// metrics is every metric but the histogram.
var metrics = []metric{
	lastRun, lastSuccess, lastTook, buildInfo,
	lastOutcome, lastVerified, backlogRows, overdueSeconds, heldRows, lockedRows, refusedRows, lastDeleted,
	deletedRows, batchesTotal, retriesTotal, pausedSeconds,
}

const batchMetric = "message_cleanup_batch_duration_seconds"

// ofLastRun is what is not known of a run that came to no policy.
var ofLastRun = []metric{backlogRows, overdueSeconds, heldRows, lockedRows, refusedRows, lastDeleted}

var batchSeconds = prometheus.NewDesc(batchMetric, "How long the server worked on a batch.", ofPolicy, nil)

// outcomes are those that a run may have.
var outcomes = []cleanup.Outcome{cleanup.OutcomeComplete, cleanup.OutcomeIncomplete, cleanup.OutcomeFailed}

// series is one series of a metric: its name and the values of its labels.
type series struct{ name, label, second string }

func (m metric) of(values ...string) series {
	s := series{name: m.name}
	if len(values) > 0 {
		s.label = values[0]
	}
	if len(values) > 1 {
		s.second = values[1]
	}
	return s
}

// figures is the content of the file.
type figures struct {
	values  map[series]float64
	batches map[string]*histogram // by policy
}

// histogram has the cumulated counts of Prometheus.
type histogram struct {
	count   uint64
	sum     float64
	buckets map[float64]uint64 // by upper bound
}

// update takes the run into account.
func (f *figures) update(r cleanup.Result, policies []string, version string) {
	if policies != nil {
		f.forget(policies)
	}
	end := seconds(r.Start.Add(r.Duration))
	f.values[lastRun.of()] = end
	f.values[lastTook.of()] = r.Duration.Seconds()
	f.values[lastSuccess.of()] += 0 // 0 if it was not there
	if r.Outcome() == cleanup.OutcomeComplete && len(r.Policies) == len(policies) {
		f.values[lastSuccess.of()] = end
	}
	f.drop(func(s series) bool { return s.name == buildInfo.name })
	f.values[buildInfo.of(version)] = 1
	for _, name := range policies {
		f.begin(name)
	}
	for _, p := range r.Policies {
		f.policy(p, end)
	}
	if r.Err == nil {
		return
	}
	// It ended before it came to any policy, for all of which that is the outcome.
	f.drop(func(s series) bool {
		return slices.ContainsFunc(ofLastRun, func(m metric) bool { return m.name == s.name })
	})
	for s := range f.values {
		if s.name == lastVerified.name {
			f.outcome(s.label, r.Outcome())
		}
	}
}

// begin makes the series of a policy that have a value from the start on. Without
// them the first increase of a counter could not be seen.
func (f *figures) begin(policy string) {
	for _, m := range []metric{deletedRows, batchesTotal, retriesTotal, lastVerified} {
		f.values[m.of(policy)] += 0
	}
	for _, why := range cleanup.PauseReasons {
		f.values[pausedSeconds.of(policy, string(why))] += 0
	}
	if f.batches[policy] == nil {
		f.batches[policy] = newHistogram()
	}
}

// policy takes the result of one policy into account.
func (f *figures) policy(p cleanup.PolicyResult, end float64) {
	f.outcome(p.Name, p.Outcome())
	for _, m := range []metric{backlogRows, overdueSeconds, heldRows} {
		delete(f.values, m.of(p.Name))
	}
	if p.Backlog != nil {
		f.values[backlogRows.of(p.Name)] = float64(*p.Backlog)
		f.values[overdueSeconds.of(p.Name)] = p.Overdue.Seconds()
		f.values[heldRows.of(p.Name)] = float64(*p.Held)
	}
	if p.Outcome() == cleanup.OutcomeComplete {
		f.values[lastVerified.of(p.Name)] = end
	}
	f.values[lastDeleted.of(p.Name)] = float64(p.Deleted)
	f.values[lockedRows.of(p.Name)] = float64(p.Locked)
	f.values[refusedRows.of(p.Name)] = float64(p.Refused)
	f.values[deletedRows.of(p.Name)] += float64(p.Deleted)
	f.values[batchesTotal.of(p.Name)] += float64(p.Batches)
	f.values[retriesTotal.of(p.Name)] += float64(p.Retries)
	for why, d := range p.Paused {
		f.values[pausedSeconds.of(p.Name, string(why))] += d.Seconds()
	}
	f.batches[p.Name].add(p.Batched)
}

func (f *figures) outcome(policy string, is cleanup.Outcome) {
	for _, o := range outcomes {
		value := 0.0
		if o == is {
			value = 1
		}
		f.values[lastOutcome.of(policy, string(o))] = value
	}
}

// forget drops the policies that are not in the configuration any more.
func (f *figures) forget(policies []string) {
	f.drop(func(s series) bool {
		return s.label != "" && s.name != buildInfo.name && !slices.Contains(policies, s.label)
	})
	for policy := range f.batches {
		if !slices.Contains(policies, policy) {
			delete(f.batches, policy)
		}
	}
}

func (f *figures) drop(unwanted func(series) bool) {
	for s := range f.values {
		if unwanted(s) {
			delete(f.values, s)
		}
	}
}

func newHistogram() *histogram {
	h := &histogram{buckets: make(map[float64]uint64)}
	for _, bound := range cleanup.BatchBounds {
		h.buckets[bound.Seconds()] = 0
	}
	return h
}

func (h *histogram) add(run cleanup.Histogram) {
	var below uint64
	for i, n := range run.Counts {
		below += uint64(n)
		if i < len(cleanup.BatchBounds) {
			h.buckets[cleanup.BatchBounds[i].Seconds()] += below
		}
	}
	h.count += below
	h.sum += run.Sum.Seconds()
}

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }
