package drivers

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"time"
)

// link is a connection that is made when it is needed.
type link struct {
	network, address string
	tls              *tls.Config // nil: plain
	timeout          time.Duration
	conn             net.Conn
}

const defaultTimeout = 10 * time.Second

func (l *link) connect(ctx context.Context) error {
	if l.conn != nil && l.alive() {
		return nil
	}
	l.drop()
	ctx, cancel := context.WithTimeout(ctx, defaultTimeout)
	defer cancel()
	var err error
	if l.tls != nil {
		l.conn, err = (&tls.Dialer{Config: l.tls}).DialContext(ctx, l.network, l.address)
	} else {
		l.conn, err = (&net.Dialer{}).DialContext(ctx, l.network, l.address)
	}
	if err != nil {
		l.conn = nil
	}
	return err
}

// alive notices a receiver that has closed: a first write to it would succeed, and be lost.
func (l *link) alive() bool {
	switch l.network {
	case "udp", "unixgram":
		return true
	}
	var one [1]byte
	_ = l.conn.SetReadDeadline(time.Now().Add(time.Millisecond)) // all of these connections take it
	_, err := l.conn.Read(one[:])
	return err == nil || errors.Is(err, os.ErrDeadlineExceeded)
}

// write sends b whole; after an error the connection is gone.
func (l *link) write(ctx context.Context, b []byte) error {
	if err := l.connect(ctx); err != nil {
		return err
	}
	limit := l.timeout
	if limit == 0 {
		limit = defaultTimeout
	}
	_ = l.conn.SetDeadline(time.Now().Add(limit)) // all of these connections take it
	stop := context.AfterFunc(ctx, func() { _ = l.conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	_, err := l.conn.Write(b)
	if err != nil {
		l.drop()
	}
	return err
}

func (l *link) drop() {
	if l.conn != nil {
		_ = l.conn.Close() // given up
		l.conn = nil
	}
}

func (l *link) Close() error { l.drop(); return nil }

var _ io.Closer = (*link)(nil)
