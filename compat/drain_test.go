package compat

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/berthd/berth/compat/wire"
)

// A handler that refuses an upload at its head leaves the connection fit for the next request.
func TestAnUploadThatWasNotReadLeavesTheConnection(t *testing.T) {
	srv := tested(t, route{method: post, pattern: "/early", success: 200, kind: upload, handler: func(*Server, *Ctx) (any, error) { return nil, wire.Invalid("no") }},
		route{method: post, pattern: "/plain", success: 200, handler: func(*Server, *Ctx) (any, error) { return []int{}, nil }})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 100 {
				hc := &http.Client{Transport: &http.Transport{}}
				for _, step := range []struct {
					path string
					body io.Reader
					want int
				}{{"/early", io.NopCloser(bytes.NewReader(make([]byte, 4000))), 400}, {"/plain", nil, 200}} {
					resp, err := hc.Post(srv.URL+step.path, "application/x-tar", step.body)
					if err != nil {
						t.Errorf("%s: %v", step.path, err)
						continue
					}
					_, _ = io.Copy(io.Discard, resp.Body) // the status is looked at
					_ = resp.Body.Close()                 // as above
					if resp.StatusCode != step.want {
						t.Errorf("%s: %d, want %d", step.path, resp.StatusCode, step.want)
					}
				}
				hc.CloseIdleConnections()
			}
		})
	}
	wg.Wait()
}

func TestAnUploadWithoutEndIsCutOff(t *testing.T) {
	srv := tested(t, route{method: post, pattern: "/early", success: 200, kind: upload, handler: func(*Server, *Ctx) (any, error) { return nil, wire.Invalid("no") }})
	pr, pw := io.Pipe()
	go func() {
		defer pw.Close()
		for range 100 { // far more than is read
			if _, err := pw.Write(make([]byte, 1<<20)); err != nil {
				return
			}
		}
	}()
	resp, err := http.Post(srv.URL+"/early", "application/x-tar", pr)
	if err != nil {
		if strings.Contains(err.Error(), "broken pipe") || strings.Contains(err.Error(), "connection reset") {
			return // the client was cut off while it wrote: as good
		}
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 400 || !resp.Close {
		t.Errorf("%d, close %v", resp.StatusCode, resp.Close)
	}
}
