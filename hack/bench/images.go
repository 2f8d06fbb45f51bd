package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

const (
	bigLayers  = 5
	layerBytes = 80 << 20
	bigImage   = "bench/big:1"
	registry   = "127.0.0.1:5000" // as each engine sees it; both are the same
	commitMiB  = 200
)

// big is the archive that the image rows use, and its size.
var big struct {
	path  string
	bytes int64
}

// bigArchive makes a docker-archive of real files of this machine, whose mix of sizes is that of images.
func bigArchive(dir string) error {
	big.path = filepath.Join(dir, "big.tar")
	if st, err := os.Stat(big.path); err == nil {
		big.bytes = st.Size()
		return nil
	}
	var layers []*bytes.Buffer
	var w *tar.Writer
	err := filepath.WalkDir("/usr", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if len(layers) == bigLayers && layers[bigLayers-1].Len() >= layerBytes {
			return fs.SkipAll
		}
		if w == nil || layers[len(layers)-1].Len() >= layerBytes {
			if w != nil {
				if err := w.Close(); err != nil {
					return err
				}
			}
			layers = append(layers, &bytes.Buffer{})
			w = tar.NewWriter(layers[len(layers)-1])
		}
		return addFile(w, p, d)
	})
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return err
	}
	out, err := os.Create(big.path)
	if err != nil {
		return err
	}
	if err := writeArchive(out, layers); err != nil {
		return errors.Join(err, out.Close())
	}
	st, err := out.Stat()
	if err != nil {
		return errors.Join(err, out.Close())
	}
	big.bytes = st.Size()
	return out.Close()
}

func addFile(w *tar.Writer, p string, d fs.DirEntry) error {
	i, err := d.Info()
	if err != nil || !i.Mode().IsRegular() && !i.IsDir() && i.Mode()&fs.ModeSymlink == 0 {
		return err
	}
	to := ""
	if i.Mode()&fs.ModeSymlink != 0 {
		if to, err = os.Readlink(p); err != nil {
			return err
		}
	}
	h, err := tar.FileInfoHeader(i, to)
	if err != nil {
		return err
	}
	h.Name, h.Format = strings.TrimPrefix(p, "/"), tar.FormatUnknown
	if i.IsDir() {
		h.Name += "/"
	}
	h.ModTime, h.AccessTime, h.ChangeTime, h.Uname, h.Gname = i.ModTime().Truncate(time.Second), time.Time{}, time.Time{}, "", ""
	if err := w.WriteHeader(h); err != nil || !i.Mode().IsRegular() {
		return err
	}
	f, err := os.Open(p)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}

func writeArchive(out io.Writer, layers []*bytes.Buffer) error {
	w := tar.NewWriter(out)
	put := func(name string, b []byte) error {
		if err := w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(b))}); err != nil {
			return err
		}
		_, err := w.Write(b)
		return err
	}
	var names, diffs []string
	for i, l := range layers {
		names = append(names, fmt.Sprintf("l%d/layer.tar", i))
		diffs = append(diffs, fmt.Sprintf("sha256:%x", sha256.Sum256(l.Bytes())))
		if err := put(names[i], l.Bytes()); err != nil {
			return err
		}
	}
	config, err := json.Marshal(map[string]any{"os": "linux", "architecture": runtime.GOARCH, "config": map[string]any{}, "rootfs": map[string]any{"type": "layers", "diff_ids": diffs}})
	if err != nil {
		return err
	}
	manifest, err := json.Marshal([]any{map[string]any{"Config": "c.json", "RepoTags": []string{bigImage}, "Layers": names}})
	if err != nil {
		return err
	}
	return errors.Join(put("c.json", config), put("manifest.json", manifest), w.Close())
}

// stream sends a request whose answer reports failures in its lines.
func (e *engine) stream(method, path string, body io.Reader, header http.Header) error {
	req, err := http.NewRequest(method, api+path, body)
	if err != nil {
		return err
	}
	req.Header = header
	resp, err := e.hc.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && (resp.StatusCode >= 400 || bytes.Contains(b, []byte("errorDetail"))) {
		err = fmt.Errorf("%s %s: %s %s", method, path, resp.Status, b[max(0, len(b)-500):])
	}
	return err
}

