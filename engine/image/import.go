package image

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"runtime"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berthd/berth/engine/internal/errkind"
)

// ImportOptions of Import.
type ImportOptions struct {
	Repo, Tag, Message string
	Changes            Config
	Platform           *ocispec.Platform
}

// Import makes an image of one layer from a root file system archive. It is unpacked while it is stored.
//
// Errors: ErrInvalidArgument.
func (s *Service) Import(ctx context.Context, r io.Reader, o ImportOptions) (id digest.Digest, err error) {
	name, err := Name(o.Repo, o.Tag)
	if err != nil {
		return "", err
	}
	if _, ok := name.(reference.Digested); ok {
		return "", errkind.InvalidArgument("cannot import digest reference")
	}
	plain, err := decompress(r)
	if err != nil {
		return "", errkind.InvalidArgument("%w", err)
	}
	defer plain.Close()
	err = s.leased(ctx, func(ctx context.Context) error {
		layer, err := s.storeLayer(ctx, nil, func(_ context.Context, w io.Writer) error {
			_, err := io.CopyBuffer(w, struct{ io.Reader }{&bounded{r: plain, left: maxImport}}, make([]byte, 1<<20))
			return err
		})
		if err != nil {
			return err
		}
		now := s.o.Now().UTC()
		p := ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}
		if o.Platform != nil {
			p = *o.Platform
		}
		parts := imageParts{platform: &p, config: o.Changes, created: now, comment: o.Message, history: []ocispec.History{{Created: &now, Comment: o.Message, EmptyLayer: layer == nil}}}
		if layer != nil {
			parts.diffs, parts.layers = []digest.Digest{layer.Digest}, []ocispec.Descriptor{*layer}
		}
		target, err := s.writeImage(ctx, parts)
		if err != nil {
			return err
		}
		id = target.Digest
		key := dangling(id)
		if name != nil {
			key = name.String()
		}
		return s.put(ctx, key, target)
	})
	if err == nil {
		s.publish("import", id.String(), id.String())
	}
	return id, err
}

// maxImport is the largest root file system that is taken, in bytes unpacked.
const maxImport = 1 << 40

// Fetch opens what lies at a URL of the user's, for Import. Only http and https.
func (s *Service) Fetch(ctx context.Context, url string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, errkind.InvalidArgument("%w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		_ = resp.Body.Close() // an error page
		return nil, fmt.Errorf("unexpected status code: %d (%s)", resp.StatusCode, url)
	}
	return resp.Body, nil
}

func (s *Service) writeJSON(ctx context.Context, mediaType string, labels map[string]string, v any) (ocispec.Descriptor, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
	err = content.WriteBlob(ctx, s.content, "put-"+d.Digest.String(), bytes.NewReader(b), d, content.WithLabels(labels))
	return d, err
}
