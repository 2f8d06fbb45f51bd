package conformance

import (
	"archive/tar"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// member is one entry of an archive to send.
type member struct {
	name string
	kind byte
	body string // or where a link leads
}

func pack(ms ...member) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range ms {
		h := tar.Header{Name: m.name, Typeflag: m.kind, Mode: 0o644, Uid: 7, Gid: 8, Format: tar.FormatPAX}
		switch m.kind {
		case tar.TypeReg:
			h.Size = int64(len(m.body))
		case tar.TypeDir:
			h.Mode = 0o755
		default:
			h.Linkname, m.body = m.body, ""
		}
		// Writing to memory does not fail, and the headers are ours.
		_ = w.WriteHeader(&h)
		_, _ = io.WriteString(w, m.body)
	}
	_ = w.Close() // as above
	return b.Bytes()
}

// entries lists an archive: name, kind, mode, owner and what a link leads to.
func entries(b []byte) (out []string, err error) {
	for r := tar.NewReader(bytes.NewReader(b)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return out, err
		}
		s := fmt.Sprintf("%s %o %d:%d", h.Name, h.Mode&0o7777, h.Uid, h.Gid)
		if h.Linkname != "" {
			s += " -> " + h.Linkname
		}
		out = append(out, s)
	}
}

// files is a container to copy from and to.
type files struct {
	*T
	id string
}

func (f *files) path(p string) string { return "/containers/" + f.id + "/archive?path=" + p }

// has fetches a path and compares the archive's list.
func (f *files) has(p string, want ...string) func() error {
	return func() error {
		a, err := f.expect("GET", f.path(p), nil, 200, "")
		if err != nil {
			return err
		}
		got, err := entries(a.Body)
		if err == nil && !slices.Equal(got, want) {
			err = fmt.Errorf("%s: %q, want %q", p, got, want)
		}
		return err
	}
}

// stat compares what the header tells of a path.
func (f *files) stat(p, name string, mode float64, target string) func() error {
	return func() error {
		a, err := f.Do("HEAD", f.path(p), nil)
		if err != nil {
			return err
		}
		raw, err := base64.StdEncoding.DecodeString(a.Header.Get("X-Docker-Container-Path-Stat"))
		var got map[string]any
		if err = errors.Join(err, json.Unmarshal(raw, &got)); err != nil || a.Status != 200 {
			return fmt.Errorf("HEAD %s: %d %w", p, a.Status, err)
		}
		if got["name"] != name || got["mode"] != mode || got["linkTarget"] != target {
			return fmt.Errorf("HEAD %s: %s", p, raw)
		}
		return nil
	}
}

// head compares a status.
func (f *files) head(p string, status int) func() error {
	return f.want("HEAD", f.path(p), nil, status, "")
}

// put sends an archive. Older engines answer 500 where newer ones say 400.
func (f *files) put(p string, b []byte, status int, part string) func() error {
	return func() error {
		a, err := f.Do("PUT", f.path(p), io.Reader(bytes.NewReader(b)))
		if err != nil {
			return err
		}
		if a.Status != status && (status != 400 || a.Status != 500) || !strings.Contains(string(a.Body), part) {
			return fmt.Errorf("PUT %s: %d %s, want %d with %q", p, a.Status, a.Body, status, part)
		}
		return nil
	}
}

const (
	dirMode  = 1<<31 | 0o755
	linkMode = 1<<27 | 0o777
)

// looks are the checks that hold for the container's files in every phase.
func (f *files) looks() error {
	d := []string{"d/ 755 0:0", "d/a 750 5:6", "d/broken 777 0:0 -> nowhere", "d/l 777 0:0 -> a", "d/p 644 0:0", "d/sub/ 755 0:0"}
	as := func(name string) (out []string) {
		for _, e := range d {
			out = append(out, name+strings.TrimPrefix(e, "d"))
		}
		return out
	}
	return steps(
		f.has("/d", d...), f.has("d", d...), f.has("/d/", d...), f.has("/d/.", as(".")...), f.has("/dl/", as("dl")...), f.has("/dl/../d/.", as(".")...),
		f.has("/d/a", "a 750 5:6"), f.has("../../d/a", "a 750 5:6"), f.has("/dl/a", "a 750 5:6"), f.has("/d/l", "l 777 0:0 -> a"), f.has("/dl", "dl 777 0:0 -> /d"), f.has("/d/p", "p 644 0:0"),
		f.stat("/d", "d", dirMode, ""), f.stat("/d/.", ".", dirMode, ""), f.stat("/dl", "dl", linkMode, "/d"), f.stat("/dl/", "dl", dirMode, ""), f.stat("/d/l", "l", linkMode, "/d/a"),
		f.stat("/d/broken", "broken", linkMode, "/d/nowhere"), f.stat("/up", "up", linkMode, "/etc"), f.stat("/chain", "chain", linkMode, "/d/a"), f.stat("/", "/", dirMode, ""), f.stat(".", ".", dirMode, ""),
		f.stat("/vol", "vol", dirMode, ""), f.stat("/ro/passwd", "passwd", 0o644, ""), f.stat("/file", "file", 0o644, ""), f.stat("/etc/hosts", "hosts", 0o644, ""),
		f.head("/nope", 404), f.head("/nope/x", 404), f.head("/d/broken/", 404), f.head("/d/a/", 500), f.head("/d/a/x", 500), f.head("/proc/version", 404), f.head("/dev/null", 404), f.head("/tm/x", 404),
		f.want("GET", f.path("/nope"), nil, 404, "Could not find the file /nope in container "+f.id), f.want("GET", f.path(""), nil, 400, "bad parameter: path"),
		f.want("GET", f.path("/d/a/x"), nil, 500, "/d/a/x: not a directory"),
	)
}

