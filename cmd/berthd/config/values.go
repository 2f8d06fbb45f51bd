package config

import (
	"encoding/csv"
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"
)

// Each type here is a pflag.Value. Texts of values and errors are those that dockerd prints.

type listValue struct {
	p     *[]string
	valid func(string) (string, error)
}

func newList(p *[]string, valid func(string) (string, error)) *listValue { return &listValue{p, valid} }

func (l *listValue) Set(s string) error {
	if l.valid != nil {
		v, err := l.valid(s)
		if err != nil {
			return err
		}
		s = v
	}
	*l.p = append(*l.p, s)
	return nil
}
func (l *listValue) String() string {
	if l.p == nil {
		return "[]"
	}
	return fmt.Sprint(*l.p)
}
func (*listValue) Type() string { return "list" }

// Map is options of the form key=value.
type Map map[string]string

// Set adds one.
func (m *Map) Set(s string) error {
	if *m == nil {
		*m = Map{}
	}
	k, v, _ := strings.Cut(s, "=")
	(*m)[k] = v
	return nil
}
func (m *Map) String() string { return fmt.Sprint(map[string]string(*m)) }

// Type is for the usage.
func (*Map) Type() string { return "map" }

// Switches are named features, on or off.
type Switches map[string]bool

// Set takes name or name=bool.
func (m *Switches) Set(s string) error {
	if *m == nil {
		*m = Switches{}
	}
	k, v, ok := strings.Cut(s, "=")
	on := true
	if ok {
		var err error
		if on, err = strconv.ParseBool(v); err != nil {
			return err
		}
	}
	(*m)[k] = on
	return nil
}
func (m *Switches) String() string { return fmt.Sprint(map[string]bool(*m)) }

// Type is for the usage.
func (*Switches) Type() string { return "map" }

// Bytes is a size.
type Bytes int64

// Set takes 64m and the like.
func (b *Bytes) Set(s string) error {
	n, err := units.RAMInBytes(s)
	*b = Bytes(n)
	return err
}
func (b *Bytes) String() string { return units.BytesSize(float64(*b)) }

// Type is for the usage.
func (*Bytes) Type() string { return "bytes" }

// Ulimits are by name.
type Ulimits map[string]units.Ulimit

// Set takes name=soft:hard.
func (u *Ulimits) Set(s string) error {
	l, err := units.ParseUlimit(s)
	if err != nil {
		return err
	}
	if *u == nil {
		*u = Ulimits{}
	}
	(*u)[l.Name] = *l
	return nil
}
func (u *Ulimits) String() string {
	out := []string{}
	for _, k := range slices.Sorted(maps.Keys(*u)) {
		l := (*u)[k]
		out = append(out, l.String())
	}
	return fmt.Sprint(out)
}

// Type is for the usage.
func (*Ulimits) Type() string { return "ulimit" }

// Pool is a range that networks of a size are cut from.
type Pool struct {
	Base netip.Prefix
	Size int // prefix length
}

func (p Pool) String() string { return p.Base.String() + " " + strconv.Itoa(p.Size) }

// Pools are in the order they are used.
type Pools []Pool

// Set takes base=10.0.0.0/8,size=24.
func (p *Pools) Set(s string) error {
	fields, err := csv.NewReader(strings.NewReader(s)).Read()
	if err != nil {
		return err
	}
	var pool Pool
	for _, f := range fields {
		k, v, ok := strings.Cut(strings.ToLower(f), "=")
		switch {
		case !ok:
			return fmt.Errorf("invalid field '%s' must be a key=value pair", f)
		case k == "base":
			if pool.Base, err = netip.ParsePrefix(v); err != nil {
				return fmt.Errorf("invalid base prefix %q: %w", v, err)
			}
		case k == "size":
			if pool.Size, err = strconv.Atoi(v); err != nil {
				return fmt.Errorf("invalid size value: %q (must be integer): %w", s, err)
			}
		default:
			return fmt.Errorf("unexpected key '%s' in '%s'", k, f)
		}
	}
	*p = append(*p, pool)
	return nil
}
func (p *Pools) String() string {
	out := []string{}
	for _, x := range *p {
		out = append(out, x.String())
	}
	return strings.Join(out, ", ")
}

// Type is for the usage.
func (*Pools) Type() string { return "pool-options" }

// Runtime is an OCI runtime or, by type, a containerd shim.
type Runtime struct {
	Path    string         `json:"path"`
	Args    []string       `json:"runtimeArgs"`
	Type    string         `json:"runtimeType"`
	Options map[string]any `json:"options"`
}

// stockRuntime is built in.
const stockRuntime = "runc"

// Runtimes are by name.
type Runtimes map[string]Runtime

