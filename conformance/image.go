package conformance

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"runtime"
	"slices"
	"strings"
	"time"
)

// busyboxPath is where Debian's busybox-static puts its program. It is what the cases run in their containers, so the machine
// that runs the suite needs it; the engine's machine does not.
const busyboxPath = "/bin/busybox"

// WriteImage writes the image that the cases use, busybox:latest, as a docker-archive. The same program gives the same bytes.
// env is its environment.
func WriteImage(w io.Writer, env ...string) error {
	program, err := os.ReadFile(busyboxPath)
	if err != nil {
		return fmt.Errorf("the test image is made from a static busybox (Debian: busybox-static): %w", err)
	}
	names, err := exec.Command(busyboxPath, "--list").Output()
	if err != nil {
		return fmt.Errorf("%s --list: %w", busyboxPath, err)
	}
	layer, err := imageLayer(program, strings.Fields(string(names)))
	if err != nil {
		return err
	}
	environment := ""
	if len(env) > 0 {
		raw, err := json.Marshal(env)
		if err != nil {
			return err
		}
		environment = `"Env":` + string(raw) + ","
	}
	config := fmt.Sprintf(`{"architecture":%q,"os":"linux","created":"1970-01-01T00:00:00Z","config":{%s"Cmd":["sh"]},"rootfs":{"type":"layers","diff_ids":["sha256:%x"]},"history":[{"created":"1970-01-01T00:00:00Z","created_by":"hack/image"}]}`,
		runtime.GOARCH, environment, sha256.Sum256(layer))
	name := fmt.Sprintf("%x.json", sha256.Sum256([]byte(config)))
	a := archive{tw: tar.NewWriter(w)}
	a.file("manifest.json", 0o644, []byte(`[{"Config":"`+name+`","RepoTags":["busybox:latest"],"Layers":["layer.tar"]}]`))
	a.file(name, 0o644, []byte(config))
	a.file("layer.tar", 0o644, layer)
	return a.close()
}

// imageLayer is the root file system: busybox, a link for each of its names, and what programs look for.
func imageLayer(program []byte, names []string) ([]byte, error) {
	var b bytes.Buffer
	a := archive{tw: tar.NewWriter(&b)}
	a.dir("./", 0o755)
	for _, d := range []string{"bin", "dev", "etc", "proc", "root", "sys", "www"} {
		a.dir("./"+d+"/", 0o755)
	}
	a.dir("./tmp/", 0o1777)
	a.file("./bin/busybox", 0o755, program)
	slices.Sort(names)
	for _, n := range names {
		// Some builds list themselves with their directories.
		if n = path.Base(n); n != "busybox" {
			a.add(&tar.Header{Typeflag: tar.TypeSymlink, Name: "./bin/" + n, Linkname: "busybox", Mode: 0o777}, nil)
		}
	}
	a.file("./etc/passwd", 0o644, []byte("root:x:0:0:root:/root:/bin/sh\n"))
	a.file("./etc/group", 0o644, []byte("root:x:0:\n"))
	a.file("./www/index.html", 0o644, []byte("<h1>berth</h1>\n"))
	err := a.close()
	return b.Bytes(), err
}

// archive writes a tar and keeps the first error.
type archive struct {
	tw  *tar.Writer
	err error
}

func (a *archive) add(h *tar.Header, data []byte) {
	if a.err != nil {
		return
	}
	h.ModTime, h.Size, h.Format = time.Unix(0, 0), int64(len(data)), tar.FormatUSTAR
	if a.err = a.tw.WriteHeader(h); a.err == nil {
		_, a.err = a.tw.Write(data)
	}
}

func (a *archive) file(name string, mode int64, data []byte) {
	a.add(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode}, data)
}

func (a *archive) dir(name string, mode int64) {
	a.add(&tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: mode}, nil)
}

func (a *archive) close() error {
	if a.err != nil {
		return a.err
	}
	return a.tw.Close()
}
