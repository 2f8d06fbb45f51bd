package buildkit

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"

	"github.com/berthd/berth/engine/build"
	"github.com/berthd/berth/engine/internal/errkind"
	"github.com/berthd/berth/engine/internal/rootdir"
)

// maxDockerfile bounds a Dockerfile, in bytes.
const maxDockerfile = 16 << 20

// dockerfile is what a build is going to do.
type dockerfile struct {
	steps  []string // as written, in order
	unused []string // build arguments that no ARG asks for, sorted
}

// plan reads the Dockerfile of an unpacked context and lists the steps of the build, so that a request that cannot work is
// refused before anything starts. nil if a frontend of the Dockerfile's own choice decides what it means.
//
// Errors: the texts of dockerd's classic builder.
func plan(root *rootdir.Root, r *build.Request) (*dockerfile, error) {
	name := r.Dockerfile
	if name == "" {
		name = "Dockerfile"
	}
	if clean := path.Clean(name); clean == ".." || strings.HasPrefix(clean, "../") {
		return nil, errkind.Internal("forbidden path outside the build context: %s ()", name)
	}
	f, err := root.OpenFile(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil, errkind.Internal("Cannot locate specified Dockerfile: %s", name)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxDockerfile))
	if err != nil {
		return nil, err
	}
	if len(raw) == 0 {
		return nil, errkind.InvalidArgument("the Dockerfile (%s) cannot be empty", name)
	}
	if _, _, _, own := parser.DetectSyntax(raw); own {
		return nil, nil
	}
	ast, err := parser.Parse(bytes.NewReader(raw))
	if err != nil {
		return nil, errkind.InvalidArgument("failed to parse Dockerfile: %w", err)
	}
	stages, meta, err := instructions.Parse(ast.AST, nil)
	if err != nil {
		return nil, errkind.InvalidArgument("%w", err)
	}
	if len(stages) == 0 {
		return nil, errkind.InvalidArgument("no build stage in current context")
	}
	last := len(stages) - 1
	if r.Target != "" {
		if last = indexOf(stages, r.Target); last < 0 {
			return nil, errkind.InvalidArgument("target stage %q could not be found", r.Target)
		}
	}
	needed := make([]bool, len(stages))
	need(stages, last, needed)
	out := &dockerfile{}
	asked := map[string]bool{}
	note := func(c *instructions.ArgCommand) {
		for _, a := range c.Args {
			asked[a.Key] = true
		}
	}
	for i := range meta {
		note(&meta[i])
	}
	for i, s := range stages {
		if !needed[i] {
			continue
		}
		out.steps = append(out.steps, strings.TrimSpace(s.SourceCode))
		for _, c := range s.Commands {
			out.steps = append(out.steps, text(c))
			if a, ok := c.(*instructions.ArgCommand); ok {
				note(a)
			}
		}
	}
	for _, k := range slices.Sorted(maps.Keys(r.Labels)) {
		out.steps = append(out.steps, "LABEL "+k+"="+r.Labels[k])
	}
	for _, k := range slices.Sorted(maps.Keys(r.Args)) {
		if !asked[k] && !predefined[strings.ToUpper(k)] {
			out.unused = append(out.unused, k)
		}
	}
	return out, nil
}

// predefined build arguments need no ARG. Source: Dockerfile reference.
var predefined = map[string]bool{"HTTP_PROXY": true, "HTTPS_PROXY": true, "FTP_PROXY": true, "NO_PROXY": true, "ALL_PROXY": true}

func text(c instructions.Command) string {
	if s, ok := c.(interface{ String() string }); ok {
		return s.String()
	}
	return strings.ToUpper(c.Name())
}

// indexOf finds a stage by name or number; -1 if there is none.
func indexOf(stages []instructions.Stage, ref string) int {
	for i := len(stages) - 1; i >= 0; i-- {
		if strings.EqualFold(stages[i].Name, ref) {
			return i
		}
	}
	if n, err := strconv.Atoi(ref); err == nil && n >= 0 && n < len(stages) {
		return n
	}
	return -1
}

// need marks a stage and those it is made from.
func need(stages []instructions.Stage, i int, marks []bool) {
	if marks[i] {
		return
	}
	marks[i] = true
	earlier := func(ref string) {
		if j := indexOf(stages[:i], ref); ref != "" && j >= 0 {
			need(stages, j, marks)
		}
	}
	earlier(stages[i].BaseName)
	for _, c := range stages[i].Commands {
		switch c := c.(type) {
		case *instructions.CopyCommand:
			earlier(c.From)
		case *instructions.RunCommand:
			for _, m := range instructions.GetMounts(c) {
				earlier(m.From)
			}
		}
	}
}
