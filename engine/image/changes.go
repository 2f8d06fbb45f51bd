package image

import (
	"encoding/json"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/sys/signal"

	"github.com/berthd/berth/engine/internal/errkind"
)

// changer applies instructions to a configuration.
type changer struct {
	*Config
	cmdSet bool // an ENTRYPOINT drops a Cmd from before the changes, not one of them
}

// changes are the instructions that a commit or an import takes; each gets what stands behind its name.
var changes = map[string]func(c *changer, rest string) error{
	"CMD": func(c *changer, rest string) error {
		c.Cmd, c.cmdSet = c.argv(rest, true), true
		return nil
	},
	"ENTRYPOINT": func(c *changer, rest string) error {
		c.Entrypoint = c.argv(rest, false)
		if !c.cmdSet {
			c.Cmd = nil
		}
		return nil
	},
	"ENV": func(c *changer, rest string) error {
		return c.pairs("ENV", rest, func(k, v string) { c.Env = setEnv(c.Env, k, v) })
	},
	"LABEL": func(c *changer, rest string) error {
		c.Labels = maps.Clone(c.Labels)
		if c.Labels == nil {
			c.Labels = map[string]string{}
		}
		return c.pairs("LABEL", rest, func(k, v string) { c.Labels[k] = v })
	},
	"EXPOSE":      (*changer).expose,
	"VOLUME":      (*changer).volume,
	"HEALTHCHECK": (*changer).healthcheck,
	"ONBUILD":     (*changer).onBuild,
	"USER": func(c *changer, rest string) (err error) {
		c.User, err = c.one("USER", rest)
		return err
	},
	"WORKDIR": func(c *changer, rest string) error {
		dir, err := c.one("WORKDIR", rest)
		if err == nil {
			if !path.IsAbs(dir) {
				dir = path.Join("/", c.WorkingDir, dir)
			}
			c.WorkingDir = path.Clean(dir)
		}
		return err
	},
	"STOPSIGNAL": func(c *changer, rest string) error {
		word, err := c.one("STOPSIGNAL", rest)
		if err != nil {
			return err
		}
		if _, err := signal.ParseSignal(word); err != nil {
			return errkind.InvalidArgument("invalid signal: %s", word)
		}
		c.StopSignal = word
		return nil
	},
}

// ParseChanges applies Dockerfile instructions to a configuration, which itself stays as it is; a line may hold several.
//
// Errors: ErrInvalidArgument in dockerd's words.
func ParseChanges(lines []string, c Config) (Config, error) {
	ch := changer{Config: &c}
	list := instructions(strings.Join(lines, "\n"))
	if len(lines) > 0 && len(list) == 0 {
		return c, errkind.InvalidArgument("file with no instructions")
	}
	for _, l := range list {
		word, rest := l, ""
		if i := strings.IndexAny(l, " \t"); i > 0 {
			word, rest = l[:i], strings.TrimSpace(l[i:])
		}
		f := changes[strings.ToUpper(word)]
		if f == nil {
			return c, errkind.InvalidArgument("%s is not a valid change command", strings.ToUpper(word))
		}
		if err := f(&ch, rest); err != nil {
			return c, err
		}
	}
	return c, nil
}

// env looks a variable up.
func (c *changer) env(k string) string {
	for _, e := range c.Env {
		if name, v, _ := strings.Cut(e, "="); name == k {
			return v
		}
	}
	return ""
}

func setEnv(env []string, k, v string) []string {
	env = slices.Clone(env)
	for i, e := range env {
		if name, _, _ := strings.Cut(e, "="); name == k {
			env[i] = k + "=" + v
			return env
		}
	}
	return append(env, k+"="+v)
}

// argv reads the exec form, or wraps the shell form.
func (c *changer) argv(rest string, always bool) []string {
	var list []string
	if json.Unmarshal([]byte(rest), &list) == nil && list != nil {
		if len(list) == 0 && !always {
			return nil
		}
		return list
	}
	if rest == "" && !always {
		return nil
	}
	shell := c.Shell
	if len(shell) == 0 {
		shell = []string{"/bin/sh", "-c"}
	}
	out := slices.Clone(shell)
	if rest != "" {
		out = append(out, rest)
	}
	return out
}

// one reads an instruction of a single argument.
func (c *changer) one(word, rest string) (string, error) {
	if rest == "" {
		return "", errkind.InvalidArgument("%s requires exactly one argument", word)
	}
	return expand(rest, c.env)
}

// pairs reads k=v k2=v2, or the old form k v. Values see the variables as they were before the instruction.
func (c *changer) pairs(word, rest string, set func(k, v string)) error {
	if rest == "" {
		return errkind.InvalidArgument("%s requires at least one argument", word)
	}
	words := splitWords(rest)
	if !strings.Contains(words[0], "=") {
		if len(words) < 2 {
			return errkind.InvalidArgument("%s must have two arguments", word)
		}
		words = []string{words[0] + "=" + strings.TrimSpace(rest[len(words[0]):])}
	}
	before := *c.Config
	old := changer{Config: &before}
	for _, w := range words {
		k, v, ok := strings.Cut(w, "=")
		if !ok {
			return errkind.InvalidArgument("Syntax error - can't find = in %q. Must be of the form: name=value", w)
		}
		k, err := expand(k, old.env)
		if err == nil {
			v, err = expand(v, old.env)
		}
		if err != nil {
			return err
		}
		if k == "" {
			return errkind.InvalidArgument("%s names can not be blank", word)
		}
		set(k, v)
	}
	return nil
}

