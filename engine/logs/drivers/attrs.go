package drivers

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"text/template"

	"github.com/berthd/berth/engine/logs"
)

// Attrs picks what the options labels, labels-regex, env, env-regex and, if there is one, tag ask for; nil for nothing.
func Attrs(i Info) (map[string]string, error) {
	out := map[string]string{}
	env := map[string]string{}
	for _, kv := range i.Env {
		k, v, _ := strings.Cut(kv, "=")
		env[k] = v
	}
	for option, from := range map[string]map[string]string{"labels": i.Labels, "env": env} {
		for _, k := range strings.Split(i.Options[option], ",") {
			if v, ok := from[k]; ok && k != "" {
				out[k] = v
			}
		}
		pattern := i.Options[option+"-regex"]
		if pattern == "" {
			continue
		}
		re, err := regexp.Compile(pattern)
		if err != nil {
			return nil, err
		}
		for k, v := range from {
			if re.MatchString(k) {
				out[k] = v
			}
		}
	}
	if i.Options["tag"] != "" {
		t, err := Tag(i, "")
		if err != nil {
			return nil, err
		}
		out["tag"] = t
	}
	if len(out) == 0 {
		return nil, nil
	}
	return out, nil
}

// shortID is how tags show ids.
func shortID(id string) string {
	_, hex, ok := strings.Cut(id, ":")
	if !ok {
		hex = id
	}
	return hex[:min(12, len(hex))]
}

// tagData is what templates of tags may name. Source: docker's documentation of log tags.
type tagData struct{ i Info }

func (d tagData) ID() string          { return shortID(d.i.ContainerID) }
func (d tagData) FullID() string      { return d.i.ContainerID }
func (d tagData) Name() string        { return d.i.Name }
func (d tagData) ImageID() string     { return shortID(d.i.ImageID) }
func (d tagData) ImageFullID() string { return d.i.ImageID }
func (d tagData) ImageName() string   { return d.i.ImageName }
func (d tagData) DaemonName() string  { return "docker" }
func (d tagData) Command() string     { return d.i.Command }
func (d tagData) Hostname() string    { return d.i.Hostname }

var tagFuncs = template.FuncMap{
	"json":  func(v any) (string, error) { b, err := json.Marshal(v); return string(b), err },
	"split": strings.Split, "join": strings.Join, "lower": strings.ToLower, "upper": strings.ToUpper, "title": strings.ToTitle,
	"pad": func(s string, pre, post int) string {
		if s == "" {
			return s
		}
		return strings.Repeat(" ", pre) + s + strings.Repeat(" ", post)
	},
	"truncate": func(s string, n int) string { return s[:min(n, len(s))] },
}

// Tag renders the option tag; otherwise is the template when it is not given.
func Tag(i Info, otherwise string) (string, error) {
	text := i.Options["tag"]
	if text == "" {
		text = otherwise
	}
	t, err := template.New("log-tag").Funcs(tagFuncs).Parse(text)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	if err := t.Execute(&b, tagData{i}); err != nil {
		return "", fmt.Errorf("log tag: %w", err)
	}
	return b.String(), nil
}

// severity of a record in syslog's numbers.
func severity(r *logs.Record) int {
	if r.Stream == logs.Stderr {
		return 3
	}
	return 6
}

func text(r *logs.Record) string { return strings.TrimSuffix(string(r.Line), "\n") }
