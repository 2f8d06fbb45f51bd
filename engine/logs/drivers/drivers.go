package drivers

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/berthd/berth/engine/internal/errkind"
	"github.com/berthd/berth/engine/logs"
)

// Info is what a driver is told about a container.
type Info struct {
	ContainerID, Name  string // name without slash
	ImageID, ImageName string
	Command            string // program and arguments
	Created            time.Time
	Labels             map[string]string
	Env                []string
	Hostname           string // of the host
	Options            map[string]string
}

// Forwarder sends records to one receiver. It connects when it has to, again after an error. One caller at a time.
type Forwarder interface {
	// Send hands all records over, in order, or fails; then all are to be sent again.
	Send(ctx context.Context, rs []logs.Record) error
	Close() error
}

type driver struct {
	check func(o map[string]string) error // values; may be nil
	open  func(i Info) (Forwarder, error) // nil: known, not available
}

// common are options that every remote driver takes: what is made of labels and environment, and the local copy.
var common = []string{"labels", "labels-regex", "env", "env-regex", "tag", "cache-disabled", "cache-max-size", "cache-max-file", "cache-compress"}

// own are the options of each driver beside those. Source: docker's documentation of each driver.
var own = map[string][]string{
	"syslog":   {"syslog-address", "syslog-facility", "syslog-format", "syslog-tls-ca-cert", "syslog-tls-cert", "syslog-tls-key", "syslog-tls-skip-verify"},
	"gelf":     {"gelf-address", "gelf-compression-level", "gelf-compression-type", "gelf-tcp-max-reconnect", "gelf-tcp-reconnect-delay"},
	"fluentd":  {"fluentd-address", "fluentd-async", "fluentd-async-connect", "fluentd-async-reconnect-interval", "fluentd-buffer-limit", "fluentd-max-retries", "fluentd-read-timeout", "fluentd-request-ack", "fluentd-retry-wait", "fluentd-sub-second-precision", "fluentd-write-timeout"},
	"journald": {},
	"splunk":   {"splunk-url", "splunk-token", "splunk-source", "splunk-sourcetype", "splunk-index", "splunk-capath", "splunk-caname", "splunk-insecureskipverify", "splunk-format", "splunk-verify-connection", "splunk-gzip", "splunk-gzip-level", "splunk-index-acknowledgment"},
	"awslogs":  {"awslogs-region", "awslogs-endpoint", "awslogs-group", "awslogs-stream", "awslogs-create-group", "awslogs-create-stream", "awslogs-datetime-format", "awslogs-multiline-pattern", "awslogs-credentials-endpoint", "awslogs-force-flush-interval-seconds", "awslogs-max-buffered-events", "awslogs-format"},
	"gcplogs":  {"gcp-project", "gcp-log-cmd", "gcp-meta-zone", "gcp-meta-name", "gcp-meta-id"},
}

var all = map[string]driver{
	"syslog":   {checkSyslog, openSyslog},
	"gelf":     {checkGelf, openGelf},
	"fluentd":  {checkFluentd, openFluentd},
	"journald": {nil, openJournald},
	"splunk":   {nil, nil},
	"awslogs":  {checkAWSLogs, nil},
	"gcplogs":  {nil, nil},
}

// Remote reports whether a driver sends its records away.
func Remote(name string) bool { _, ok := all[name]; return ok }

// Names are the drivers that can be used.
func Names() []string {
	return slices.Sorted(maps.Keys(maps.Collect(func(yield func(string, bool) bool) {
		for n, d := range all {
			if d.open != nil && !yield(n, true) {
				return
			}
		}
	})))
}

func checkAWSLogs(o map[string]string) error {
	if o["awslogs-group"] == "" {
		return errors.New("must specify a value for log opt 'awslogs-group'")
	}
	return nil
}

// Validate looks at the options of a remote driver; mode and max-buffer-size are looked at elsewhere.
//
// Errors: ErrInvalidArgument in dockerd's words; ErrNotImplemented for a driver that is not available.
func Validate(name string, o map[string]string) error {
	d := all[name]
	for _, k := range slices.Sorted(maps.Keys(o)) {
		if k != "mode" && k != "max-buffer-size" && !slices.Contains(common, k) && !slices.Contains(own[name], k) {
			return errkind.InvalidArgument("unknown log opt '%s' for %s log driver", k, name)
		}
	}
	if d.check != nil {
		if err := d.check(o); err != nil {
			return errkind.InvalidArgument("%w", err)
		}
	}
	if d.open == nil {
		return errkind.NotImplemented("logging driver %s is not available in this engine", name)
	}
	return nil
}

// Open makes a container's forwarder; nothing is sent yet.
func Open(name string, i Info) (Forwarder, error) {
	d := all[name]
	if d.open == nil {
		return nil, errkind.NotImplemented("logging driver %s is not available in this engine", name)
	}
	return d.open(i)
}
