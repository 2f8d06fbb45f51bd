package compat

import (
	"bufio"
	"net"
	"net/http"
)

// writer notes how far an answer has come, so that a failure in its middle can be told from one before it.
type writer struct {
	http.ResponseWriter
	wrote bool
	conn  net.Conn // once the connection is taken over
}

func (w *writer) WriteHeader(code int) {
	if code >= 200 {
		w.wrote = true
	}
	w.ResponseWriter.WriteHeader(code)
}

func (w *writer) Write(b []byte) (int, error) {
	w.wrote = true
	return w.ResponseWriter.Write(b)
}

// Hijack is http.Hijacker.
func (w *writer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	w.conn = c
	return c, rw, err
}

// Unwrap leads the response controller on.
func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }
