package image

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

func TestParseChanges(t *testing.T) {
	from := Config{Env: []string{"A=1"}, Cmd: []string{"sleep"}, Labels: map[string]string{"l": "v"}, WorkingDir: "/w"}
	for lines, want := range map[string]string{
		"CMD a b":                              `"Cmd":["/bin/sh","-c","a b"]`,
		`CMD ["a","b"]`:                        `"Cmd":["a","b"]`,
		"cmd lower":                            `"Cmd":["/bin/sh","-c","lower"]`,
		"# c\n\nCMD x \\\n  y":                 `"Cmd":["/bin/sh","-c","x   y"]`,
		`ENTRYPOINT ["e"]`:                     `"Entrypoint":["e"],"Cmd":null`,
		"CMD [\"a\"]\nENTRYPOINT e":            `"Entrypoint":["/bin/sh","-c","e"],"Cmd":["a"]`,
		`ENV A=2 B="x y" C=z\ z`:               `"Env":["A=2","B=x y","C=z z"]`,
		"ENV K some value  here":               `"Env":["A=1","K=some value  here"]`,
		"ENV A=$A$A B=${A} C=${N:-d}${A:+i}":   `"Env":["A=11","B=1","C=di"]`,
		`ENV Q='$A' R="\$A"`:                   `"Env":["A=1","Q=$A","R=$A"]`,
		`LABEL a=b "c d"="e f"` + "\nLABEL l=": `"Labels":{"a":"b","c d":"e f","l":""}`,
		"EXPOSE 80 81/udp 90-91":               `"ExposedPorts":{"80/tcp":{},"81/udp":{},"90/tcp":{},"91/tcp":{}}`,
		"VOLUME /a /b\nVOLUME [\"/c d\"]":      `"Volumes":{"/a":{},"/b":{},"/c d":{}}`,
		"WORKDIR a\nWORKDIR ../b":              `"WorkingDir":"/w/b"`,
		"USER 5:6":                             `"User":"5:6"`,
		"STOPSIGNAL 9":                         `"StopSignal":"9"`,
		"HEALTHCHECK NONE":                     `"Healthcheck":{"Test":["NONE"]}`,
		"HEALTHCHECK --interval=5s --retries=4 CMD curl x": `"Healthcheck":{"Test":["CMD-SHELL","curl x"],"Interval":5000000000,"Retries":4}`,
		`HEALTHCHECK CMD ["a"]`:                            `"Healthcheck":{"Test":["CMD","a"]}`,
		"ONBUILD RUN x":                                    `"OnBuild":["RUN x"]`,
	} {
		c, err := ParseChanges([]string{lines}, from)
		b, _ := json.Marshal(c)
		if err != nil || !strings.Contains(string(b), want) {
			t.Errorf("%q: %s %v, want %s", lines, b, err, want)
		}
	}
	if len(from.Env) != 1 || from.Env[0] != "A=1" || from.Labels["l"] != "v" {
		t.Error("the given configuration was changed")
	}
}

func TestParseChangesRefuses(t *testing.T) {
	for line, want := range map[string]string{
		"RUN x": "RUN is not a valid change command", "bogus": "BOGUS is not a valid change command", "ENV": "ENV requires at least one argument", "ENV X": "ENV must have two arguments",
		"ENV =b": "ENV names can not be blank", "ENV a=b c": "can't find =", "USER": "USER requires exactly one argument", "EXPOSE 99999": "Invalid containerPort: 99999", "EXPOSE 1/x": "Invalid proto: x",
		"STOPSIGNAL SIGFOO": "invalid signal: SIGFOO", "HEALTHCHECK": "HEALTHCHECK requires at least one argument", "HEALTHCHECK --bogus=1 CMD x": "Unknown flag: bogus", "HEALTHCHECK NONE x": "takes no arguments",
		"HEALTHCHECK CMD": "Missing command", "HEALTHCHECK x": "Unknown type", "ONBUILD ONBUILD RUN x": "Chaining ONBUILD", "ONBUILD FROM x": "FROM isn't allowed", `LABEL a="b`: "double-quote", "ENV A=${B": "missing '}'",
		"VOLUME": "VOLUME requires at least one argument",
	} {
		if _, err := ParseChanges([]string{line}, Config{}); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", line, err, want)
		}
	}
}

func FuzzParseChanges(f *testing.F) {
	f.Add(`ENV A="$B\`)
	f.Add("EXPOSE 1-65535")
	f.Fuzz(func(t *testing.T, s string) {
		_, _ = ParseChanges([]string{s}, Config{}) // no panic is enough
	})
}

func TestOver(t *testing.T) {
	below := Config{User: "u", Env: []string{"A=1", "B=2"}, Cmd: []string{"c"}, Entrypoint: []string{"e"}, Labels: map[string]string{"a": "1", "b": "2"}, Healthcheck: &Healthcheck{Test: []string{"CMD", "x"}, Retries: 3}}
	for _, c := range []struct {
		over Config
		want string
	}{
		{Config{}, `"Entrypoint":["e"],"Cmd":["c"]`},
		{Config{Cmd: []string{"d"}}, `"Entrypoint":["e"],"Cmd":["d"]`},
		{Config{Entrypoint: []string{"f"}}, `"Entrypoint":["f"],"Cmd":null`},
		{Config{Entrypoint: []string{}}, `"Entrypoint":[],"Cmd":["c"]`},
		{Config{Env: []string{"B=3", "C=4"}}, `"Env":["B=3","C=4","A=1"]`},
		{Config{Labels: map[string]string{"b": "3"}}, `"Labels":{"a":"1","b":"3"}`},
		{Config{User: "v"}, `"User":"v"`},
		{Config{Healthcheck: &Healthcheck{Retries: 5}}, `"Healthcheck":{"Test":["CMD","x"],"Retries":5}`},
	} {
		b, _ := json.Marshal(c.over.Over(below))
		if !strings.Contains(string(b), c.want) {
			t.Errorf("%s, want %s", b, c.want)
		}
	}
}
