package compat

import (
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/berthd/berth/compat/wire"
	"github.com/berthd/berth/engine/container"
)

// archivePath is the parameter that archive operations need.
func (c *Ctx) archivePath() (string, error) {
	if p := c.query.Get("path"); p != "" {
		return p, nil
	}
	return "", wire.Invalid("bad parameter: path cannot be empty")
}

func (c *Ctx) setPathStat(i *container.FileInfo) {
	b, _ := json.Marshal(wire.PathStat(i)) // plain values
	c.w.Header().Set("X-Docker-Container-Path-Stat", base64.StdEncoding.EncodeToString(b))
}

func (s *Server) archiveHead(c *Ctx) (any, error) {
	p, err := c.archivePath()
	if err != nil {
		return nil, err
	}
	i, err := s.Containers.StatPath(c.Context(), c.Param("id"), p)
	if err != nil {
		return nil, err
	}
	c.setPathStat(i)
	c.w.WriteHeader(http.StatusOK)
	return nil, done
}

func (s *Server) archiveGet(c *Ctx) (any, error) {
	p, err := c.archivePath()
	if err != nil {
		return nil, err
	}
	var zipped *gzip.Writer
	begun := false
	err = s.Containers.GetArchive(c.Context(), c.Param("id"), p, func(i *container.FileInfo) io.Writer {
		begun = true
		c.setPathStat(i)
		c.w.Header().Set("Content-Type", "application/x-tar")
		if accepts(c.Header.Get("Accept-Encoding"), "gzip") {
			c.w.Header().Set("Content-Encoding", "gzip")
			zipped, _ = gzip.NewWriterLevel(c.w, gzip.BestSpeed) // a level that exists
			return zipped
		}
		return c.w
	})
	return c.streamed(begun, err, zipped)
}

// accepts looks for a coding in a list of them.
func accepts(header, coding string) bool {
	for _, f := range strings.Split(header, ",") {
		name, weight, _ := strings.Cut(strings.TrimSpace(f), ";")
		if strings.TrimSpace(name) == coding && strings.ReplaceAll(weight, " ", "") != "q=0" {
			return true
		}
	}
	return false
}

// streamed ends an answer that is written while it is made. After an error in the middle the connection is cut, so that
// the client does not take the part for the whole.
func (c *Ctx) streamed(begun bool, err error, end io.Closer) (any, error) {
	if err == nil {
		if z, ok := end.(*gzip.Writer); ok && z != nil {
			err = z.Close()
		}
	}
	if err == nil {
		return nil, done
	}
	if !begun {
		return nil, err
	}
	panic(http.ErrAbortHandler)
}

func (s *Server) archivePut(c *Ctx) (any, error) {
	p, err := c.archivePath()
	if err != nil {
		return nil, err
	}
	o := container.PutOptions{KeepKind: c.flag("noOverwriteDirNonDir"), OwnedByUser: c.flag("copyUIDGID")}
	if err := s.Containers.PutArchive(c.Context(), c.Param("id"), p, c.Body, o); err != nil {
		return nil, err
	}
	// What follows the end of the archive is read too, or the connection could not be used again.
	_, err = io.Copy(io.Discard, c.Body)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return nil, nil
}

func (s *Server) containerExport(c *Ctx) (any, error) {
	begun := false
	err := s.Containers.Export(c.Context(), c.Param("id"), func() io.Writer {
		begun = true
		c.w.Header().Set("Content-Type", "application/octet-stream")
		return c.w
	})
	return c.streamed(begun, err, nil)
}
