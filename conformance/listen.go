package conformance

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// happening is an event as the endpoint writes it.
type happening struct {
	Status, ID, From string
	Type, Action     string
	Actor            struct {
		ID         string
		Attributes map[string]string
	}
	Scope    string
	Time     int64
	TimeNano int64
}

// word is the event in short, as "container die".
func (h happening) word() string { return h.Type + " " + h.Action }

// about tells whether the event is that of one of the objects, or tells of one as the container of a network or a volume.
func (h happening) about(names []string) bool {
	return slices.Contains(names, h.Actor.ID) || slices.Contains(names, h.Actor.Attributes["container"]) || h.Type == "image" && slices.Contains(names, h.Actor.Attributes["name"])
}

// listener reads the endpoint's events as they come.
type listener struct {
	d    *json.Decoder
	body io.Closer
}

// listen begins to read events; what happens after it returned is not missed.
func (t *T) listen(filters obj) (*listener, error) {
	f, err := json.Marshal(filters)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(t.ctx, "GET", "http://engine"+t.full("/events?filters="+url.QueryEscape(string(f))), nil)
	if err != nil {
		return nil, err
	}
	resp, err := t.hc.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != 200 {
		resp.Body.Close()
		return nil, fmt.Errorf("events: %d", resp.StatusCode)
	}
	return &listener{json.NewDecoder(resp.Body), resp.Body}, nil
}

// until returns the events about the objects, up to and with the first that is as last says.
func (l *listener) until(last string, names ...string) ([]happening, error) {
	var out []happening
	for {
		var h happening
		if err := l.d.Decode(&h); err != nil {
			return out, fmt.Errorf("no %s after %v: %w", last, words(out), err)
		}
		if h.about(names) {
			if out = append(out, h); h.word() == last {
				return out, nil
			}
		}
	}
}

func words(hs []happening) []string {
	var out []string
	for _, h := range hs {
		out = append(out, h.word())
	}
	return out
}

// inOrder checks that the events are these and no others, where "a|b" leaves open which of them comes first.
func inOrder(hs []happening, want ...string) error {
	got := words(hs)
	at := 0
	for _, w := range want {
		any := strings.Split(w, "|")
		if at+len(any) > len(got) {
			return fmt.Errorf("events %q, want %q", got, want)
		}
		part := slices.Sorted(slices.Values(got[at : at+len(any)]))
		slices.Sort(any)
		if !slices.Equal(part, any) {
			return fmt.Errorf("events %q, want %q at %d", got, w, at)
		}
		at += len(any)
	}
	if at != len(got) {
		return fmt.Errorf("events %q, want %q", got, want)
	}
	return nil
}

// among checks that these events are told in this order, with or without others between them.
func among(hs []happening, want ...string) error {
	at := 0
	for _, w := range words(hs) {
		if at < len(want) && w == want[at] {
			at++
		}
	}
	if at < len(want) {
		return fmt.Errorf("events %q, want %q among them in this order", words(hs), want)
	}
	return nil
}

// attributes checks those of the first event of a kind; a value of * stands for any.
func attributes(hs []happening, word string, want map[string]string) error {
	for _, h := range hs {
		if h.word() != word {
			continue
		}
		got := maps.Clone(h.Actor.Attributes)
		for k, v := range want {
			if _, there := got[k]; there && v == "*" {
				got[k] = "*"
			}
		}
		if _, asked := want["execDuration"]; !asked {
			delete(got, "execDuration") // newer than the oldest engines in use
		}
		if !maps.Equal(got, want) {
			return fmt.Errorf("%s has attributes %v, want %v", word, h.Actor.Attributes, want)
		}
		return nil
	}
	return fmt.Errorf("no %s in %q", word, words(hs))
}
