package conformance

import (
	"context"
	_ "embed"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
)

// looks prints, in sections, what a process can see of how its container was made.
const looks = `
section() { echo "== $1"; }
section status; grep -E '^(Uid|Gid|Groups|Cap...|NoNewPrivs|Seccomp):' /proc/self/status
section mounts; cat /proc/self/mountinfo
section masked; for p in /proc/acpi /proc/asound /proc/interrupts /proc/kcore /proc/keys /proc/latency_stats /proc/scsi /proc/timer_list /proc/timer_stats /proc/sched_debug /sys/firmware /sys/devices/virtual/powercap; do
 if [ -d $p ]; then echo "$p directory of $(ls $p 2>/dev/null | wc -l)"; elif [ -e $p ]; then echo "$p file of $(head -c 1 $p 2>/dev/null | wc -c)"; else echo "$p none"; fi; done
section written; for p in /proc/sys/kernel/domainname /proc/sysrq-trigger /proc/irq/default_smp_affinity /proc/bus /proc/fs /sys/kernel /sys/fs/cgroup /etc/hosts /etc/resolv.conf /etc/hostname / /dev /dev/shm /tmp; do if [ -w $p ]; then echo "$p yes"; else echo "$p no"; fi; done
section devices; find /dev -exec stat -c '%n %F %a %u:%g %t:%T' {} + | sort
section sysctls; for s in net/ipv4/ip_unprivileged_port_start net/ipv4/ping_group_range net/ipv4/ip_forward net/ipv6/conf/all/disable_ipv6 net/ipv6/conf/eth0/disable_ipv6 kernel/shmmax kernel/msgmax fs/mqueue/msg_max; do echo "$s $(cat /proc/sys/$s 2>&1)"; done
section environment; env | sort
section limits; cat /proc/self/limits
section cgroups; cat /proc/self/cgroup; ls /sys/fs/cgroup
section namespaces; for n in cgroup ipc mnt net pid user uts; do [ -e /proc/self/ns/$n ] && echo $n; done; cat /proc/self/uid_map
section process; id; pwd; umask; cat /proc/self/oom_score_adj; ls /proc/self/fd/0 /proc/self/fd/1 /proc/self/fd/2; cat /proc/1/comm
section files; for f in /.dockerenv /etc/hosts /etc/hostname /etc/resolv.conf /etc/mtab; do stat -c '%n %F %a %u:%g' $f 2>&1; done; cat /etc/hosts; ls -ld / /proc /sys /dev /tmp | awk '{print $1, $3, $4, $NF}'
`

// variants are the containers that are looked into.
func variants() map[string][2]obj {
	user := sh(looks)
	user["User"] = "1000:1000"
	return map[string][2]obj{
		"default":      {sh(looks), obj{}},
		"privileged":   {sh(looks), obj{"Privileged": true}},
		"unconfined":   {sh(looks), obj{"SecurityOpt": []string{"seccomp=unconfined", "apparmor=unconfined"}, "MaskedPaths": []string{}, "ReadonlyPaths": []string{}, "CapAdd": []string{"SYS_ADMIN", "SYS_PTRACE"}, "IpcMode": "host", "PidMode": "host"}},
		"user":         {user, obj{}},
		"read-only":    {sh(looks), obj{"ReadonlyRootfs": true}},
		"host network": {sh(looks), obj{"NetworkMode": "host"}},
		"limited":      {sh(looks), obj{"Memory": 64 << 20, "PidsLimit": 50, "CapAdd": []string{"NET_ADMIN"}, "CapDrop": []string{"CHOWN"}, "SecurityOpt": []string{"no-new-privileges"}, "Ulimits": []obj{{"Name": "nofile", "Soft": 100, "Hard": 200}}}},
	}
}

// What differs by nature: ids, addresses, numbers of mounts, where engines keep their files.
var volatile = []struct {
	re *regexp.Regexp
	to string
}{
	{regexp.MustCompile(`[0-9a-f]{64}`), "ID"},
	{regexp.MustCompile(`\b[0-9a-f]{12}\b`), "SHORT"},
	{regexp.MustCompile(`\b(172|192)\.\d+\.\d+\.\d+\b`), "ADDRESS"},
	{regexp.MustCompile(`(lowerdir|upperdir|workdir)=[^, ]*`), "$1=PATH"},
	{regexp.MustCompile(`:/[^ \n]*/ID`), ":/GROUP/ID"},
}

