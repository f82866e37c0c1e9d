package systemd

import (
	"context"
	"fmt"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
)

// Units is what systemd knows of a service and the timer that starts it.
type Units struct {
	Timer   Timer
	Service Service
}

// Timer is a timer unit.
type Timer struct {
	Unit      string    // its name, such as message-cleanup.timer
	Installed bool      // systemd found a unit of that name
	Active    bool      // it waits for its time; an enabled timer does from the next boot on
	Enabled   bool      // it is active after the next boot
	Next      time.Time // when it starts the service; zero: not planned
}

// Service is a oneshot service unit. Of a run that ended, systemd remembers the
// end for as long as the unit is loaded, which an active timer ensures, and not
// longer than until the next boot.
type Service struct {
	Running    bool
	Status     string    // what the run said of itself last: its progress, or how it ended
	Ended      time.Time // zero: no end is known
	Result     string    // "success", "exit-code", "signal", "timeout" and others, of systemd.exec(5)
	ExitStatus int       // of the program, if Result is "success" or "exit-code"
}

// ReadUnits asks systemd over D-Bus for name.timer and name.service. Everybody
// may ask. It fails where there is no systemd, or none that can be reached, as
// in containers and in the sandbox of a service.
func ReadUnits(ctx context.Context, name string) (Units, error) {
	conn, err := dbus.NewSystemConnectionContext(ctx)
	if err != nil {
		return Units{}, fmt.Errorf("ask systemd over D-Bus: %w", err)
	}
	defer conn.Close()
	var properties [2]map[string]any
	for i, unit := range []string{name + ".timer", name + ".service"} {
		if properties[i], err = conn.GetAllPropertiesContext(ctx, unit); err != nil {
			return Units{}, fmt.Errorf("ask systemd for %s: %w", unit, err)
		}
	}
	return units(name, properties[0], properties[1]), nil
}

// units reads the properties that org.freedesktop.systemd1(5) describes. One
// that is missing, or of another type, is as one that says nothing.
func units(name string, timer, service map[string]any) Units {
	return Units{
		Timer: Timer{
			Unit:      name + ".timer",
			Installed: property[string](timer, "LoadState") == "loaded",
			Active:    property[string](timer, "ActiveState") == "active",
			Enabled:   property[string](timer, "UnitFileState") == "enabled",
			Next:      instant(timer, "NextElapseUSecRealtime"),
		},
		Service: Service{
			Running:    property[string](service, "ActiveState") == "activating",
			Status:     property[string](service, "StatusText"),
			Ended:      instant(service, "ExecMainExitTimestamp"),
			Result:     property[string](service, "Result"),
			ExitStatus: int(property[int32](service, "ExecMainStatus")),
		},
	}
}

func property[T any](properties map[string]any, name string) T {
	value, _ := properties[name].(T)
	return value
}

// instant reads a time in microseconds. 0 and the largest number both say that
// there is none.
func instant(properties map[string]any, name string) time.Time {
	usec := property[uint64](properties, name)
	if usec == 0 || usec >= 1<<63 {
		return time.Time{}
	}
	return time.UnixMicro(int64(usec)).UTC()
}
