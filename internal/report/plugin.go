package report

import (
	"fmt"
	"io"
	"strings"
	"time"

	"message-cleanup/internal/cleanup"
)

// Alert is what monitoring systems that run plugins, such as Nagios and Icinga,
// take from the exit status of one; see https://www.monitoring-plugins.org/doc/guidelines.html.
type Alert int

const (
	AlertOK Alert = iota
	AlertWarning
	AlertCritical
	AlertUnknown
)

func (a Alert) String() string { return [...]string{"OK", "WARNING", "CRITICAL", "UNKNOWN"}[a] }

// worse orders them: what is not known may be fine, but nobody knows that.
func worse(a, b Alert) Alert {
	order := [...]int{AlertOK: 0, AlertUnknown: 1, AlertWarning: 2, AlertCritical: 3}
	if order[b] > order[a] {
		return b
	}
	return a
}

// WritePlugin writes the status as one line with performance data. The alert is
// raised by how long the oldest expired row of a policy is overdue: longer than
// warning, or than critical; 0 is not to ask.
func WritePlugin(w io.Writer, s Status, warning, critical time.Duration) (Alert, error) {
	alert := AlertOK
	var texts, data []string
	if s.Err != nil {
		alert, texts = AlertUnknown, []string{s.Err.Error()}
		s.Policies = nil
	}
	for _, p := range s.Policies {
		is, text := judge(p, warning, critical)
		alert = worse(alert, is)
		texts = append(texts, p.Policy.Name+": "+text)
		data = append(data, performance(p, warning, critical)...)
	}
	text := fmt.Sprintf("MESSAGE-CLEANUP %s - %s", alert, strings.Join(texts, "; "))
	// A bar begins the performance data, a line break what is shown on demand.
	text = strings.Join(strings.Fields(strings.ReplaceAll(text, "|", "/")), " ")
	if len(data) > 0 {
		text += " | " + strings.Join(data, " ")
	}
	_, err := fmt.Fprintln(w, text)
	return alert, err
}

func judge(p PolicyStatus, warning, critical time.Duration) (Alert, string) {
	if p.Err != nil {
		return AlertUnknown, p.Err.Error()
	}
	text := backlogText(p.Status)
	switch {
	case p.Overdue == nil:
		return AlertUnknown, text
	case critical > 0 && *p.Overdue > critical:
		return AlertCritical, text
	case warning > 0 && *p.Overdue > warning:
		return AlertWarning, text
	}
	return AlertOK, text
}

// performance is 'label'=value[unit];warning;critical;least for each figure.
func performance(p PolicyStatus, warning, critical time.Duration) []string {
	if p.Err != nil {
		return nil
	}
	name := strings.NewReplacer("'", "''", "=", "_", "|", "/", "\n", " ").Replace(p.Policy.Name)
	overdue := "U"
	if p.Overdue != nil {
		overdue = fmt.Sprintf("%.0fs", p.Overdue.Seconds())
	}
	data := []string{fmt.Sprintf("'%s overdue'=%s;%s;%s;0", name, overdue, threshold(warning), threshold(critical))}
	if p.Backlog.Is != cleanup.Unknown {
		data = append(data, fmt.Sprintf("'%s backlog'=%d;;;0", name, p.Backlog.Rows))
	}
	return data
}

func threshold(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return fmt.Sprintf("%.0f", d.Seconds())
}
