package conformance

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// transcript is a recording of exchanges with an engine. Ids, times and numbers that vary stand in it as tokens in angle
// brackets; the same token is the same value.
type transcript struct {
	Group     string
	Exchanges []exchange
}

type exchange struct {
	ID  string
	Req struct {
		Method, Path string
		Query        json.RawMessage // an object, or pairs where a key repeats
		Headers      map[string]any
		Body         json.RawMessage
		BodyText     *string `json:"body_text"`
		BodyIs       any     `json:"body_is"`
		BodyTar      any     `json:"body_tar"`
	}
	Resp struct {
		Status      int
		Body        json.RawMessage
		BodyPart    map[string]any `json:"body_part"`
		BodyAs      string         `json:"body_as"`
		BodyChanges map[string]any `json:"body_changes"`
		Text        *string
	}
	Events any
}

// player replays a transcript.
type player struct {
	*Client
	known map[string]string // tokens that have been seen
	past  map[string]any    // bodies as recorded, by exchange
}

// Replay sends the requests of a transcript to an endpoint and writes where its answers differ. Exchanges that need more than a
// request and its answer are left out. Set-up that a recording left out is not guessed: what follows from it differs.
func Replay(host string, raw []byte, w io.Writer) (played, differing int, err error) {
	var tr transcript
	if err := json.Unmarshal(raw, &tr); err != nil {
		return 0, 0, err
	}
	c, err := NewClient(host)
	if err != nil {
		return 0, 0, err
	}
	var image bytes.Buffer
	if err := WriteImage(&image, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"); err != nil {
		return 0, 0, err
	}
	if err := c.load(&image); err != nil {
		return 0, 0, err
	}
	c.made = &made{}
	for _, name := range []string{"alpine", "hello-world"} {
		if _, err := c.Do("POST", "/images/busybox/tag?repo="+name, nil); err != nil {
			return 0, 0, err
		}
	}
	defer func() { _ = c.cleanUp() }() // the endpoint is made for this
	p := &player{c, map[string]string{}, map[string]any{}}
	for _, x := range tr.Exchanges {
		if x.Req.BodyIs != nil || x.Req.BodyTar != nil || x.Events != nil {
			continue
		}
		played++
		ds, err := p.play(x)
		if err != nil {
			ds = []string{err.Error()}
		}
		if len(ds) > 0 {
			differing++
			query, _ := url.QueryUnescape(p.query(x)) // to be read
			fmt.Fprintf(w, "%s %s: %s %s %s %s\n", tr.Group, x.ID, x.Req.Method, x.Req.Path, query, x.Req.Body)
			for _, d := range ds {
				fmt.Fprintf(w, "    %s\n", d)
			}
		}
	}
	return played, differing, nil
}

var token = regexp.MustCompile(`<[a-zA-Z]+(:[^<>]*)?>`)

// fill puts what tokens stand for in their place.
func (p *player) fill(s string) string {
	return token.ReplaceAllStringFunc(s, func(t string) string {
		if v, ok := p.known[t]; ok {
			return v
		}
		if whole, ok := p.known[strings.TrimSuffix(t, ":12>")+">"]; ok && len(whole) > 12 {
			return whole[:12]
		}
		return t
	})
}

func (p *player) query(x exchange) string {
	var pairs [][2]any
	if json.Unmarshal(x.Req.Query, &pairs) != nil {
		var m map[string]any
		if json.Unmarshal(x.Req.Query, &m) != nil {
			return ""
		}
		for _, k := range slices.Sorted(maps.Keys(m)) {
			pairs = append(pairs, [2]any{k, m[k]})
		}
	}
	var out []string
	for _, kv := range pairs {
		v, text := kv[1].(string)
		if !text {
			raw, _ := json.Marshal(kv[1]) // it came from JSON
			v = string(raw)
		}
		out = append(out, url.QueryEscape(fmt.Sprint(kv[0]))+"="+url.QueryEscape(p.fill(v)))
	}
	return strings.Join(out, "&")
}

func (p *player) play(x exchange) ([]string, error) {
	path := p.fill(x.Req.Path)
	if q := p.query(x); q != "" {
		path += map[bool]string{true: "&", false: "?"}[strings.Contains(path, "?")] + q
	}
	if err := p.free(x); err != nil {
		return nil, err
	}
	a, err := p.send(x, path)
	if err != nil {
		return nil, err
	}
	var ds []string
	if a.Status != x.Resp.Status {
		ds = append(ds, fmt.Sprintf("status %d, recorded %d; %s", a.Status, x.Resp.Status, bytes.TrimSpace(a.Body)))
		return ds, nil
	}
	var got any
	d := json.NewDecoder(bytes.NewReader(a.Body))
	d.UseNumber()
	_ = d.Decode(&got) // nil is told as a difference
	want, ok := p.recorded(x)
	if ok {
		p.past[x.ID] = want
		p.compare("", want, got, &ds)
	}
	for _, path := range slices.Sorted(maps.Keys(x.Resp.BodyPart)) {
		if strings.HasPrefix(path, "#") || strings.Contains(path, ".#") || path == "names" { // of all elements
			continue
		}
		p.compare(path, x.Resp.BodyPart[path], at(got, strings.Split(path, ".")), &ds)
	}
	if x.Resp.Text != nil && !p.same(*x.Resp.Text, string(a.Body)) {
		ds = append(ds, fmt.Sprintf("%q, recorded %q", a.Body, *x.Resp.Text))
	}
	return ds, nil
}

