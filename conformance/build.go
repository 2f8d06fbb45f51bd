package conformance

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
)

type tree = map[string]string

// contextTar packs files; a name that ends with a slash is a directory.
func contextTar(fs tree) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	names := make([]string, 0, len(fs))
	for n := range fs {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		h := &tar.Header{Name: n, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(fs[n]))}
		if strings.HasSuffix(n, "/") {
			h.Typeflag, h.Mode, h.Size = tar.TypeDir, 0o755, 0
		}
		_ = w.WriteHeader(h) // into memory
		if h.Typeflag == tar.TypeReg {
			_, _ = io.WriteString(w, fs[n]) // as above
		}
	}
	_ = w.Close() // as above
	return b.Bytes()
}

// build sends a classic build request; the answer is the whole stream.
func (t *T) build(dockerfile string, fs tree, q url.Values) (*Answer, error) {
	all := tree{"Dockerfile": dockerfile}
	for n, c := range fs {
		all[n] = c
	}
	if q == nil {
		q = url.Values{}
	}
	q.Set("version", "1")
	return t.Do("POST", "/build?"+q.Encode(), io.Reader(bytes.NewReader(contextTar(all))))
}

// buildCase describes one Dockerfile and what is looked at afterwards: the output of a command in the built image, a part of
// the image's inspect, or a part of the build's own stream.
type buildCase struct {
	name, dockerfile string
	fs               tree
	q                url.Values
	status           int // 0 = 200
	run              []string
	prints           string // output of run, or of the image's own command if run is nil
	inspect          string
	stream           string
}

func (b buildCase) story() Case {
	return story("build: "+b.name, []string{"ImageBuild"}, func(t *T) error {
		q := url.Values{}
		for k, v := range b.q {
			q[k] = v
		}
		q.Set("nocache", "1") // what is cached may be another case's, and gone with it
		tag := t.prefix + "img:1"
		q.Add("t", tag)
		a, err := t.build(b.dockerfile, b.fs, q)
		if err != nil {
			return err
		}
		if b.status == 0 {
			b.status = 200
		}
		body := strings.NewReplacer(`\u003c`, "<", `\u003e`, ">", `\u0026`, "&").Replace(string(a.Body))
		if a.Status != b.status || !strings.Contains(body, b.stream) {
			return fmt.Errorf("build: %d %s, want %d with %q", a.Status, body, b.status, b.stream)
		}
		if b.prints == "" && b.inspect == "" {
			return nil
		}
		if !strings.Contains(body, "Successfully tagged "+tag) {
			return fmt.Errorf("not built: %s", body)
		}
		if b.inspect != "" {
			if _, err := t.expect("GET", "/images/"+tag+"/json", nil, 200, b.inspect); err != nil {
				return err
			}
		}
		if b.prints == "" {
			return nil
		}
		cfg := obj{"Image": tag}
		if b.run != nil {
			cfg["Entrypoint"], cfg["Cmd"] = b.run, []string{}
		}
		code, text, err := t.output(cfg, nil)
		if err != nil || !strings.Contains(text, b.prints) {
			return errors.Join(err, fmt.Errorf("code %d, output %q, want %q", code, text, b.prints))
		}
		return nil
	})
}

func shell(s string) []string { return []string{"/bin/sh", "-c", s} }