func (f *files) takes() error {
	tree := pack(member{"n", tar.TypeDir, ""}, member{"n/f", tar.TypeReg, "text"}, member{"n/s", tar.TypeSymlink, "f"})
	return steps(
		f.put("/in", tree, 200, ""), f.has("/in/n", "n/ 755 7:8", "n/f 644 7:8", "n/s 777 7:8 -> f"), f.put("/vol", tree, 200, ""), f.has("/vol/n/f", "f 644 7:8"),
		f.put("/inl", pack(member{"via", tar.TypeReg, "x"}), 200, ""), f.has("/in/via", "via 644 7:8"),
		f.put("/nope", tree, 404, "Could not find the file /nope in container"), f.put("rel", tree, 404, "Could not find the file rel in container"), f.put("/d/a", tree, 400, "extraction point is not a directory"),
		f.put("/ro", tree, 400, "mounted volume is marked read-only"), f.put("", tree, 400, "bad parameter: path"), f.put("/in", nil, 200, ""), f.put("/in", []byte("no tar"), 500, "unexpected EOF"),
		f.put("/in", bytes.Repeat([]byte("x"), 2048), 500, "archive/tar: invalid tar header"),
		f.put("/in&noOverwriteDirNonDir=1", pack(member{"n", tar.TypeReg, "x"}), 500, "cannot overwrite directory"), f.put("/in&noOverwriteDirNonDir=1", pack(member{"via", tar.TypeDir, ""}), 500, "cannot overwrite non-directory"),
		f.put("/in", pack(member{"n", tar.TypeReg, "x"}), 200, ""), f.has("/in/n", "n 644 7:8"), f.put("/in", pack(member{"n", tar.TypeDir, ""}), 200, ""), f.has("/in/n", "n/ 755 7:8"),
		f.put("/in", pack(member{"h1", tar.TypeReg, "x"}, member{"h2", tar.TypeLink, "h1"}), 200, ""), f.has("/in/h2", "h2 644 7:8"),
		f.put("/in", pack(member{"deep/er/f", tar.TypeReg, "x"}), 200, ""), f.has("/in/deep/er/f", "f 644 7:8"), f.put("/in", pack(member{"/abs", tar.TypeReg, "x"}), 200, ""), f.has("/in/abs", "abs 644 7:8"),
	)
}

// hostile are archives that want out of the container, or over what is mounted in it.
func (f *files) hostile() error {
	inside := func(ms ...member) func() error { return f.put("/in", pack(ms...), 200, "") }
	return steps(
		f.put("/in", pack(member{"../../etc/evil", tar.TypeReg, "x"}), 500, `"../../etc/evil\"`), f.put("/in", pack(member{"../evil", tar.TypeReg, "x"}), 500, `"../evil\"`),
		f.put("/in", pack(member{"s", tar.TypeSymlink, "../../x"}), 500, "invalid symlink"), f.put("/in", pack(member{"h", tar.TypeLink, "../etc/passwd"}), 500, "invalid hardlink"),
		f.put("/in", pack(member{"h", tar.TypeLink, "/etc/passwd"}), 500, "no such file or directory"),
		f.put("/etc", pack(member{"hosts", tar.TypeReg, "x"}), 500, "device or resource busy"),
		inside(member{"abslink", tar.TypeSymlink, "/etc"}, member{"abslink/made", tar.TypeReg, "x"}), f.has("/etc/made", "made 644 7:8"),
		f.put("/up", pack(member{"made2", tar.TypeReg, "x"}), 200, ""), f.has("/etc/made2", "made2 644 7:8"),
	)
}

