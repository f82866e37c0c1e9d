package report

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"message-cleanup/internal/cleanup"
)

// WriteMetrics brings the textfile at path up to date after a run, for
// node_exporter's collector or any other that reads the text format. policies are
// the names of all that are configured, whether this run was to clean them or
// not; nil: the configuration could not be read.
//
// The file is replaced as a whole, and everybody may read it. Counters go on from
// what it holds. If that cannot be read they begin anew, and the error says so
// though the file is written.
func WriteMetrics(path string, r cleanup.Result, policies []string, version string) error {
	before, readErr := readFigures(path)
	before.update(r, policies, version)
	registry := prometheus.NewRegistry()
	name := strings.ToValidUTF8(strings.TrimSuffix(filepath.Base(path), filepath.Ext(path)), "_") // as labels must be
	prometheus.WrapRegistererWith(prometheus.Labels{"file": name}, registry).MustRegister(before)
	if err := prometheus.WriteToTextfile(path, registry); err != nil {
		return fmt.Errorf("write the metrics: %w", err)
	}
	if readErr != nil {
		return fmt.Errorf("the counters in %s begin anew: %w", path, readErr)
	}
	return nil
}

// Describe implements prometheus.Collector.
func (f *figures) Describe(descs chan<- *prometheus.Desc) { descs <- batchSeconds }

// Collect implements prometheus.Collector.
func (f *figures) Collect(all chan<- prometheus.Metric) {
	for _, m := range metrics {
		desc := prometheus.NewDesc(m.name, m.help, m.labels, nil)
		for s, value := range f.values {
			if s.name == m.name {
				all <- prometheus.MustNewConstMetric(desc, m.kind, value, []string{s.label, s.second}[:len(m.labels)]...)
			}
		}
	}
	for policy, h := range f.batches {
		all <- prometheus.MustNewConstHistogram(batchSeconds, h.count, h.sum, h.buckets, policy)
	}
}

// readFigures reads what the last run left. Without a file there is nothing.
func readFigures(path string) (*figures, error) {
	f := &figures{values: make(map[series]float64), batches: make(map[string]*histogram)}
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return f, nil
	}
	if err != nil {
		return f, err
	}
	defer file.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(file)
	if err != nil {
		return f, fmt.Errorf("read the metrics of the last run: %w", err)
	}
	for _, m := range metrics {
		for _, one := range families[m.name].GetMetric() {
			var labels []string
			for _, label := range m.labels {
				labels = append(labels, valueOf(one, label))
			}
			f.values[m.of(labels...)] = one.GetGauge().GetValue() + one.GetCounter().GetValue()
		}
	}
	for _, one := range families[batchMetric].GetMetric() {
		h := newHistogram()
		h.count, h.sum = one.GetHistogram().GetSampleCount(), one.GetHistogram().GetSampleSum()
		for _, bucket := range one.GetHistogram().GetBucket() {
			if _, known := h.buckets[bucket.GetUpperBound()]; known {
				h.buckets[bucket.GetUpperBound()] = bucket.GetCumulativeCount()
			}
		}
		f.batches[valueOf(one, "policy")] = h
	}
	return f, nil
}

func valueOf(m *dto.Metric, label string) string {
	for _, pair := range m.GetLabel() {
		if pair.GetName() == label {
			return pair.GetValue()
		}
	}
	return ""
}

// ReadLastRun tells what the metrics at path say of a policy's last run. It is
// the zero value if there is no such file.
func ReadLastRun(path, policy string) (LastRun, error) {
	f, err := readFigures(path)
	if err != nil {
		return LastRun{}, err
	}
	last := LastRun{Note: path}
	if at := f.values[lastRun.of()]; at > 0 {
		last.Ended = time.UnixMilli(int64(at * 1000)).UTC()
	}
	if at := f.values[lastVerified.of(policy)]; at > 0 {
		last.Verified = time.UnixMilli(int64(at * 1000)).UTC()
	}
	if rows, known := f.values[lastDeleted.of(policy)]; known {
		last.Deleted = new(int64(rows))
	}
	for _, o := range outcomes {
		if f.values[lastOutcome.of(policy, string(o))] == 1 {
			last.Outcome = string(o)
		}
	}
	if last.Outcome == "" { // it is new in the configuration
		return LastRun{}, nil
	}
	return last, nil
}