// send is the request as it was recorded, headers and all.
func (p *player) send(x exchange, path string) (*Answer, error) {
	body := p.fill(string(x.Req.Body))
	if x.Req.BodyText != nil {
		body = *x.Req.BodyText
	}
	req, err := http.NewRequestWithContext(p.ctx, x.Req.Method, "http://engine"+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	if x.Req.Body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for k, v := range x.Req.Headers {
		if text, ok := v.(string); ok {
			req.Header.Set(k, text)
		}
	}
	resp, err := p.hc.Transport.RoundTrip(req) // redirections are answers
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	// Streams that have no end are cut: their beginning is what was recorded.
	stop := time.AfterFunc(5*time.Second, func() { _ = resp.Body.Close() })
	defer stop.Stop()
	raw, err := io.ReadAll(resp.Body)
	a := &Answer{resp.StatusCode, resp.Header, raw}
	p.saw(x.Req.Method, "!"+path, a, nil)
	if len(raw) > 0 {
		err = nil
	}
	return a, err
}

// free removes the container whose name a creation is about to take: what a recording removed without telling.
func (p *player) free(x exchange) error {
	if x.Req.Method != "POST" || !strings.HasSuffix(x.Req.Path, "/containers/create") || bytes.Contains(x.Resp.Body, []byte("is already in use by container")) {
		return nil
	}
	q, err := url.ParseQuery(p.query(x))
	if err != nil || q.Get("name") == "" {
		return err
	}
	delete(p.known, "<ctr:"+q.Get("name")+">")
	_, err = p.Do("DELETE", "/containers/"+q.Get("name")+"?force=1&v=1", nil)
	return err
}

// recorded is the body that an exchange has, its own or another's with changes.
func (p *player) recorded(x exchange) (any, bool) {
	if x.Resp.BodyAs == "" {
		if x.Resp.Body == nil {
			return nil, false
		}
		var v any
		err := json.Unmarshal(x.Resp.Body, &v)
		return v, err == nil
	}
	raw, err := json.Marshal(p.past[x.Resp.BodyAs])
	if err != nil || string(raw) == "null" {
		return nil, false
	}
	var v any
	if json.Unmarshal(raw, &v) != nil {
		return nil, false
	}
	for path, to := range x.Resp.BodyChanges {
		put(v, strings.Split(path, "."), to)
	}
	return v, true
}

const absent = "<absent>"

func at(v any, path []string) any {
	for _, k := range path {
		switch x := v.(type) {
		case map[string]any:
			next, ok := x[k]
			if !ok {
				return absent
			}
			v = next
		case []any:
			i, err := strconv.Atoi(k)
			if err != nil || i >= len(x) {
				return absent
			}
			v = x[i]
		default:
			return absent
		}
	}
	return v
}

func put(v any, path []string, to any) {
	parent := at(v, path[:len(path)-1])
	last := path[len(path)-1]
	switch x := parent.(type) {
	case map[string]any:
		if to == absent {
			delete(x, last)
		} else {
			x[last] = to
		}
	case []any:
		if i, err := strconv.Atoi(last); err == nil && i < len(x) {
			x[i] = to
		}
	}
}

func (p *player) compare(path string, want, got any, ds *[]string) {
	tell := func() {
		g, _ := json.Marshal(got)  // it came from JSON
		w, _ := json.Marshal(want) // as above
		*ds = append(*ds, fmt.Sprintf("%s: %.200s, recorded %.200s", path, g, w))
	}
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			tell()
			return
		}
		for _, k := range slices.Sorted(maps.Keys(w)) {
			if v, there := g[k]; there {
				p.compare(path+"."+k, w[k], v, ds)
			} else {
				*ds = append(*ds, path+"."+k+": missing")
			}
		}
		for _, k := range slices.Sorted(maps.Keys(g)) {
			if _, there := w[k]; !there && !token.MatchString(fmt.Sprint(slices.Sorted(maps.Keys(w)))) {
				*ds = append(*ds, path+"."+k+": not recorded")
			}
		}
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(w) {
			tell()
			return
		}
		for i := range w {
			p.compare(fmt.Sprintf("%s.%d", path, i), w[i], g[i], ds)
		}
	case string:
		g, ok := got.(string)
		if !ok {
			if n, number := got.(json.Number); number && (strings.HasPrefix(w, "<int") || strings.HasPrefix(w, "<float")) {
				_ = n
				return
			}
			tell()
			return
		}
		if !p.same(w, g) {
			tell()
		}
	default:
		a, _ := json.Marshal(want) // it came from JSON
		b, _ := json.Marshal(got)  // as above
		if string(a) != string(b) {
			tell()
		}
	}
}

// same matches a recorded text with tokens against what came; tokens that stand for an object are bound by it.
func (p *player) same(want, got string) bool {
	var names []string
	pattern, last := "", 0
	for _, m := range token.FindAllStringIndex(want, -1) {
		pattern += regexp.QuoteMeta(p.fill(want[last:m[0]]))
		t := want[m[0]:m[1]]
		if v := p.fill(t); v != t {
			pattern += regexp.QuoteMeta(v)
		} else {
			pattern += "(.*)"
			names = append(names, t)
		}
		last = m[1]
	}
	re, err := regexp.Compile("(?s)^" + pattern + regexp.QuoteMeta(want[last:]) + "$")
	if err != nil {
		return false
	}
	m := re.FindStringSubmatch(got)
	if m == nil {
		return false
	}
	for i, t := range names {
		kind, _, _ := strings.Cut(strings.Trim(t, "<>"), ":")
		if slices.Contains([]string{"ctr", "net", "img", "exec", "vol", "hex", "digest"}, kind) && !strings.HasSuffix(t, ":12>") {
			p.known[t] = m[i+1]
		}
	}
	return true
}
