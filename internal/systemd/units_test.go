package systemd

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-systemd/v22/unit"
	"github.com/google/go-cmp/cmp"
)

const (
	unitFolder  = "../../systemd"
	serviceName = "message-cleanup.service"
	timerName   = "message-cleanup.timer"
	binary      = "/usr/bin/message-cleanup"

	// The exposure of `systemd-analyze security`, times ten: what a service
	// cannot go below that may reach a database by TCP, and what one keeps to
	// that has the drop-in for a local socket.
	maxExposure      = "11"
	maxExposureLocal = "3"

	localSocket = "local-socket.conf"
)

// unitFile is a unit as systemd reads it.
type unitFile []*unit.UnitOption

func readUnit(t *testing.T, name string) unitFile {
	t.Helper()
	options, err := unit.DeserializeOptions(strings.NewReader(unitText(t, name)))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return options
}

// unitText returns the text of a unit or drop-in. A template is made of the unit
// of the same name without the @, as packaging/build and make install do it.
func unitText(t *testing.T, name string) string {
	t.Helper()
	file := filepath.Join(unitFolder, name)
	if plain := strings.Replace(file, "message-cleanup@", "message-cleanup", 1); plain != file {
		text, err := exec.CommandContext(t.Context(), "sed", "-f", filepath.Join(unitFolder, "instance.sed"), plain).Output()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return string(text)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// install writes units where systemd-analyze finds them, with a program that is
// there. It returns their paths.
func install(t *testing.T, texts map[string]string) []string {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	var paths []string
	for name, text := range texts {
		path := filepath.Join(folder, name)
		text = strings.Replace(text, "ExecStart="+binary, "ExecStart="+program, 1)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	return paths
}

// values returns what is assigned to a setting, in order.
func (u unitFile) values(section, name string) []string {
	var values []string
	for _, o := range u {
		if o.Section == section && o.Name == name {
			values = append(values, o.Value)
		}
	}
	return values
}

// rule is what a unit must say, and why.
type rule struct {
	section, name string
	want          []string // nil: must not be set at all
	why           string
}

func (u unitFile) check(t *testing.T, file string, rules []rule) {
	t.Helper()
	for _, r := range rules {
		if diff := cmp.Diff(r.want, u.values(r.section, r.name)); diff != "" {
			t.Errorf("%s: [%s] %s=: %s (-want +got):\n%s", file, r.section, r.name, r.why, diff)
		}
	}
}

func TestTimer(t *testing.T) {
	timer := readUnit(t, timerName)
	timer.check(t, timerName, []rule{
		{"Timer", "OnCalendar", []string{"*-*-* 02:00:00 UTC"}, "a second one adds runs instead of moving them, and without UTC the run moves with the host's zone"},
		{"Timer", "Persistent", []string{"true"}, "a night that the host was off for would be left out"},
		{"Timer", "FixedRandomDelay", []string{"true"}, "the run would be at another minute every night"},
		{"Timer", "Unit", nil, "the service has the name of the timer; a second place can only be wrong"},
		{"Install", "WantedBy", []string{"timers.target"}, "`systemctl enable` would not start it at boot"},
		{"Install", "Also", nil, "only the timer is to be enabled"},
	})
	if len(timer.values("Timer", "RandomizedDelaySec")) != 1 {
		t.Errorf("%s: RandomizedDelaySec= is not set: hosts that share a server would all start in the same second", timerName)
	}

	tie := regexp.MustCompile(`^(Requires|Requisite|Wants|BindsTo|PartOf|Upholds|Conflicts|PropagatesStopTo|StopPropagatedFrom|Before|After)$`)
	for _, o := range timer {
		if tie.MatchString(o.Name) {
			t.Errorf("%s: %s=%s: a timer needs no tie to its service; Requires= even starts a run at each boot and stops the timer with a run",
				timerName, o.Name, o.Value)
		}
	}
}

func TestService(t *testing.T) {
	service := readUnit(t, serviceName)
	service.check(t, serviceName, []rule{
		{"Service", "Type", []string{"oneshot"}, "the run would count as done when it has only started"},
		{"Service", "NotifyAccess", []string{"main"}, "systemd would ignore the progress and the extension of the timeout"},
		{"Service", "ExecStart", []string{binary + " run"}, "this is the path of the package and the command of a scheduled run"},
		{"Service", "NoExecPaths", []string{"/"}, "only the program itself is to be run"},
		{"Service", "ExecPaths", []string{binary}, "the program could not be run"},
		{"Service", "Slice", []string{"system-messagecleanup.slice"}, "what the runs of a host take together would not be bounded"},
		{"Service", "SyslogIdentifier", []string{identifier}, "what goes through stderr would have another name than native entries"},
		{"Service", "Restart", nil, "systemd before 244 refuses the whole unit, and OnFailure= would be late; the program retries itself"},
		{"Service", "SuccessExitStatus", nil, "75 says that expired rows are left: an unfinished run has to be seen"},
		{"Service", "RemainAfterExit", nil, "the timer would never start it a second time"},
		{"Service", "WatchdogSec", nil, "it has no effect on a oneshot, but looks as if it had"},
		{"Service", "RuntimeMaxSec", nil, "it has no effect on a oneshot; TimeoutStartSec= is the one that counts"},
		{"Service", "User", []string{"message-cleanup"}, "this is the user that the package makes"},
		{"Service", "DynamicUser", nil, "PostgreSQL could not look up the user for peer authentication"},
		{"Service", "LoadCredential", []string{"database-url:/etc/message-cleanup/database-url"}, "this is where the documentation says the secret goes"},
		{"Service", "SetCredential", []string{"database-url:unset"}, "without it, a missing file ends the run before it begins (243/CREDENTIALS)"},
		{"Service", "EnvironmentFile", []string{"-/etc/default/message-cleanup", "-/etc/sysconfig/message-cleanup"}, "both are optional, which the dash says"},
		{"Unit", "Requires", nil, "the database may be on another host"},
		{"Unit", "BindsTo", nil, "the database may be on another host"},
	})
	for _, o := range service {
		if o.Section == "Install" {
			t.Errorf("%s: [Install] %s=%s: only the timer is to be enabled; an enabled service deletes at every boot", serviceName, o.Name, o.Value)
		}
	}
}

func TestTimeoutIsTheOneTheProgramExtends(t *testing.T) {
	values := readUnit(t, serviceName).values("Service", "TimeoutStartSec")
	if len(values) != 1 {
		t.Fatalf("TimeoutStartSec= is %q: it has to be set once, since a stuck oneshot would by default run for ever", values)
	}
	// "10min" is systemd's spelling of Go's "10m".
	got, err := time.ParseDuration(strings.ReplaceAll(values[0], "min", "m"))
	if err != nil || got != TimeoutStart {
		t.Errorf("TimeoutStartSec=%s, but the program asks for %v after each batch: one of them is not what was meant (%v)", values[0], TimeoutStart, err)
	}
}

func TestUnitsSayEverythingOnce(t *testing.T) {
	// Settings that are lists, where another line adds to them.
	list := regexp.MustCompile(`^(Environment|EnvironmentFile|SystemCallFilter|LoadCredential|SetCredential|ReadWritePaths|Documentation|After|Wants)$`)
	for _, name := range []string{serviceName, timerName} {
		seen := make(map[string]bool)
		for _, o := range readUnit(t, name) {
			key := o.Section + "/" + o.Name
			if seen[key] && !list.MatchString(o.Name) {
				t.Errorf("%s: [%s] %s= is set twice: the reader of the first line is misled", name, o.Section, o.Name)
			}
			seen[key] = true
			if strings.ContainsAny(o.Value, "#;") {
				t.Errorf("%s: %s=%s: systemd has no comments at the end of a line; this one is part of the value", name, o.Name, o.Value)
			}
			if strings.Contains(o.Value, "\n") {
				t.Errorf("%s: %s= goes over several lines: a comment or drop-in in between changes what it means", name, o.Name)
			}
		}
	}
}

func TestSystemdAcceptsTheUnits(t *testing.T) {
	analyze := systemdAnalyze(t)
	texts := map[string]string{
		"message-cleanup-alert@x.service": unitText(t, "message-cleanup-alert@.service"),
		"message-cleanup-in-turn.service": unitText(t, "message-cleanup-in-turn.service"),
		"system-messagecleanup.slice":     unitText(t, "system-messagecleanup.slice"),
	}
	for _, name := range []string{serviceName, timerName} {
		texts[name] = unitText(t, name)
		template := strings.Replace(name, ".", "@.", 1)
		texts[strings.Replace(name, ".", "@orders.", 1)] = unitText(t, template)
	}
	// Without --recursive-errors, an unknown setting is only a warning.
	args := append([]string{"verify", "--man=no", "--recursive-errors=no"}, install(t, texts)...)
	if out, err := exec.CommandContext(t.Context(), analyze, args...).CombinedOutput(); err != nil {
		t.Errorf("systemd-analyze verify: %v: systemd would ignore a setting, or the unit:\n%s", err, out)
	}
}

func TestServiceStaysHardened(t *testing.T) {
	analyze := systemdAnalyze(t)
	for name, test := range map[string]struct{ text, most string }{
		"with TCP":              {unitText(t, serviceName), maxExposure},
		"with the local socket": {unitText(t, serviceName) + unitText(t, localSocket), maxExposureLocal},
	} {
		t.Run(name, func(t *testing.T) {
			path := install(t, map[string]string{serviceName: test.text})[0]
			out, err := exec.CommandContext(t.Context(), analyze, "security", "--no-pager", "--offline=true",
				"--threshold="+test.most, path).CombinedOutput()
			if err != nil {
				t.Errorf("systemd-analyze security: %v: the exposure is above %s/10; look for what was dropped from the unit:\n%s", err, test.most, out)
			}
			if i := strings.LastIndex(string(out), "Overall"); i >= 0 {
				t.Log(strings.TrimSpace(string(out[i:])))
			}
		})
	}
}

// An instance differs from the plain unit in what belongs to one database, and
// in nothing else.
func TestInstances(t *testing.T) {
	service, timer := readUnit(t, "message-cleanup@.service"), readUnit(t, "message-cleanup@.timer")
	service.check(t, "message-cleanup@.service", []rule{
		{"Service", "ExecStart", []string{binary + " run --config /etc/message-cleanup/%i.yaml"}, "each instance has a file of its own"},
		{"Service", "LoadCredential", []string{"database-url:/etc/message-cleanup/%i.database-url"}, "the address is another for each instance"},
		{"Service", "EnvironmentFile", []string{"-/etc/default/message-cleanup-%i", "-/etc/sysconfig/message-cleanup-%i"}, "PGDATABASE is another for each instance"},
	})
	timer.check(t, "message-cleanup@.timer", []rule{
		{"Timer", "RandomizedDelaySec", []string{"1h"}, "within five minutes, all instances of a host would be at work at once"},
	})
	own := map[string]bool{"ExecStart": true, "LoadCredential": true, "EnvironmentFile": true, "Description": true, "RandomizedDelaySec": true}
	for plain, instance := range map[string]unitFile{serviceName: service, timerName: timer} {
		var want, got []unit.UnitOption
		for _, o := range readUnit(t, plain) {
			if !own[o.Name] {
				want = append(want, *o)
			}
		}
		for _, o := range instance {
			if !own[o.Name] {
				got = append(got, *o)
			}
			if o.Name == "Description" && !strings.HasSuffix(o.Value, " (%i)") {
				t.Errorf("template of %s: Description=%s: systemctl would show the same line for all instances", plain, o.Value)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("template of %s (-plain +template):\n%s", plain, diff)
		}
	}
}

func TestInstancesInTurnStartOneAfterTheOther(t *testing.T) {
	inTurn := readUnit(t, "message-cleanup-in-turn.service")
	inTurn.check(t, "message-cleanup-in-turn.service", []rule{
		{"Service", "Type", []string{"oneshot"}, "only a oneshot may have several lines, each of which waits for the one before"},
		{"Service", "TimeoutStartSec", nil, "the instances have their own, and a oneshot by default none"},
	})
	for _, line := range inTurn.values("Service", "ExecStart") {
		if !strings.HasPrefix(line, "-/usr/bin/systemctl start message-cleanup@") {
			t.Errorf("ExecStart=%s: without the dash a run that fails keeps the others from running; with --no-block all run at once", line)
		}
	}
}

// systemdAnalyze returns the path of systemd-analyze, or skips the test.
func systemdAnalyze(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed (Debian package systemd): the units are checked as text only")
	}
	out, err := exec.CommandContext(t.Context(), path, "--version").Output()
	if err != nil {
		t.Skipf("systemd-analyze does not run (%v): the units are checked as text only", err)
	}
	match := regexp.MustCompile(`^systemd (\d+)`).FindSubmatch(out)
	if match == nil {
		t.Skipf("systemd-analyze has an unknown version (%.40q): the units are checked as text only", out)
	}
	if version, _ := strconv.Atoi(string(match[1])); version < 250 {
		t.Skipf("systemd-analyze %d cannot check files offline, 250 can: the units are checked as text only", version)
	}
	return path
}
