package shim

import (
	"strings"
	"testing"
)

func TestClassify(t *testing.T) {
	for _, tc := range []struct {
		msg, ends string
		want      Cause
	}{
		{`exec: "x": executable file not found in $PATH`, "$PATH", CauseNotFound},
		{`exec: "/x": stat /x: no such file or directory`, "directory", CauseNotFound},
		{`exec: "/etc/passwd": permission denied`, "denied", CauseNotExecutable},
		{`exec: "/etc": is a directory`, "is a directory: permission denied", CauseNotExecutable},
		{`mounting "/a" to "/b": not a directory`, "is the expected type", CauseNotFound},
		{"wrong rlimit value: RLIMIT_X", "RLIMIT_X", CauseOther},
	} {
		if e := Classify(tc.msg); e.Cause != tc.want || !strings.HasSuffix(e.Message, tc.ends) {
			t.Errorf("%q: %+v", tc.msg, e)
		}
	}
}