// list reads the exec form or words.
func (c *changer) list(word, rest string, json1 bool) ([]string, error) {
	if rest == "" {
		return nil, errkind.InvalidArgument("%s requires at least one argument", word)
	}
	var list []string
	if !json1 || json.Unmarshal([]byte(rest), &list) != nil {
		list = splitWords(rest)
	}
	for i, w := range list {
		v, err := expand(w, c.env)
		if err != nil {
			return nil, err
		}
		list[i] = v
	}
	return list, nil
}

func (c *changer) volume(rest string) error {
	list, err := c.list("VOLUME", rest, true)
	if err != nil {
		return err
	}
	c.Volumes = maps.Clone(c.Volumes)
	if c.Volumes == nil {
		c.Volumes = map[string]struct{}{}
	}
	for _, v := range list {
		if v = strings.TrimSpace(v); v == "" {
			return errkind.InvalidArgument("VOLUME specified can not be an empty string")
		}
		c.Volumes[v] = struct{}{}
	}
	return nil
}

func (c *changer) expose(rest string) error {
	list, err := c.list("EXPOSE", rest, false)
	if err != nil {
		return err
	}
	c.ExposedPorts = maps.Clone(c.ExposedPorts)
	if c.ExposedPorts == nil {
		c.ExposedPorts = map[string]struct{}{}
	}
	for _, p := range list {
		num, proto, ok := strings.Cut(p, "/")
		if !ok {
			proto = "tcp"
		}
		first, last, ranged := strings.Cut(num, "-")
		if !ranged {
			last = first
		}
		a, aerr := strconv.ParseUint(first, 10, 16)
		z, zerr := strconv.ParseUint(last, 10, 16)
		if aerr != nil || zerr != nil || a > z {
			return errkind.InvalidArgument("Invalid containerPort: %s", num)
		}
		if proto = strings.ToLower(proto); proto != "tcp" && proto != "udp" && proto != "sctp" {
			return errkind.InvalidArgument("Invalid proto: %s", proto)
		}
		for n := a; n <= z; n++ {
			c.ExposedPorts[strconv.FormatUint(n, 10)+"/"+proto] = struct{}{}
		}
	}
	return nil
}

func (c *changer) onBuild(rest string) error {
	word, _, _ := strings.Cut(rest, " ")
	switch word = strings.ToUpper(word); word {
	case "":
		return errkind.InvalidArgument("ONBUILD requires at least one argument")
	case "ONBUILD":
		return errkind.InvalidArgument("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
	case "MAINTAINER", "FROM":
		return errkind.InvalidArgument("%s isn't allowed as an ONBUILD trigger", word)
	}
	c.OnBuild = append(slices.Clone(c.OnBuild), rest)
	return nil
}

func (c *changer) healthcheck(rest string) error {
	h := &Healthcheck{}
	durations := map[string]*time.Duration{"interval": &h.Interval, "timeout": &h.Timeout, "start-period": &h.StartPeriod, "start-interval": &h.StartInterval}
	for strings.HasPrefix(rest, "--") {
		word, after, _ := strings.Cut(rest, " ")
		rest = strings.TrimSpace(after)
		k, v, _ := strings.Cut(strings.TrimPrefix(word, "--"), "=")
		var err error
		switch d := durations[k]; {
		case d != nil:
			*d, err = time.ParseDuration(v)
		case k == "retries":
			h.Retries, err = strconv.Atoi(v)
		default:
			return errkind.InvalidArgument("Unknown flag: %s", k)
		}
		if err != nil {
			return errkind.InvalidArgument("%w", err)
		}
	}
	word, argv, _ := strings.Cut(rest, " ")
	argv = strings.TrimSpace(argv)
	switch strings.ToUpper(word) {
	case "":
		return errkind.InvalidArgument("HEALTHCHECK requires at least one argument")
	case "NONE":
		if argv != "" {
			return errkind.InvalidArgument("HEALTHCHECK NONE takes no arguments")
		}
		h = &Healthcheck{Test: []string{"NONE"}}
	case "CMD":
		var list []string
		switch {
		case argv == "":
			return errkind.InvalidArgument("Missing command after HEALTHCHECK CMD")
		case json.Unmarshal([]byte(argv), &list) == nil:
			h.Test = append([]string{"CMD"}, list...)
		default:
			h.Test = []string{"CMD-SHELL", argv}
		}
	default:
		return errkind.InvalidArgument("Unknown type %q in HEALTHCHECK (try CMD)", strings.ToUpper(word))
	}
	c.Healthcheck = h
	return nil
}
