package main

import (
	"context"
	"fmt"

	"message-cleanup/internal/cleanup"
	"message-cleanup/internal/systemd"
)

// host looks at the timer and the last run. Where no systemd answers, and where
// it knows no such timer, something else makes the runs.
func (c *checkup) host(ctx context.Context) {
	name := unitOf(c.global.config)
	if name == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, systemdTimeout)
	defer cancel()
	if units, err := systemd.ReadUnits(ctx, name); err == nil {
		c.Findings.Add(checkUnits(name, units)...)
	}
}

func checkUnits(name string, units systemd.Units) (findings []cleanup.Finding) {
	timer, service := units.Timer, units.Service
	if !timer.Installed {
		return nil
	}
	switch {
	case !timer.Enabled && !timer.Active:
		findings = append(findings, cleanup.Finding{
			Name: "timer-disabled", Severity: cleanup.SeverityError, Command: "systemctl enable --now " + timer.Unit,
			Text: timer.Unit + " is not enabled: no run is made at night",
		})
	case !timer.Enabled:
		findings = append(findings, cleanup.Finding{
			Name: "timer-disabled", Severity: cleanup.SeverityError, Command: "systemctl enable " + timer.Unit,
			Text: timer.Unit + " is not enabled: no run is made from the next boot on",
		})
	case !timer.Active:
		findings = append(findings, cleanup.Finding{
			Name: "timer-stopped", Severity: cleanup.SeverityError, Command: "systemctl start " + timer.Unit,
			Text: timer.Unit + " is stopped: no run is made before the next boot",
		})
	}
	if service.Running || service.Result == "success" || service.Result == "" {
		return findings
	}
	finding := cleanup.Finding{
		Name: "last-run-failed", Severity: cleanup.SeverityError, Command: "systemctl start " + name,
		Text: fmt.Sprintf("the last run of %s.service failed: %s", name, service.Result),
		Hint: "journalctl -x -u " + name + " says why; once that is mended, start a run",
	}
	if service.Result == "exit-code" {
		finding.Text = fmt.Sprintf("the last run of %s.service ended with exit status %d", name, service.ExitStatus)
		if service.ExitStatus == exitTempFail {
			finding.Severity = cleanup.SeverityWarning
			finding.Text = fmt.Sprintf("the last run of %s.service was not complete: the next one goes on", name)
		}
	}
	if !service.Ended.IsZero() {
		finding.Text += ", " + service.Ended.UTC().Format("2006-01-02 15:04 UTC")
	}
	return append(findings, finding)
}