// Set takes name=path.
func (r *Runtimes) Set(s string) error {
	k, v, ok := strings.Cut(s, "=")
	if !ok || k == "" || v == "" {
		return fmt.Errorf("invalid runtime argument: %s", s)
	}
	k = strings.ToLower(strings.TrimSpace(k))
	if k == stockRuntime {
		return fmt.Errorf("runtime name '%s' is reserved", k)
	}
	if _, ok := (*r)[k]; ok {
		return fmt.Errorf("runtime '%s' was already defined", k)
	}
	if *r == nil {
		*r = Runtimes{}
	}
	(*r)[k] = Runtime{Path: strings.TrimSpace(v)}
	return nil
}
func (r *Runtimes) String() string { return fmt.Sprint(slices.Sorted(maps.Keys(*r))) }

// Type is for the usage.
func (*Runtimes) Type() string { return "runtime" }

// ignoredValue takes anything; of a truth only truths.
type ignoredValue struct {
	bool bool
	s    string
}

func (i *ignoredValue) Set(s string) error {
	if i.bool {
		if _, err := strconv.ParseBool(s); err != nil {
			return err
		}
	}
	i.s = s
	return nil
}
func (i *ignoredValue) String() string { return i.s }
func (i *ignoredValue) Type() string   { return "string" }

func validHost(s string) (string, error) {
	scheme, addr, ok := strings.Cut(s, "://")
	if !ok || !slices.Contains([]string{"unix", "tcp", "fd"}, scheme) {
		return "", fmt.Errorf("invalid bind address (%s): should start with unix://, tcp:// or fd://", s)
	}
	if scheme == "unix" && addr == "" {
		return "", fmt.Errorf("invalid unix address: %s", addr)
	}
	if scheme != "tcp" {
		return s, nil
	}
	u, err := url.Parse(s)
	if err != nil {
		return "", fmt.Errorf("invalid bind address (%s): %w", s, err)
	}
	if u.Path != "" {
		return "", fmt.Errorf("invalid bind address (%s): should not contain a path element", s)
	}
	if u.Port() != "" {
		if p, err := strconv.Atoi(u.Port()); err != nil || p > 65535 {
			return "", fmt.Errorf("invalid bind address (%s): invalid port: %s", s, u.Port())
		}
	}
	return s, nil
}

func validIP(s string) (string, error) {
	a, err := netip.ParseAddr(strings.TrimSpace(s))
	if err != nil {
		return "", fmt.Errorf("%s is not an ip address", s)
	}
	return a.String(), nil
}

var domain = regexp.MustCompile(`^(\.|([a-zA-Z0-9_]([a-zA-Z0-9_-]*[a-zA-Z0-9_])?)(\.[a-zA-Z0-9_]([a-zA-Z0-9_-]*[a-zA-Z0-9_])?)*\.?)$`)

func validDomain(s string) (string, error) {
	if s = strings.TrimSpace(s); !domain.MatchString(s) || len(s) > 255 {
		return "", fmt.Errorf("%s is not a valid domain", s)
	}
	return s, nil
}

func validLabel(s string) (string, error) {
	if k, _, ok := strings.Cut(s, "="); !ok || k == "" {
		return "", fmt.Errorf("bad attribute format: %s", s)
	}
	return s, nil
}

func validMirror(s string) (string, error) {
	if scheme, _, ok := strings.Cut(s, "://"); !ok || scheme == "" {
		return "", fmt.Errorf("invalid mirror: no scheme specified for %q: must use either 'https://' or 'http://'", s)
	}
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return "", fmt.Errorf("invalid mirror: %q is not a valid URI: %w", s, err)
	case u.Scheme != "http" && u.Scheme != "https":
		return "", fmt.Errorf("invalid mirror: unsupported scheme %q in %q: must use either 'https://' or 'http://'", u.Scheme, s)
	case u.RawQuery != "" || u.Fragment != "":
		return "", fmt.Errorf("invalid mirror: query or fragment at end of the URI %q", s)
	case strings.Trim(u.Path, "/") != "":
		return "", fmt.Errorf("invalid mirror: path, query, or fragment at end of the URI %q", s)
	case u.User != nil:
		return "", fmt.Errorf("invalid mirror: username/password not allowed in URI %q", u.Redacted())
	}
	return strings.TrimSuffix(s, "/") + "/", nil
}

func validInsecure(s string) (string, error) {
	for _, p := range []string{"http://", "https://"} {
		s = strings.TrimPrefix(s, p)
	}
	if strings.Contains(s, "://") {
		return "", fmt.Errorf("insecure registry %s should not contain '://'", s)
	}
	return s, nil
}

func certFile(name string) string {
	dir := os.Getenv("DOCKER_CERT_PATH")
	if dir == "" {
		home, _ := os.UserHomeDir() // no home: relative to here, as dockerd
		dir = filepath.Join(home, ".docker")
	}
	return filepath.Join(dir, name)
}
