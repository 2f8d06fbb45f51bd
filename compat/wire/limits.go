package wire

import (
	"net/url"

	"github.com/docker/docker/api/types/container"
)

// Limits on what a request may carry. Source: the table of input limits in the hardening notes; where dockerd accepts more, each is
// far above what clients send.
const (
	// MaxBody is the largest JSON body, in bytes.
	MaxBody         = 8 << 20
	maxDepth        = 64
	maxKeys         = 10_000 // of one document
	maxQueryKeys    = 256
	maxFilterKeys   = 64
	maxFilterValues = 256
	maxName         = 255
	maxEnv          = 8_192
	maxEnvBytes     = 2 << 20
	maxLabels       = 4_096
	maxLabelBytes   = 1 << 20
	maxMounts       = 1_024
	maxPorts        = 65_535
)

// CheckQuery bounds the number of parameters and the length of a name.
func CheckQuery(q url.Values) error {
	if len(q) > maxQueryKeys {
		return Invalid("the query has %d keys, at most %d are allowed", len(q), maxQueryKeys)
	}
	if n := len(q.Get("name")); n > maxName {
		return Invalid("the parameter name is too long: %d bytes, at most %d are allowed", n, maxName)
	}
	return nil
}

// count is a number of things in a field, with what they weigh.
func count(field string, n, limit int) error {
	if n > limit {
		return Invalid("%s has %d entries, at most %d are allowed", field, n, limit)
	}
	return nil
}

func weight(field string, n, limit int) error {
	if n > limit {
		return Invalid("%s is too large: %d bytes, at most %d are allowed", field, n, limit)
	}
	return nil
}

// CheckEnv bounds an environment; field names it in the error.
func CheckEnv(field string, env []string) error {
	n := 0
	for _, e := range env {
		n += len(e)
	}
	if err := count(field, len(env), maxEnv); err != nil {
		return err
	}
	return weight(field, n, maxEnvBytes)
}

// CheckLabels bounds labels; field names them in the error.
func CheckLabels(field string, labels map[string]string) error {
	n := 0
	for k, v := range labels {
		n += len(k) + len(v)
	}
	if err := count(field, len(labels), maxLabels); err != nil {
		return err
	}
	return weight(field, n, maxLabelBytes)
}

// checkCreate bounds a create request.
func checkCreate(r *container.CreateRequest) error {
	c, h := r.Config, r.HostConfig
	if err := CheckEnv("Env", c.Env); err != nil {
		return err
	}
	if err := CheckLabels("Labels", c.Labels); err != nil {
		return err
	}
	if err := count("ExposedPorts", len(c.ExposedPorts), maxPorts); err != nil {
		return err
	}
	if err := count("Volumes", len(c.Volumes), maxMounts); err != nil {
		return err
	}
	if h == nil {
		return nil
	}
	bindings := 0
	for _, b := range h.PortBindings {
		bindings += len(b)
	}
	if err := count("HostConfig.PortBindings", bindings, maxPorts); err != nil {
		return err
	}
	if err := CheckLabels("HostConfig.Annotations", h.Annotations); err != nil {
		return err
	}
	return count("HostConfig.Mounts", len(h.Mounts)+len(h.Binds)+len(h.Tmpfs), maxMounts)
}