func (e *engine) forget(ref string) error {
	err := e.stream("DELETE", "/images/"+ref+"?force=1", nil, nil)
	if err != nil && strings.Contains(err.Error(), "404") {
		return nil
	}
	return err
}

func (e *engine) loadBig() error {
	f, err := os.Open(big.path)
	if err != nil {
		return err
	}
	defer f.Close()
	return e.stream("POST", "/images/load?quiet=1", f, http.Header{"Content-Type": {"application/x-tar"}})
}

// rate turns a time into megabytes of the big image a second.
func rate(ms float64, err error) (float64, error) { return float64(big.bytes) / 1e6 / (ms / 1000), err }

func imageRows() []row {
	pushes := 0
	there := registry + "/bench/pulled"
	committed := map[*engine]string{}
	return []row{
		{"image load", "MB/s", false, 1.3, 3, func(e *engine) (float64, error) {
			if err := e.forget(bigImage); err != nil {
				return 0, err
			}
			return rate(timed(e.loadBig))
		}},
		{"image save", "MB/s", false, 3, 3, func(e *engine) (float64, error) {
			return rate(timed(func() error {
				resp, err := e.hc.Get(api + "/images/" + bigImage + "/get")
				if err != nil {
					return err
				}
				return drain(resp)
			}))
		}},
		{"image push", "MB/s", false, 1.5, 3, func(e *engine) (float64, error) {
			pushes++
			repo := fmt.Sprintf("%s/bench/p%d", registry, pushes)
			if err := e.call("POST", "/images/"+bigImage+"/tag?repo="+repo+"&tag=1", nil, nil); err != nil {
				return 0, err
			}
			v, err := rate(timed(func() error {
				return e.stream("POST", "/images/"+repo+"/push?tag=1", nil, http.Header{"X-Registry-Auth": {"e30="}})
			}))
			return v, errors.Join(err, e.forget(repo+":1"))
		}},
		{"image pull", "MB/s", false, 1.5, 3, func(e *engine) (float64, error) {
			if err := e.havePulled(there); err != nil {
				return 0, err
			}
			if err := errors.Join(e.forget(there+":1"), e.forget(bigImage)); err != nil {
				return 0, err
			}
			return rate(timed(func() error { return e.stream("POST", "/images/create?fromImage="+there+"&tag=1", nil, nil) }))
		}},
		{"image pull, unchanged", "ms", true, 0.5, 11, func(e *engine) (float64, error) {
			return timed(func() error { return e.stream("POST", "/images/create?fromImage="+there+"&tag=1", nil, nil) })
		}},
		{"image delete", "ms", true, 0.5, 3, func(e *engine) (float64, error) {
			if err := errors.Join(e.forget(there+":1"), e.loadBig()); err != nil {
				return 0, err
			}
			return timed(func() error { return e.forget(bigImage) })
		}},
		{"commit of 200 MiB", "ms", true, 1.0 / 3, 3, func(e *engine) (float64, error) {
			if committed[e] == "" {
				id, err := e.create([]string{"sh", "-c", fmt.Sprintf("dd if=/dev/urandom of=/big bs=1M count=%d", commitMiB)}, nil)
				if err != nil {
					return 0, err
				}
				if err := errors.Join(e.start(id), e.call("POST", "/containers/"+id+"/wait", nil, nil)); err != nil {
					return 0, err
				}
				committed[e] = id
				cleanups = append(cleanups, func() error { return e.call("DELETE", "/containers/"+id+"?force=1", nil, nil) })
			}
			v, err := timed(func() error {
				return e.call("POST", "/commit?container="+committed[e]+"&repo=bench/committed&tag=1", spec{}, nil)
			})
			return v, errors.Join(err, e.forget("bench/committed:1"))
		}},
	}
}

// pulledReady says that the image of the pull row lies in the registry: dockerd's push of it, compressed.
var pulledReady bool

func (e *engine) havePulled(there string) error {
	if pulledReady {
		return nil
	}
	p := pusher
	if err := errors.Join(p.loadBig(), p.call("POST", "/images/"+bigImage+"/tag?repo="+there+"&tag=1", nil, nil)); err != nil {
		return err
	}
	pulledReady = true
	return p.stream("POST", "/images/"+there+"/push?tag=1", nil, http.Header{"X-Registry-Auth": {"e30="}})
}

// pusher is the engine that fills the registry: the reference.
var pusher *engine
