package wire

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// Filters is a parsed filters parameter.
type Filters map[string][]string

// ParseFilters accepts both forms, {"k":{"v":true}} and {"k":["v"]}. Keys that are not allowed are refused, unless none is named.
func ParseFilters(s string, allowed ...string) (Filters, error) {
	out := Filters{}
	if s == "" {
		return out, nil
	}
	var raw map[string]json.RawMessage
	if err := json.Unmarshal([]byte(s), &raw); err != nil {
		return nil, Invalid("invalid filter")
	}
	if len(raw) > maxFilterKeys {
		return nil, Invalid("invalid filter: filters has %d keys, at most %d are allowed", len(raw), maxFilterKeys)
	}
	for _, k := range slices.Sorted(maps.Keys(raw)) {
		if len(allowed) > 0 && !slices.Contains(allowed, k) {
			return nil, Invalid("invalid filter '%s'", k)
		}
		var list []string
		if json.Unmarshal(raw[k], &list) != nil {
			var set map[string]bool
			if json.Unmarshal(raw[k], &set) != nil {
				return nil, Invalid("invalid filter")
			}
			list = slices.Sorted(maps.Keys(set))
		}
		if len(list) > maxFilterValues {
			return nil, Invalid("invalid filter '%s': %d values, at most %d are allowed", k, len(list), maxFilterValues)
		}
		out[k] = list
	}
	return out, nil
}

// Bool reads a filter that takes one truth: 1, true, 0 or false. Absent is def.
func (f Filters) Bool(key string, def bool) (bool, error) {
	vs := f[key]
	if len(vs) == 0 {
		return def, nil
	}
	yes, no := slices.Contains(vs, "1") || slices.Contains(vs, "true"), slices.Contains(vs, "0") || slices.Contains(vs, "false")
	if yes == no {
		return false, Invalid("invalid filter '%s=%s'", key, vs)
	}
	return yes, nil
}

// Labels reports whether all wanted labels (k or k=v) are there.
func Labels(want []string, have map[string]string) bool {
	for _, w := range want {
		k, v, eq := strings.Cut(w, "=")
		got, ok := have[k]
		if !ok || eq && got != v {
			return false
		}
	}
	return true
}
