package logs

import (
	"maps"
	"slices"

	"github.com/docker/go-units"

	"github.com/berthd/berth/engine/internal/errkind"
)

// known lists the options of each driver besides mode and max-buffer-size, which all drivers take.
var known = map[string][]string{
	JSONFile: {"max-file", "max-size", "compress", "labels", "labels-regex", "env", "env-regex", "tag"},
	Local:    {"max-file", "max-size", "compress"},
}

// remote are the drivers whose own options package drivers looks at.
var remote = []string{"awslogs", "fluentd", "gcplogs", "gelf", "journald", "splunk", "syslog"}

// ValidateOptions refuses what dockerd refuses when a container is made: an unknown driver or option, a mode that is none.
// Values of
// max-size, max-file, compress, tag and the patterns are looked at when the container is started, as there: see CheckValues.
//
// Errors: ErrInvalidArgument in dockerd's words.
func ValidateOptions(cfg Config) error {
	name := cfg.Driver
	if name == "" {
		name = JSONFile
	}
	allowed, ok := known[name]
	sent := slices.Contains(remote, name)
	switch {
	case name == None:
		return nil // nothing is kept, so nothing is looked at
	case !ok && !sent:
		return errkind.InvalidArgument("error looking up logging plugin %s: plugin %q not found", name, name)
	}
	switch mode := cfg.Options["mode"]; mode {
	case "", "blocking", "non-blocking":
	default:
		return errkind.InvalidArgument("logger: logging mode not supported: %s", mode)
	}
	if v, ok := cfg.Options["max-buffer-size"]; ok {
		if cfg.Options["mode"] != "non-blocking" {
			return errkind.InvalidArgument("logger: max-buffer-size option is only supported with 'mode=non-blocking'")
		}
		if _, err := units.RAMInBytes(v); err != nil {
			return errkind.InvalidArgument("error parsing option max-buffer-size: %w", err)
		}
	}
	if sent {
		return nil
	}
	for _, k := range slices.Sorted(maps.Keys(cfg.Options)) {
		switch {
		case k == "mode", k == "max-buffer-size", slices.Contains(allowed, k):
		case name == Local:
			return errkind.InvalidArgument("unknown log opt '%s' for log driver %s", k, name)
		default:
			return errkind.InvalidArgument("unknown log opt '%s' for %s log driver", k, name)
		}
	}
	return nil
}

// CheckValues refuses values with which no log can be opened, in dockerd's words.
func CheckValues(cfg Config) error {
	_, err := limits(cfg)
	return err
}
