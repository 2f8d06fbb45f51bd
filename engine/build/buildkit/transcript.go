package buildkit

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/client"
	gatewayapi "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/opencontainers/go-digest"
	"google.golang.org/protobuf/proto"

	"github.com/berthd/berth/engine/build"
	"github.com/berthd/berth/engine/internal/errkind"
	"github.com/berthd/berth/engine/shim"
)

// transcript tells a solve as the classic builder told a build: numbered steps in the order of the Dockerfile, and their output.
type transcript struct {
	r      *build.Request
	report func(build.Progress)
	steps  []string // nil if they are not known beforehand
	unused []string // build arguments that no ARG asks for
	next   int      // the first step that was not told yet
	begun  map[digest.Digest]bool
	cached map[digest.Digest]bool
	failed string // the command that failed
}

func newTranscript(r *build.Request, f *dockerfile, report func(build.Progress)) *transcript {
	t := &transcript{r: r, report: report, begun: map[digest.Digest]bool{}, cached: map[digest.Digest]bool{}}
	if f != nil {
		t.steps, t.unused = f.steps, f.unused
		t.tell(min(1, len(t.steps))) // from here on errors travel in the stream, as they always did
	}
	return t
}

func (t *transcript) message(m *controlapi.StatusResponse) {
	if t.r.Trace {
		if raw, err := proto.Marshal(m); err == nil {
			t.report(build.Progress{Trace: raw})
		}
		return
	}
	st := client.NewSolveStatus(m)
	for _, v := range st.Vertexes {
		what, ok := stepOf(v.Name)
		if !ok {
			continue
		}
		if v.Error != "" && !strings.Contains(v.Error, context.Canceled.Error()) { // those end because another failed
			t.failed = what
		}
		if v.Started != nil && !t.begun[v.Digest] {
			t.begun[v.Digest] = true
			t.upTo(what)
		}
		if v.Cached && !t.cached[v.Digest] && !strings.HasPrefix(what, "FROM ") {
			t.cached[v.Digest] = true
			t.say(" ---> Using cache\n")
		}
	}
	for _, l := range st.Logs {
		text := string(l.Data)
		if l.Stream == 2 {
			text = "\x1b[91m" + text + "\x1b[0m"
		}
		t.say(text)
	}
	for _, w := range st.Warnings {
		t.say("[Warning] " + string(w.Short) + "\n")
	}
}

// upTo tells the steps up to the one that begins; those between only change the image's configuration and have no work of
// their own.
func (t *transcript) upTo(what string) {
	if t.steps == nil {
		t.say("Step : " + what)
		t.say("\n")
		return
	}
	for _, fits := range []func(step, name string) bool{same, alike} {
		for i := t.next; i < len(t.steps); i++ {
			if fits(t.steps[i], what) {
				t.tell(i + 1)
				return
			}
		}
	}
}

// alike compares the instruction alone: variables are expanded in BuildKit's name.
func alike(step, name string) bool {
	a, _, _ := strings.Cut(step, " ")
	b, _, _ := strings.Cut(name, " ")
	return strings.EqualFold(a, b)
}

func (t *transcript) tell(end int) {
	for ; t.next < end; t.next++ {
		t.say(fmt.Sprintf("Step %d/%d : %s", t.next+1, len(t.steps), t.steps[t.next]))
		t.say("\n")
	}
}

// end tells what is left to tell.
func (t *transcript) end() {
	t.tell(len(t.steps))
	if len(t.unused) > 0 {
		t.say(fmt.Sprintf("[Warning] One or more build-args %v were not consumed\n", t.unused))
	}
}

// same compares a step as written with BuildKit's name for it: a base image is resolved there.
func same(step, name string) bool {
	a, b := strings.Fields(step), strings.Fields(name)
	if len(a) == 0 || len(b) == 0 || !strings.EqualFold(a[0], b[0]) {
		return false
	}
	return strings.EqualFold(a[0], "FROM") || strings.Join(a[1:], " ") == strings.Join(b[1:], " ")
}

func (t *transcript) say(s string) {
	if !t.r.Quiet && !t.r.Trace {
		t.report(build.Progress{Text: s})
	}
}

// stepOf takes the instruction out of BuildKit's name for a step, "[stage 2/5] RUN true".
func stepOf(name string) (what string, ok bool) {
	head, what, found := strings.Cut(strings.TrimPrefix(name, "["), "] ")
	if !found || !strings.HasPrefix(name, "[") || strings.HasPrefix(head, "internal") {
		return "", false
	}
	f := strings.Fields(head)
	return what, len(f) > 0 && strings.Contains(f[len(f)-1], "/")
}

// failure gives an error the words of the classic builder.
func (t *transcript) failure(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return errors.Join(cause, err)
	}
	if t.r.Trace {
		return errkind.InvalidArgument("%w", err)
	}
	var x *gatewayapi.ExitError
	var se *shim.StartError
	switch {
	case errors.As(err, &se): // it did not even begin
		return errkind.InvalidArgument("%s", se.Message)
	case errors.As(err, &x) && t.failed != "" && x.ExitCode < 256:
		cmd := t.failed
		if arg, ok := strings.CutPrefix(cmd, "RUN "); ok {
			cmd = "/bin/sh -c " + arg
		}
		return &build.FailedCommand{Command: cmd, Code: int(x.ExitCode), Cause: fmt.Errorf("The command '%s' returned a non-zero code: %d", cmd, x.ExitCode)} //nolint:staticcheck // clients match the text
	case t.r.Remote != "" && strings.Contains(err.Error(), "failed to read downloaded context"):
		return errkind.Internal("error downloading remote context %s: %s", t.r.Remote, innermost(err))
	}
	if m := missing.FindStringSubmatch(err.Error()); m != nil {
		at := t.failed
		if at == "" && t.next > 0 {
			at = t.steps[t.next-1]
		}
		if verb, _, _ := strings.Cut(at, " "); verb == "COPY" || verb == "ADD" {
			return errkind.InvalidArgument("%s failed: file not found in build context or excluded by .dockerignore: stat %s: file does not exist", verb, m[1])
		}
	}
	return errkind.InvalidArgument("%w", err)
}

// missing is how BuildKit says that a source of COPY is not in the context.
var missing = regexp.MustCompile(`failed to calculate checksum of ref \S+: "/(.*)": not found$`)

// innermost is what BuildKit wrapped its own words around.
func innermost(err error) string {
	text := err.Error()
	if _, cause, ok := strings.Cut(text, "failed to load cache key: "); ok {
		return cause
	}
	return text
}
