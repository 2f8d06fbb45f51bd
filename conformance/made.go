package conformance

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/berthd/berth/conformance/spec"
)

// made is what a case brought into being, read off the answers that it got.
type made struct {
	mu                                    sync.Mutex
	containers, networks, volumes, images []string
	findings                              []spec.Finding // of the case's answers
}

var (
	versioned = regexp.MustCompile(`^/v1\.\d+`)
	tagPath   = regexp.MustCompile(`^/images/.+/tag$`)
	imageID   = regexp.MustCompile(`sha256:[0-9a-f]{64}`)
	loaded    = regexp.MustCompile(`Loaded image(?: ID)?: ([^\\"\s]+)`)
)

// note looks at one answer.
func (m *made) note(method, target string, a *Answer) {
	if method != "POST" || a.Status/100 != 2 {
		return
	}
	u, err := url.Parse(strings.TrimPrefix(target, "!"))
	if err != nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	word := func(key string) string { s, _ := a.JSON()[key].(string); return s }
	q := u.Query()
	// An image without a name is known by the id that the answer ends with.
	image := func(repo, tag string) {
		if repo == "" {
			ids := imageID.FindAll(a.Body, -1)
			if len(ids) == 0 {
				return
			}
			repo, tag = string(ids[len(ids)-1]), ""
		}
		if tag != "" {
			repo += ":" + tag
		}
		m.images = append(m.images, repo)
	}
	switch p := versioned.ReplaceAllString(u.Path, ""); {
	case p == "/containers/create":
		m.containers = append(m.containers, word("Id"))
	case p == "/networks/create":
		m.networks = append(m.networks, word("Id"))
	case p == "/volumes/create":
		m.volumes = append(m.volumes, word("Name"))
	case tagPath.MatchString(p), p == "/commit":
		image(q.Get("repo"), q.Get("tag"))
	case p == "/images/create" && q.Get("fromSrc") != "":
		image(q.Get("repo"), q.Get("tag"))
	case p == "/images/load":
		for _, w := range loaded.FindAllSubmatch(a.Body, -1) {
			image(string(w[1]), "")
		}
	case p == "/build":
		for _, t := range q["t"] {
			image(t, "")
		}
		if len(q["t"]) == 0 {
			image("", "")
		}
	}
}

// cleanUp removes what was made, in the order in which engines allow it. What is gone already is no error.
func (c *Client) cleanUp() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	k := *c
	k.ctx, k.made, k.watch = ctx, nil, nil
	var errs []error
	del := func(what, path string) {
		a, err := k.Do("DELETE", path, nil)
		if err == nil && a.Status/100 != 2 && a.Status != 404 && !bytes.Contains(a.Body, []byte("is already in progress")) {
			err = fmt.Errorf("%d %s", a.Status, bytes.TrimSpace(a.Body))
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("clean-up of %s: %w", what, err))
		}
	}
	m := c.made
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, id := range m.containers {
		del("container "+id, "/containers/"+id+"?force=1&v=1")
	}
	for _, id := range m.networks {
		del("network "+id, "/networks/"+id)
	}
	// Volumes also come into being by name, through binds.
	if a, err := k.Do("GET", `/volumes?filters={"name":["`+c.prefix+`"]}`, nil); err == nil && a.Status == 200 {
		var list struct{ Volumes []struct{ Name string } }
		_ = json.Unmarshal(a.Body, &list) // nothing listed, nothing removed
		for _, v := range list.Volumes {
			if strings.HasPrefix(v.Name, c.prefix) {
				m.volumes = append(m.volumes, v.Name)
			}
		}
	}
	for _, name := range m.volumes {
		del("volume "+name, "/volumes/"+name+"?force=1")
	}
	for _, ref := range m.images {
		if !strings.HasPrefix(ref, "busybox:") {
			del("image "+ref, "/images/"+ref+"?force=1")
		}
	}
	return errors.Join(errs...)
}