// builds is what a Dockerfile can say, seen on what it makes.
func builds() []Case {
	table := []buildCase{
		{name: "steps are numbered and told", dockerfile: "FROM busybox\nRUN echo o-u-t\nCMD [\"x\"]\n", stream: `"stream":"Step 2/3 : RUN echo o-u-t"`},
		{name: "output of a step", dockerfile: "FROM busybox\nRUN echo o-u-t\n", q: url.Values{"nocache": {"1"}}, stream: `o-u-t\n`},
		{name: "tagged", dockerfile: "FROM busybox\nLABEL a=b\n", stream: "Successfully tagged "},
		{name: "image id in the stream", dockerfile: "FROM busybox\nLABEL a=c\n", stream: `"aux":{"ID":"sha256:`},
		{name: "quiet", dockerfile: "FROM busybox\nLABEL a=d\n", q: url.Values{"q": {"1"}}, stream: `{"stream":"sha256:`},
		{name: "RUN in shell form", dockerfile: "FROM busybox\nRUN echo $((6*7)) >/x\n", run: []string{"cat", "/x"}, prints: "42\n"},
		{name: "RUN in exec form", dockerfile: "FROM busybox\nRUN [\"touch\", \"/a b\"]\n", run: []string{"ls", "/"}, prints: "a b\n"},
		{name: "CMD in exec form", dockerfile: "FROM busybox\nCMD [\"echo\", \"from cmd\"]\n", prints: "from cmd\n"},
		{name: "CMD in shell form", dockerfile: "FROM busybox\nENV A=1\nCMD echo $A$A\n", prints: "11\n"},
		{name: "ENTRYPOINT and CMD", dockerfile: "FROM busybox\nENTRYPOINT [\"echo\", \"e\"]\nCMD [\"c\"]\n", prints: "e c\n"},
		{name: "a new ENTRYPOINT drops the base's CMD", dockerfile: "FROM busybox\nCMD [\"c\"]\nENTRYPOINT [\"echo\", \"e\"]\n", inspect: `"Entrypoint":["echo","e"]`},
		{name: "ENV", dockerfile: "FROM busybox\nENV A=1 B=\"2 3\"\nENV C=$A$B\nRUN echo \"$C\" >/x\n", run: []string{"cat", "/x"}, prints: "12 3\n"},
		{name: "ENV with the old syntax", dockerfile: "FROM busybox\nENV A one two\n", run: shell("echo $A"), prints: "one two\n"},
		{name: "variables with defaults", dockerfile: "FROM busybox\nENV A=${NONE:-dflt}\n", run: shell("echo $A"), prints: "dflt\n"},
		{name: "ARG default", dockerfile: "FROM busybox\nARG X=d\nRUN echo $X >/x\n", run: []string{"cat", "/x"}, prints: "d\n"},
		{name: "ARG given", dockerfile: "FROM busybox\nARG X=d\nRUN echo $X >/x\n", q: url.Values{"buildargs": {`{"X":"given"}`}}, run: []string{"cat", "/x"}, prints: "given\n"},
		{name: "ARG before FROM", dockerfile: "ARG BASE=busybox\nFROM $BASE\nRUN echo based >/x\n", run: []string{"cat", "/x"}, prints: "based\n"},
		{name: "an argument that nobody asked for", dockerfile: "FROM busybox\nLABEL a=e\n", q: url.Values{"buildargs": {`{"UNUSED":"1"}`}}, stream: "[Warning] One or more build-args [UNUSED] were not consumed"},
		{name: "COPY of a file", dockerfile: "FROM busybox\nCOPY f /to\n", fs: tree{"f": "content"}, run: []string{"cat", "/to"}, prints: "content"},
		{name: "COPY of a directory", dockerfile: "FROM busybox\nCOPY d /to\n", fs: tree{"d/": "", "d/a": "1", "d/b/c": "2"}, run: []string{"cat", "/to/a", "/to/b/c"}, prints: "12"},
		{name: "COPY with a pattern", dockerfile: "FROM busybox\nCOPY *.txt /to/\n", fs: tree{"a.txt": "", "b.txt": "", "c.md": ""}, run: []string{"ls", "/to"}, prints: "a.txt\nb.txt\n"},
		{name: "COPY with --chown", dockerfile: "FROM busybox\nCOPY --chown=12:34 f /f\n", fs: tree{"f": ""}, run: []string{"stat", "-c", "%u:%g", "/f"}, prints: "12:34\n"},
		{name: "COPY makes directories", dockerfile: "FROM busybox\nCOPY f /deep/er/f\n", fs: tree{"f": "x"}, run: []string{"cat", "/deep/er/f"}, prints: "x"},
		{name: "COPY relative to WORKDIR", dockerfile: "FROM busybox\nWORKDIR /w/d\nCOPY f .\n", fs: tree{"f": "rel"}, run: []string{"cat", "/w/d/f"}, prints: "rel"},
		{name: "COPY from a stage", dockerfile: "FROM busybox AS a\nRUN echo staged >/x\nFROM busybox\nCOPY --from=a /x /y\n", run: []string{"cat", "/y"}, prints: "staged\n"},
		{name: "COPY from a stage by number", dockerfile: "FROM busybox\nRUN echo zero >/x\nFROM busybox\nCOPY --from=0 /x /y\n", run: []string{"cat", "/y"}, prints: "zero\n"},
		{name: "COPY from an image", dockerfile: "FROM scratch\nCOPY --from=busybox /bin/busybox /bin/busybox\nCMD [\"/bin/busybox\", \"echo\", \"from image\"]\n", prints: "from image\n"},
		{name: "a stage from a stage", dockerfile: "FROM busybox AS a\nENV S=1\nFROM a\nCMD echo s$S\n", prints: "s1\n"},
		{name: "target", dockerfile: "FROM busybox AS a\nCMD echo in-a\nFROM a AS b\nCMD echo in-b\n", q: url.Values{"target": {"a"}}, prints: "in-a\n"},
		{name: "ADD unpacks an archive", dockerfile: "FROM busybox\nADD in.tar /to/\n", fs: tree{"in.tar": string(contextTar(tree{"inner": "i"}))}, run: []string{"cat", "/to/inner"}, prints: "i"},
		{name: "COPY does not unpack", dockerfile: "FROM busybox\nCOPY in.tar /to/\n", fs: tree{"in.tar": string(contextTar(tree{"inner": "i"}))}, run: []string{"ls", "/to"}, prints: "in.tar\n"},
		{name: "WORKDIR", dockerfile: "FROM busybox\nWORKDIR /a\nWORKDIR b\nRUN pwd >/x\n", run: []string{"cat", "/x"}, prints: "/a/b\n"},
		{name: "USER", dockerfile: "FROM busybox\nUSER 5:6\nCMD [\"id\"]\n", prints: "uid=5 gid=6"},
		{name: "USER in RUN", dockerfile: "FROM busybox\nRUN chmod 777 /tmp\nUSER 5\nRUN id -u >/tmp/x\n", run: []string{"cat", "/tmp/x"}, prints: "5\n"},
		{name: "EXPOSE", dockerfile: "FROM busybox\nEXPOSE 80 53/udp\n", inspect: `"53/udp":{}`},
		{name: "VOLUME", dockerfile: "FROM busybox\nVOLUME /data\n", inspect: `"Volumes":{"/data":{}}`},
		{name: "LABEL", dockerfile: "FROM busybox\nLABEL k=\"v w\"\n", inspect: `"k":"v w"`},
		{name: "labels of the request", dockerfile: "FROM busybox\nLABEL k=v\n", q: url.Values{"labels": {`{"more":"yes"}`}}, inspect: `"more":"yes"`},
		{name: "STOPSIGNAL", dockerfile: "FROM busybox\nSTOPSIGNAL SIGQUIT\n", inspect: `"StopSignal":"SIGQUIT"`},
		{name: "HEALTHCHECK", dockerfile: "FROM busybox\nHEALTHCHECK --interval=5s --retries=2 CMD true\n", inspect: `"Interval":5000000000`},
		{name: "HEALTHCHECK NONE", dockerfile: "FROM busybox\nHEALTHCHECK NONE\n", inspect: `"Test":["NONE"]`},
		{name: "SHELL", dockerfile: "FROM busybox\nSHELL [\"/bin/sh\", \"-ec\"]\nRUN echo shelled >/x\n", run: []string{"cat", "/x"}, prints: "shelled\n"},
		{name: "ONBUILD is kept", dockerfile: "FROM busybox\nONBUILD RUN echo onbuilt >/x\n", inspect: `"OnBuild":["RUN echo onbuilt >/x"]`},
		{name: "MAINTAINER", dockerfile: "FROM busybox\nMAINTAINER somebody\n", inspect: `"Author":"somebody"`},
		{name: "comments and continued lines", dockerfile: "# first\nFROM busybox\nRUN echo a \\\n# between\n b >/x\n", run: []string{"cat", "/x"}, prints: "a b\n"},
		{name: "escape directive", dockerfile: "# escape=`\nFROM busybox\nRUN echo a `\n b >/x\n", run: []string{"cat", "/x"}, prints: "a b\n"},
		{name: "dockerfile by another name", dockerfile: "FROM nosuch\n", fs: tree{"sub/Other": "FROM busybox\nCMD echo other\n"}, q: url.Values{"dockerfile": {"sub/Other"}}, prints: "other\n"},
		{name: "extra hosts", dockerfile: "FROM busybox\nRUN cat /etc/hosts >/x\n", q: url.Values{"extrahosts": {"my.host:1.2.3.4"}}, run: []string{"grep", "my.host", "/x"}, prints: "1.2.3.4"},
		{name: "network none", dockerfile: "FROM busybox\nRUN ls /sys/class/net >/x\n", q: url.Values{"networkmode": {"none"}, "nocache": {"1"}}, run: []string{"cat", "/x"}, prints: "lo\n"},
		{name: "a step has a network", dockerfile: "FROM busybox\nRUN ls /sys/class/net >/x\n", q: url.Values{"nocache": {"1"}}, run: []string{"cat", "/x"}, prints: "eth0\n"},
		{name: "capabilities of a step", dockerfile: "FROM busybox\nRUN grep CapEff /proc/self/status >/x\n", run: []string{"cat", "/x"}, prints: "00000000a80425fb"},
		{name: "seccomp of a step", dockerfile: "FROM busybox\nRUN grep Seccomp: /proc/self/status >/x\n", run: []string{"cat", "/x"}, prints: "Seccomp:\t2"},
		{name: "from scratch", dockerfile: "FROM scratch\nCOPY f /\n", fs: tree{"f": ""}, inspect: `"Type":"layers"`},

		{name: "a failing step", dockerfile: "FROM busybox\nRUN exit 3\n", stream: `"code":3,"message":"The command '/bin/sh -c exit 3' returned a non-zero code: 3"`},
		{name: "an unknown command in a step", dockerfile: "FROM busybox\nRUN nosuchcmd\n", stream: `returned a non-zero code: 127`},
		{name: "COPY of what is not there", dockerfile: "FROM busybox\nCOPY nope /x\n", stream: "COPY failed: file not found in build context or excluded by .dockerignore: stat nope: file does not exist"},
		{name: "COPY does not leave the context", dockerfile: "FROM busybox\nCOPY ../../etc/shadow /x\n", stream: `"errorDetail"`},
		{name: "an unknown instruction", dockerfile: "FROM busybox\nBOGUS x\n", status: 400, stream: "unknown instruction: BOGUS"},
		{name: "ENV without arguments", dockerfile: "FROM busybox\nENV\n", status: 400, stream: "ENV requires at least one argument"},
		{name: "no FROM", dockerfile: "RUN x\n", status: 400, stream: "no build stage in current context"},
		{name: "an empty Dockerfile", dockerfile: "", status: 400, stream: "the Dockerfile (Dockerfile) cannot be empty"},
		{name: "no instructions", dockerfile: "# nothing\n", status: 400, stream: "file with no instructions"},
		{name: "a Dockerfile that is not there", dockerfile: "FROM busybox\n", q: url.Values{"dockerfile": {"nope"}}, status: 500, stream: "Cannot locate specified Dockerfile: nope"},
		{name: "a Dockerfile outside the context", dockerfile: "FROM busybox\n", q: url.Values{"dockerfile": {"../x"}}, status: 500, stream: "forbidden path outside the build context: ../x"},
		{name: "bad build arguments", dockerfile: "FROM busybox\n", q: url.Values{"buildargs": {"x"}}, status: 400, stream: "error reading build args"},
		{name: "bad labels", dockerfile: "FROM busybox\n", q: url.Values{"labels": {"x"}}, status: 400, stream: "error reading labels"},
	}
	out := make([]Case, 0, len(table)+4)
	for _, b := range table {
		out = append(out, b.story())
	}
	return append(out,
		story("build: a gzipped context", []string{"ImageBuild"}, func(t *T) error {
			var b bytes.Buffer
			w := gzip.NewWriter(&b)
			_, _ = w.Write(contextTar(tree{"Dockerfile": "FROM busybox\nLABEL z=1\n"})) // into memory
			_ = w.Close()                                                               // as above
			_, err := t.expect("POST", "/build?version=1&t="+t.prefix+"z:1", io.Reader(&b), 200, "Successfully tagged")
			return err
		}),
		story("build: a second time from the cache", []string{"ImageBuild"}, func(t *T) error {
			df := "FROM busybox\nRUN echo " + t.prefix + "\n"
			if _, err := t.build(df, nil, nil); err != nil {
				return err
			}
			a, err := t.build(df, nil, nil)
			if err != nil || !strings.Contains(strings.ReplaceAll(string(a.Body), `\u003e`, ">"), "---> Using cache") {
				return errors.Join(err, fmt.Errorf("%s", a.Body))
			}
			return nil
		}),
		simple("build: cancel of nothing", "ImageBuild", "POST", "/build/cancel?id=nosuch", nil, 200, ""),
		story("build: prune", []string{"BuildPrune"}, func(t *T) error {
			_, err := t.expect("POST", "/build/prune", nil, 200, `"SpaceReclaimed":`)
			return err
		}).alone(),
	)
}
