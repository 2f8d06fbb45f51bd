package buildkit

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"sync"

	"github.com/moby/buildkit/executor"

	"github.com/berthd/berth/engine/shim"
)

// opener is a task or an exec.
type opener interface {
	Open(ctx context.Context, w shim.Which) (shim.Stream, error)
}

// streams carry a step's stdio.
type streams struct {
	s   shim.Stream
	p   *executor.ProcessInfo
	wg  sync.WaitGroup
	err error
}

// connect opens a step's stdio before it starts, so that nothing it prints is missed.
func connect(ctx context.Context, o opener, p *executor.ProcessInfo) (*streams, error) {
	s, err := o.Open(ctx, shim.Which{Stdin: p.Stdin != nil, Stdout: true, Stderr: true})
	if err != nil {
		return nil, err
	}
	c := &streams{s: s, p: p}
	c.wg.Add(1)
	go func() {
		defer c.wg.Done()
		c.err = c.output()
	}()
	if p.Stdin != nil {
		go func() { // ends with the step: its stream is closed then
			_, _ = io.Copy(s, p.Stdin) // either side may go
			_ = s.CloseWrite()         // as above
		}()
	}
	return c, nil
}

// output hands frames to their writers until the step's output ends.
func (c *streams) output() error {
	if c.p.Meta.Tty {
		_, err := io.Copy(writer(c.p.Stdout), c.s)
		return err
	}
	var h [8]byte
	for {
		if _, err := io.ReadFull(c.s, h[:]); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		w := writer(c.p.Stdout)
		if h[0] == 2 {
			w = writer(c.p.Stderr)
		}
		if _, err := io.CopyN(w, c.s, int64(binary.BigEndian.Uint32(h[4:]))); err != nil {
			return err
		}
	}
}

func writer(w io.Writer) io.Writer {
	if w == nil {
		return io.Discard
	}
	return w
}

// wait returns when everything the step wrote was handed over.
func (c *streams) wait() error {
	c.wg.Wait()
	c.close()
	return c.err
}

// abandon ends the streams of a step that did not start.
func (c *streams) abandon() {
	c.close()
	c.wg.Wait()
}

func (c *streams) close() {
	_ = c.s.Close() // the shim's end may be gone
	if c.p.Stdin != nil {
		_ = c.p.Stdin.Close() // only read from
	}
	for _, w := range []io.Closer{c.p.Stdout, c.p.Stderr} {
		if w != nil {
			_ = w.Close() // BuildKit's own pipes
		}
	}
}
