package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/docker/go-units"
	"github.com/spf13/pflag"
)

func byKey(k string) *option {
	for i := range options {
		if o := &options[i]; o.name() == k && o.state != flagOnly {
			return o
		}
	}
	return nil
}

// merge takes the file's values; the rules are dockerd's.
func (c *Config) merge(f *pflag.FlagSet) error {
	raw, err := os.ReadFile(c.File)
	if errors.Is(err, os.ErrNotExist) && !f.Changed("config-file") {
		return nil
	}
	fail := func(err error) error {
		return fmt.Errorf("unable to configure the Docker daemon with file %s: %w", c.File, err)
	}
	if err != nil {
		return fail(err)
	}
	raw = bytes.TrimPrefix(raw, []byte("\xef\xbb\xbf"))
	if len(bytes.TrimSpace(raw)) == 0 {
		return nil // newer daemons take it for {}
	}
	var m map[string]json.RawMessage
	dec := json.NewDecoder(bytes.NewReader(raw))
	if err := dec.Decode(&m); err != nil {
		return fail(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return fail(errors.New("unexpected content after JSON"))
	}
	var unknown, both, notYet []string
	for k, v := range m {
		o := byKey(k)
		switch {
		case o == nil:
			unknown = append(unknown, k)
		case o.state == unsupported:
			notYet = append(notYet, k)
		case !o.keyOnly && f.Changed(o.flag):
			both = append(both, fmt.Sprintf("%s: (from flag: %s, from file: %s)", k, f.Lookup(o.flag).Value, shown(v)))
		}
	}
	for _, x := range []struct {
		list []string
		text string
	}{
		{unknown, "the following directives don't match any configuration option: "},
		{both, "the following directives are specified both as a flag and in the configuration file: "},
		{notYet, "the following directives are known but not supported yet: "},
	} {
		if len(x.list) > 0 {
			slices.Sort(x.list)
			return fail(errors.New(x.text + strings.Join(x.list, ", ")))
		}
	}
	for k, v := range m {
		if err := c.set(f, byKey(k), v); err != nil {
			return fail(err)
		}
		c.inFile[k] = true
	}
	return nil
}

// shown is a value of the file as dockerd prints it.
func shown(raw json.RawMessage) string {
	var v any
	_ = json.Unmarshal(raw, &v) // nil is printed
	return fmt.Sprint(v)
}

// into decodes a value of the type that the key has.
func into[T any](key string, raw json.RawMessage) (v T, err error) {
	err = json.Unmarshal(raw, &v)
	var te *json.UnmarshalTypeError
	if errors.As(err, &te) {
		err = fmt.Errorf("json: cannot unmarshal %s into Go struct field Config.%s of type %s", te.Value, key, te.Type)
	}
	return v, err
}

// set gives an option the value of the file.
func (c *Config) set(f *pflag.FlagSet, o *option, raw json.RawMessage) error {
	k := o.name()
	var texts []string
	var err error
	switch {
	case string(raw) == "null": // as if it were not there
		return nil
	case k == "default-address-pools":
		return c.setPools(raw)
	case k == "runtimes":
		return c.setRuntimes(raw)
	case k == "default-ulimits":
		return c.setUlimits(raw)
	case k == "features":
		c.Features, err = into[Switches](k, raw)
		return err
	case k == "log-opts":
		c.LogOpts, err = into[Map](k, raw)
		return err
	case k == "default-shm-size":
		var n int64
		if json.Unmarshal(raw, &n) == nil {
			c.ShmSize = Bytes(n)
			return nil
		}
		s, err := into[string](k, raw)
		if err != nil {
			return err
		}
		if c.ShmSize.Set(s) != nil {
			return fmt.Errorf("invalid size: %q", s)
		}
		return nil
	case o.shape == truth:
		var v bool
		v, err = into[bool](k, raw)
		texts = []string{fmt.Sprint(v)}
	case o.shape == number:
		var v int
		v, err = into[int](k, raw)
		texts = []string{fmt.Sprint(v)}
	case o.shape == list:
		texts, err = into[[]string](k, raw)
	default:
		var v string
		v, err = into[string](k, raw)
		texts = []string{v}
	}
	if err != nil || o.keyOnly {
		return err
	}
	for _, t := range texts {
		if err := f.Lookup(o.flag).Value.Set(t); err != nil {
			return fmt.Errorf("configuration validation from file failed: %w", err)
		}
	}
	return nil
}

func (c *Config) setPools(raw json.RawMessage) error {
	v, err := into[[]struct {
		Base string `json:"base"`
		Size int    `json:"size"`
	}]("default-address-pools", raw)
	if err != nil {
		return err
	}
	for _, p := range v {
		if err := c.Pools.Set(fmt.Sprintf("base=%s,size=%d", p.Base, p.Size)); err != nil {
			return err
		}
	}
	return nil
}

func (c *Config) setRuntimes(raw json.RawMessage) error {
	v, err := into[map[string]Runtime]("runtimes", raw)
	if err != nil {
		return err
	}
	for name := range v {
		if name == stockRuntime {
			return fmt.Errorf("configuration validation from file failed: runtime name '%s' is reserved", name)
		}
	}
	c.Runtimes = v
	return nil
}

func (c *Config) setUlimits(raw json.RawMessage) error {
	v, err := into[map[string]struct {
		Name       string
		Soft, Hard int64
	}]("default-ulimits", raw)
	if err != nil {
		return err
	}
	for name, u := range v {
		l := units.Ulimit{Name: name, Soft: u.Soft, Hard: u.Hard}
		if u.Name != "" && u.Name != name {
			return fmt.Errorf("default-ulimits: %s is named %s", name, u.Name)
		}
		if err := c.Ulimits.Set(l.String()); err != nil {
			return err
		}
	}
	return nil
}