// copies holds what `docker cp` and `docker export` are made of.
func copies() []Case {
	ops := []string{"ContainerArchiveInfo", "ContainerArchive", "PutContainerArchive"}
	script := "mkdir -p /d/sub /in; echo hi >/d/a; chmod 750 /d/a; chown 5:6 /d/a; ln -s a /d/l; ln -s /d /dl; ln -s in /inl; ln -s nowhere /d/broken; mkfifo /d/p; ln -s ../../../../etc /up; ln -s dl/l /chain; touch /tm/x /ready; exec sleep 1000"
	withFiles := func(name string, checks func(*files) error) Case {
		return story(name, ops, func(t *T) error {
			id, err := t.create(sh(script), obj{"Binds": []string{"/etc:/ro:ro", "/etc/passwd:/file"}, "Tmpfs": obj{"/tm": ""}, "Mounts": []obj{{"Type": "volume", "Target": "/vol"}}})
			if err != nil {
				return err
			}
			f := &files{t, id}
			return steps(t.want("POST", "/containers/"+id+"/start", nil, 204, ""), f.await("/ready"), func() error { return checks(f) })
		})
	}
	return []Case{
		withFiles("files of a running container", func(f *files) error { return steps(f.looks, f.takes, f.hostile) }),
		withFiles("files of a paused container", func(f *files) error {
			return steps(f.want("POST", "/containers/"+f.id+"/pause", nil, 204, ""), f.looks, f.takes, f.want("POST", "/containers/"+f.id+"/unpause", nil, 204, ""))
		}),
		withFiles("files of a stopped container", func(f *files) error {
			p := "/containers/" + f.id
			return steps(f.want("POST", p+"/stop?t=0", nil, 204, ""), f.looks, f.takes, f.hostile, f.want("POST", p+"/start", nil, 204, ""), f.has("/in/abs", "abs 644 7:8"))
		}),
		story("files of a container that never ran", ops, func(t *T) error {
			c := cmd("true")
			c["User"], c["WorkingDir"] = "root", "/w/d"
			id, err := t.create(c, obj{"Mounts": []obj{{"Type": "volume", "Target": "/vol/deep"}}})
			if err != nil {
				return err
			}
			f := &files{t, id}
			return steps(f.has("/w", "w/ 755 0:0", "w/d/ 755 0:0"), f.has("/vol", "vol/ 755 0:0", "vol/deep/ 755 0:0"), f.put("/vol/deep", pack(member{"f", tar.TypeReg, "x"}), 200, ""), f.has("/vol/deep/f", "f 644 7:8"),
				f.put("/w/d&copyUIDGID=1", pack(member{"f", tar.TypeReg, "x"}), 200, ""), f.has("/w/d/f", "f 644 0:0"), f.has("/etc/hostname", "hostname 755 0:0"))
		}),
		story("copy into a read-only container", ops, func(t *T) error {
			id, err := t.create(cmd("true"), obj{"ReadonlyRootfs": true, "Mounts": []obj{{"Type": "volume", "Target": "/vol"}}})
			if err != nil {
				return err
			}
			f := &files{t, id}
			b := pack(member{"f", tar.TypeReg, "x"})
			return steps(f.put("/", b, 400, "container rootfs is marked read-only"), f.put("/vol", b, 200, ""), f.has("/vol/f", "f 644 7:8"))
		}),
		simple("files of nothing", "ContainerArchive", "GET", "/containers/nosuch/archive?path=/x", nil, 404, "No such container: nosuch"),
		simple("export of nothing", "ContainerExport", "GET", "/containers/nosuch/export", nil, 404, "No such container: nosuch"),
		story("export", []string{"ContainerExport"}, func(t *T) error {
			id, err := t.create(sh("echo x >/made; touch /vol/hidden; exec sleep 1000"), obj{"Mounts": []obj{{"Type": "volume", "Target": "/vol"}}})
			if err != nil {
				return err
			}
			p := "/containers/" + id
			check := func() error {
				a, err := t.expect("GET", p+"/export", nil, 200, "")
				if err != nil {
					return err
				}
				got, err := entries(a.Body)
				for _, w := range []string{".dockerenv 755 0:0", "made 644 0:0", "vol/ 755 0:0", "etc/mtab 777 0:0 -> /proc/mounts", "etc/hosts 755 0:0", "dev/console 755 0:0", "proc/ 755 0:0"} {
					if !slices.Contains(got, w) {
						err = errors.Join(err, fmt.Errorf("no %q in %q", w, got))
					}
				}
				if strings.Contains(strings.Join(got, "\n"), "hidden") || a.Header.Get("Content-Type") != "application/octet-stream" {
					err = errors.Join(err, fmt.Errorf("the volume is part of it, or the type is wrong: %v", a.Header))
				}
				return err
			}
			return steps(t.want("POST", p+"/start", nil, 204, ""), (&files{t, id}).await("/made"), check, t.want("POST", p+"/stop?t=0", nil, 204, ""), check)
		}),
	}
}

// await waits until a file is there.
func (f *files) await(p string) func() error {
	return func() error {
		return f.until(f.path(p), "ustar")()
	}
}
