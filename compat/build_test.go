package compat

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/berthd/berth/engine/build"
)

// grpcOnly is a builder that answers gRPC with a word of its own.
type grpcOnly struct{ build.Builder }

func (grpcOnly) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/grpc")
	_, _ = io.WriteString(w, "builder:"+r.URL.Path) // the test reads it
}

func TestBuildClientsSpeakGRPCOnTheMainSocket(t *testing.T) {
	s := &Server{Log: slog.New(slog.DiscardHandler), Version: "9.9", Backend: Backend{Build: grpcOnly{}}}
	srv := httptest.NewUnstartedServer(s.Handler())
	srv.Config.Protocols = new(http.Protocols)
	srv.Config.Protocols.SetHTTP1(true)
	srv.Config.Protocols.SetUnencryptedHTTP2(true)
	srv.Start()
	defer srv.Close()
	h2 := &http.Transport{Protocols: new(http.Protocols)}
	h2.Protocols.SetUnencryptedHTTP2(true)
	defer h2.CloseIdleConnections()
	for _, tc := range []struct {
		name, contentType, want string
		transport               http.RoundTripper
	}{
		{"gRPC over HTTP/2", "application/grpc+proto", "builder:/moby.buildkit.v1.Control/Info", h2},
		{"JSON over HTTP/2", "application/json", "page not found", h2},
		{"gRPC's type over HTTP/1.1", "application/grpc", "page not found", http.DefaultTransport},
	} {
		t.Run(tc.name, func(t *testing.T) {
			resp, err := (&http.Client{Transport: tc.transport}).Post(srv.URL+"/moby.buildkit.v1.Control/Info", tc.contentType, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			b, err := io.ReadAll(resp.Body)
			if err != nil || !strings.Contains(string(b), tc.want) {
				t.Errorf("got %q, %v, want %q", b, err, tc.want)
			}
		})
	}
}
