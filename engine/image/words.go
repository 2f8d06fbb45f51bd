package image

import (
	"strings"

	"github.com/berthd/berth/engine/internal/errkind"
)

// instructions cuts a piece of a Dockerfile into instructions: comments and empty lines go, a backslash at the end of a line
// joins the next to it.
func instructions(text string) (out []string) {
	open := false
	for _, l := range strings.Split(text, "\n") {
		l = strings.TrimSuffix(l, "\r")
		if t := strings.TrimSpace(l); t == "" || strings.HasPrefix(t, "#") {
			continue
		}
		part, more := strings.CutSuffix(strings.TrimRight(l, " \t"), `\`)
		if !more {
			part = l
		}
		if open {
			out[len(out)-1] += part
		} else {
			out = append(out, strings.TrimLeft(part, " \t"))
		}
		open = more
	}
	return out
}

// splitWords cuts at blanks that are neither quoted nor escaped; quotes stay for expand to take off.
func splitWords(s string) (out []string) {
	var b strings.Builder
	var quote byte
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '\\' && quote != '\'' && i+1 < len(s):
			b.WriteByte(c)
			i++
			c = s[i]
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '"' || c == '\''):
			quote = c
		case quote == 0 && (c == ' ' || c == '\t'):
			if b.Len() > 0 {
				out = append(out, b.String())
				b.Reset()
			}
			continue
		}
		b.WriteByte(c)
	}
	if b.Len() > 0 {
		out = append(out, b.String())
	}
	return out
}

// expand takes quotes and escapes off a word and puts variables in, as a shell would: $x, ${x}, ${x:-default}, ${x:+instead}.
func expand(s string, env func(string) string) (string, error) {
	var b strings.Builder
	var quote byte
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && quote != '\'' && i+1 < len(s):
			i++
			if quote == '"' && !strings.ContainsRune("\"$\\", rune(s[i])) {
				b.WriteByte('\\')
			}
			b.WriteByte(s[i])
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '"' || c == '\''):
			quote = c
		case c == '$' && quote != '\'':
			v, n, err := variable(s[i+1:], env)
			if err != nil {
				return "", err
			}
			b.WriteString(v)
			i += n
		default:
			b.WriteByte(c)
		}
	}
	if quote != 0 {
		return "", errkind.InvalidArgument("unexpected end of statement while looking for matching %s-quote", map[byte]string{'"': "double", '\'': "single"}[quote])
	}
	return b.String(), nil
}

// variable reads what follows a dollar sign; n is how much of s it took.
func variable(s string, env func(string) string) (v string, n int, err error) {
	letter := func(c byte) bool {
		return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
	}
	name := func(s string) string {
		i := 0
		for i < len(s) && letter(s[i]) {
			i++
		}
		return s[:i]
	}
	if !strings.HasPrefix(s, "{") {
		k := name(s)
		if k == "" {
			return "$", 0, nil
		}
		return env(k), len(k), nil
	}
	end := strings.IndexByte(s, '}')
	if end < 0 {
		return "", 0, errkind.InvalidArgument("syntax error: missing '}'")
	}
	k := name(s[1:end])
	value, rest := env(k), s[1+len(k):end]
	switch {
	case k == "":
		return "", 0, errkind.InvalidArgument("bad substitution")
	case rest == "":
	case strings.HasPrefix(rest, ":-"):
		if value == "" {
			value = rest[2:]
		}
	case strings.HasPrefix(rest, ":+"):
		if value != "" {
			value = rest[2:]
		}
	default:
		return "", 0, errkind.InvalidArgument("unsupported modifier (%s) in substitution", rest)
	}
	return value, end + 1, nil
}
