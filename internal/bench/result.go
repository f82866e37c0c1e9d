package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
)

// results are what one run of the benchmark found. They are kept as JSON, one
// object for the run and one for each case.
type results struct {
	Facts  facts
	Rows   int
	Rounds int
	Cases  []caseResult `json:"-"`
}

// caseResult is what was measured in one case.
type caseResult struct {
	Part     string
	Case     string
	Shuffled bool
	Expired  float64 // share
	Index    bool
	Rows     int
	Ways     []string
	Rounds   []map[string]measurement // by the way's name
	Idle     []measurement            `json:",omitempty"` // message-cleanup with nothing to do
	Failures map[string]string        `json:",omitempty"` // by the way's name
}

// measurement is one way having done its work once.
type measurement struct {
	Seconds  float64
	Deleted  int64   // as the way itself says
	Stopped  bool    `json:",omitempty"` // it ended before all was deleted, as it was told to
	WAL      int64   // bytes
	Memory   int64   `json:",omitempty"` // bytes, the client's largest resident set; 0: not measured
	Strategy string  `json:",omitempty"` // that message-cleanup chose
	Dropped  int     `json:",omitempty"` // partitions
	Batches  int     `json:",omitempty"`
	Median   float64 `json:",omitempty"` // milliseconds of a batch
	Longest  float64 `json:",omitempty"` // milliseconds of a batch

	Transactions int      `json:",omitempty"` // of the foreground
	Latency      *latency `json:",omitempty"` // of the foreground
}

// latency is that of the foreground's transactions, in milliseconds.
type latency struct{ P50, P95, P99, P999 float64 }

// remark says in a few words what the time alone does not.
func (m measurement) remark() string {
	var text string
	if m.Stopped {
		text += fmt.Sprintf(", stopped after %d rows", m.Deleted)
	}
	if m.Latency != nil {
		text += fmt.Sprintf(", p99 %.1f ms of %d transactions", m.Latency.P99, m.Transactions)
	}
	return text
}

// setBatches notes how long each batch took, in milliseconds.
func (m *measurement) setBatches(times []float64) {
	if m.Batches = len(times); m.Batches > 0 {
		m.Median, m.Longest = median(times), slices.Max(times)
	}
}

// of returns the measurements of one way; none if it failed or is not here.
func (r caseResult) of(way string) []measurement {
	var list []measurement
	for _, round := range r.Rounds {
		if m, ok := round[way]; ok {
			list = append(list, m)
		}
	}
	return list
}

// median is that of one value of a way over the rounds; NaN without any.
func (r caseResult) median(way string, value func(measurement) float64) float64 {
	return medianOf(r.of(way), value)
}

// ratio is the median over the rounds of a way's value against another's in
// the same round; NaN without any.
func (r caseResult) ratio(way, base string, value func(measurement) float64) float64 {
	var ratios []float64
	for _, round := range r.Rounds {
		m, ok := round[way]
		b, beside := round[base]
		if ok && beside {
			ratios = append(ratios, value(m)/value(b))
		}
	}
	return median(ratios)
}

func medianOf(list []measurement, value func(measurement) float64) float64 {
	var values []float64
	for _, m := range list {
		values = append(values, value(m))
	}
	return median(values)
}

func median(values []float64) float64 {
	n := len(values)
	if n == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// What can be asked of a measurement.
func seconds(m measurement) float64       { return m.Seconds }
func memory(m measurement) float64        { return float64(m.Memory) }
func deleted(m measurement) float64       { return float64(m.Deleted) }
func walPerRow(m measurement) float64     { return float64(m.WAL) / float64(max(1, m.Deleted)) }
func secondsPerRow(m measurement) float64 { return m.Seconds / float64(max(1, m.Deleted)) }
func rowsPerSecond(m measurement) float64 { return float64(m.Deleted) / m.Seconds }
func p99(m measurement) float64 {
	if m.Latency == nil {
		return math.NaN()
	}
	return m.Latency.P99
}

const (
	documentName     = "benchmarks.md"
	measurementsName = "benchmarks.jsonl"
)

// save writes measurements, document and plots.
func save(dir string, r results) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	write := func(name string, content func(io.Writer) error) error {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		err = content(f)
		if closed := f.Close(); err == nil {
			err = closed
		}
		if err != nil {
			return fmt.Errorf("write %s: %w", f.Name(), err)
		}
		return nil
	}
	if err := write(measurementsName, r.encode); err != nil {
		return err
	}
	for name, draw := range r.plots() {
		if err := write(name, draw); err != nil {
			return err
		}
	}
	return write(documentName, r.document)
}

func (r results) encode(out io.Writer) error {
	enc := json.NewEncoder(out)
	err := enc.Encode(r)
	for _, c := range r.Cases {
		if err == nil {
			err = enc.Encode(c)
		}
	}
	return err
}

// read reads what save wrote.
func read(file string) (r results, err error) {
	f, err := os.Open(file)
	if err != nil {
		return r, err
	}
	defer f.Close()
	dec := json.NewDecoder(f)
	for err = dec.Decode(&r); err == nil; {
		var c caseResult
		if err = dec.Decode(&c); err == nil {
			r.Cases = append(r.Cases, c)
		}
	}
	if err == io.EOF && len(r.Cases) > 0 {
		return r, nil
	}
	return r, fmt.Errorf("read measurements from %s: %w", file, err)
}
