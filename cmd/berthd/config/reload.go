package config

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Reload reads the file again and returns the configuration with the reloadable keys that the file gives taken over. What it does
// not give stays as it was. Either all is taken over or, with an error, nothing.
func (c *Config) Reload(args []string) (*Config, error) {
	fresh, err := Parse(args)
	if err != nil {
		return nil, err
	}
	next := *c
	for k := range fresh.inFile {
		if o := byKey(k); o == nil || !o.reload {
			continue
		}
		switch k {
		case "debug":
			next.Debug = fresh.Debug
		case "insecure-registries":
			next.Insecure = fresh.Insecure
		case "registry-mirrors":
			next.Mirrors = fresh.Mirrors
		case "live-restore":
			next.LiveRestore = fresh.LiveRestore
		case "labels":
			next.Labels = fresh.Labels
		case "shutdown-timeout":
			next.ShutdownTimeout = fresh.ShutdownTimeout
		case "features":
			next.Features = fresh.Features
		case "max-concurrent-downloads":
			next.MaxDownloads = fresh.MaxDownloads
		case "max-concurrent-uploads":
			next.MaxUploads = fresh.MaxUploads
		case "max-download-attempts":
			next.MaxAttempts = fresh.MaxAttempts
		default:
			return nil, fmt.Errorf("%s is reloadable, but nobody takes it over", k)
		}
	}
	return &next, nil
}

// Attributes are those of the reload event.
func (c *Config) Attributes() map[string]string {
	asJSON := func(list []string) string {
		b, _ := json.Marshal(append([]string{}, list...)) // strings
		return string(b)
	}
	runtimes := []string{stockRuntime + ":" + stockRuntime}
	for _, n := range slices.Sorted(maps.Keys(c.Runtimes)) {
		runtimes = append(runtimes, n+":"+c.Runtimes[n].Path)
	}
	return map[string]string{
		"debug": strconv.FormatBool(c.Debug), "default-runtime": c.DefaultRuntime, "default-shm-size": strconv.FormatInt(int64(c.ShmSize), 10), "features": c.Features.String(),
		"insecure-registries": asJSON(c.Insecure), "labels": asJSON(c.Labels), "live-restore": strconv.FormatBool(c.LiveRestore), "max-concurrent-downloads": strconv.Itoa(c.MaxDownloads),
		"max-concurrent-uploads": strconv.Itoa(c.MaxUploads), "max-download-attempts": strconv.Itoa(c.MaxAttempts), "registry-mirrors": asJSON(c.Mirrors), "runtimes": strings.Join(runtimes, " "),
		"shutdown-timeout": strconv.Itoa(c.ShutdownTimeout),
	}
}
