package container

import (
	"strconv"
	"strings"

	"github.com/berthd/berth/engine/internal/errkind"
)

// SecurityOptions are the words of SecurityOpt, understood.
type SecurityOptions struct {
	NoNewPrivileges bool
	Seccomp         string   // a profile's JSON, "unconfined", "builtin"; "" = the daemon's default
	AppArmor        string   // a profile's name, "unconfined"; "" = the default
	Label           []string // for SELinux; no effect where it is off
	WritableCgroups *bool    // nil: as privileges say
}

// ParseSecurityOpt reads SecurityOpt; o holds the daemon's defaults.
//
// Errors have dockerd's texts and, as there, no kind of their own.
func ParseSecurityOpt(opts []string, o SecurityOptions) (SecurityOptions, error) {
	for _, opt := range opts {
		switch opt {
		case "no-new-privileges":
			o.NoNewPrivileges = true
			continue
		case "writable-cgroups":
			yes := true
			o.WritableCgroups = &yes
			continue
		case "disable":
			o.Label = append(o.Label, opt)
			continue
		}
		k, v, ok := strings.Cut(opt, "=")
		if !ok { // the old separator
			k, v, ok = strings.Cut(opt, ":")
		}
		if !ok {
			return o, errkind.Internal("invalid --security-opt 1: %q", opt)
		}
		var err error
		switch k {
		case "label":
			o.Label = append(o.Label, v)
		case "apparmor":
			o.AppArmor = v
		case "seccomp":
			o.Seccomp = v
		case "no-new-privileges":
			o.NoNewPrivileges, err = strconv.ParseBool(v)
		case "writable-cgroups":
			var yes bool
			yes, err = strconv.ParseBool(v)
			o.WritableCgroups = &yes
		default:
			err = strconv.ErrSyntax
		}
		if err != nil {
			return o, errkind.Internal("invalid --security-opt 2: %q", opt)
		}
	}
	return o, nil
}

// defaultSecurityOpt is what a container without a label option gets shown: shared host namespaces and privileges cannot
// be confined by labels.
func defaultSecurityOpt(s *Spec) []string {
	for _, o := range s.Security.SecurityOpt {
		if k, _, _ := strings.Cut(o, "="); k == "label" {
			return s.Security.SecurityOpt
		}
	}
	if s.Security.Privileged || s.Namespaces.IPC == "host" || s.Namespaces.PID == "host" {
		return append(append([]string{}, s.Security.SecurityOpt...), "label=disable")
	}
	return s.Security.SecurityOpt
}
