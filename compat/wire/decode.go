package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"
)

// CheckContentType wants JSON; parameters of the type do not matter. No header is fine where there is no body.
func CheckContentType(ct string, empty bool) error {
	if ct == "" && empty {
		return nil
	}
	t, _, err := mime.ParseMediaType(ct)
	if err != nil {
		return Invalid("malformed Content-Type header (%s): %w", ct, err)
	}
	if t != "application/json" {
		return Invalid("unsupported Content-Type header (%s): must be 'application/json'", ct)
	}
	return nil
}

// Decode reads one JSON document of at most MaxBody bytes into v. Unknown keys are ignored and letter case does not matter, as
// in dockerd. Errors wrap io.EOF if there was nothing.
func Decode(r io.Reader, v any) error {
	raw, err := io.ReadAll(r)
	var big *http.MaxBytesError
	if errors.As(err, &big) {
		return TooLarge()
	}
	if err != nil {
		return Invalid("invalid JSON: %w", err)
	}
	if err := checkShape(raw); err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	if err := dec.Decode(v); err != nil {
		return Invalid("invalid JSON: %w", err)
	}
	if dec.More() {
		return Invalid("unexpected content after JSON")
	}
	return nil
}

// TooLarge is the error about a body above MaxBody.
func TooLarge() error {
	return kindError{Invalid("the request body is too large: at most %d bytes are allowed", MaxBody), ErrTooLarge}
}

// free are the fields whose keys are not counted: a range of ports is a key for each, and they have a limit of their own.
var free = map[string]bool{"exposedports": true, "portbindings": true}

// checkShape bounds depth and number of keys, and refuses a key given twice in one object: two readers of the same document
// could each believe another one. Broken documents are left to the decoder.
func checkShape(raw []byte) error {
	type frame struct {
		keys  map[string]bool // of an object; nil for a list
		value bool            // the next token is a value
		free  bool            // keys here and below are not counted
		next  bool            // the same for the value that comes
	}
	var stack []frame
	keys := 0
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	for {
		tok, err := dec.Token()
		if err != nil {
			return nil //nolint:nilerr // the decoder says it better
		}
		top := len(stack) - 1
		if d, ok := tok.(json.Delim); ok && (d == '}' || d == ']') {
			if stack = stack[:top]; top == 0 {
				return nil
			}
			continue
		}
		if top >= 0 && stack[top].keys != nil && !stack[top].value {
			k, _ := tok.(string)
			if stack[top].keys[k] {
				return Invalid("invalid JSON: duplicate key %q", k)
			}
			if !stack[top].free {
				keys++
			}
			if keys > maxKeys {
				return Invalid("invalid JSON: more than %d keys", maxKeys)
			}
			stack[top].keys[k], stack[top].value, stack[top].next = true, true, stack[top].free || free[strings.ToLower(k)]
			continue
		}
		if top >= 0 {
			stack[top].value = false
		}
		d, ok := tok.(json.Delim)
		if !ok {
			if top < 0 {
				return nil
			}
			continue
		}
		if len(stack) == maxDepth {
			return Invalid("invalid JSON: nested deeper than %d levels", maxDepth)
		}
		f := frame{}
		if top >= 0 {
			f.free = stack[top].next || stack[top].free
		}
		if d == '{' {
			f.keys = map[string]bool{}
		}
		stack = append(stack, f)
	}
}