// mountLine keeps of a line of mountinfo what an engine decides: place, options, propagation, type, source, options of the file
// system. Numbers and the root on the host go.
func mountLine(line string) string {
	f := strings.Fields(line)
	dash := slices.Index(f, "-")
	if len(f) < 10 || dash < 0 {
		return line
	}
	optional := ""
	for _, o := range f[6:dash] {
		word, _, _ := strings.Cut(o, ":")
		optional += " " + word
	}
	return strings.Join([]string{f[4], f[5] + optional, f[dash+1], strings.Join(f[dash+3:], " ")}, " ")
}

// look runs the script in a container and gives its lines by section, in an order that does not depend on chance.
func (t *T) look(v [2]obj) (map[string][]string, error) {
	code, text, err := t.output(v[0], v[1])
	if err != nil {
		return nil, err
	}
	if code != 0 {
		return nil, fmt.Errorf("the script ended with %d: %s", code, text)
	}
	out, section := map[string][]string{}, ""
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if name, ok := strings.CutPrefix(line, "== "); ok {
			section = name
			continue
		}
		if section == "mounts" {
			line = mountLine(line)
		}
		for _, v := range volatile {
			line = v.re.ReplaceAllString(line, v.to)
		}
		out[section] = append(out[section], line)
	}
	slices.Sort(out["mounts"])
	return out, nil
}

//go:embed inside.txt
var insideText string

// expected reads the differences that are meant: variant, section and a regular expression for the line, separated by |, then
// the reason. The line begins with - for what only the first engine shows and with + for what only the second does.
func expected() (func(variant, section, line string) bool, error) {
	type rule struct {
		variant, section string
		re               *regexp.Regexp
	}
	var rules []rule
	for i, l := range strings.Split(insideText, "\n") {
		if l = strings.TrimSpace(l); l == "" || strings.HasPrefix(l, "#") {
			continue
		}
		f := strings.Split(l, " | ")
		if len(f) != 4 {
			return nil, fmt.Errorf("inside.txt line %d: variant | section | line | reason", i+1)
		}
		re, err := regexp.Compile("^" + f[2] + "$")
		if err != nil {
			return nil, fmt.Errorf("inside.txt line %d: %w", i+1, err)
		}
		rules = append(rules, rule{f[0], f[1], re})
	}
	return func(variant, section, line string) bool {
		return slices.ContainsFunc(rules, func(r rule) bool {
			return (r.variant == "*" || r.variant == variant) && r.section == section && r.re.MatchString(line)
		})
	}, nil
}

// Inside compares what a container sees on two endpoints and writes the differences. It returns how many there are that are
// not expected.
func Inside(ctx context.Context, w io.Writer, host, against string, image func() io.Reader) (int, error) {
	ok, err := expected()
	if err != nil {
		return 0, err
	}
	var ts [2]*T
	for i, h := range []string{host, against} {
		c, err := NewClient(h)
		if err != nil {
			return 0, err
		}
		c.ctx = ctx
		if err := c.load(image()); err != nil {
			return 0, err
		}
		ts[i] = &T{Client: c.forCase(i, "1.41")}
		defer func() { _ = ts[i].cleanUp() }() // its own containers; what is left is seen by the engine's owner
	}
	n, compared := 0, 0
	vs := variants()
	for name, v := range vs {
		var seen [2]map[string][]string
		var errs [2]error
		for i, t := range ts {
			seen[i], errs[i] = t.look(v)
		}
		if errs[1] != nil {
			// A host may not allow what the other engine wants to do there.
			if _, err := fmt.Fprintf(w, "%s cannot be compared: %v\n", name, errs[1]); err != nil {
				return n, err
			}
		} else {
			compared++
		}
		if errs[0] != nil {
			return n, fmt.Errorf("%s: %w", name, errs[0])
		}
		if errs[1] != nil {
			continue
		}
		for section := range seen[0] {
			for _, d := range differences(seen[0][section], seen[1][section]) {
				if ok(name, section, d) {
					continue
				}
				n++
				if _, err := fmt.Fprintf(w, "%s | %s | %s\n", name, section, d); err != nil {
					return n, err
				}
			}
		}
	}
	_, err = fmt.Fprintf(w, "%d containers compared, %d differences\n", compared, n)
	return n, err
}

// differences are the lines that only one side has, with - for the first and + for the second.
func differences(a, b []string) (out []string) {
	for _, l := range a {
		if !slices.Contains(b, l) {
			out = append(out, "-"+l)
		}
	}
	for _, l := range b {
		if !slices.Contains(a, l) {
			out = append(out, "+"+l)
		}
	}
	return out
}
