package image

import (
	"encoding/json"
	"strings"

	"github.com/berthd/berth/engine/internal/errkind"
)

// ParseChanges applies Dockerfile instructions to a configuration: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, USER, VOLUME, WORKDIR,
// STOPSIGNAL.
//
// Errors: ErrInvalidArgument.
func ParseChanges(lines []string, c Config) (Config, error) {
	for _, l := range lines {
		word, rest, _ := strings.Cut(strings.TrimSpace(l), " ")
		rest = strings.TrimSpace(rest)
		if rest == "" {
			return c, errkind.InvalidArgument("%s requires at least one argument", strings.ToUpper(word))
		}
		switch strings.ToUpper(word) {
		case "CMD":
			c.Cmd = words(rest)
		case "ENTRYPOINT":
			c.Entrypoint = words(rest)
		case "USER":
			c.User = rest
		case "WORKDIR":
			c.WorkingDir = rest
		case "STOPSIGNAL":
			c.StopSignal = rest
		case "ENV", "LABEL":
			k, v, ok := strings.Cut(rest, "=")
			if !ok {
				k, v, _ = strings.Cut(rest, " ")
			}
			v = strings.Trim(v, `"`)
			if strings.EqualFold(word, "ENV") {
				c.Env = append(c.Env, k+"="+v)
				continue
			}
			if c.Labels == nil {
				c.Labels = map[string]string{}
			}
			c.Labels[k] = v
		case "EXPOSE", "VOLUME":
			set := map[string]struct{}{}
			for _, f := range words2(rest) {
				if strings.EqualFold(word, "EXPOSE") && !strings.Contains(f, "/") {
					f += "/tcp"
				}
				set[f] = struct{}{}
			}
			if strings.EqualFold(word, "EXPOSE") {
				c.ExposedPorts = set
			} else {
				c.Volumes = set
			}
		default:
			return c, errkind.InvalidArgument("dockerfile parse error on line 1: unknown instruction: %s", strings.ToUpper(word))
		}
	}
	return c, nil
}

// words reads the exec form, or wraps the shell form.
func words(s string) []string {
	var list []string
	if json.Unmarshal([]byte(s), &list) == nil {
		return list
	}
	return []string{"/bin/sh", "-c", s}
}

func words2(s string) []string {
	var list []string
	if json.Unmarshal([]byte(s), &list) == nil {
		return list
	}
	return strings.Fields(s)
}
