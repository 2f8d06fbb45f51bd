package container

import "net"

// Socket is the connection to the shim that everything read comes from, so that bytes can be moved without being looked at;
// nil if there is none. It waits as Read does.
func (l *lateStream) Socket() *net.UnixConn { return socket(l.wait()) }

// Socket is as that of a container's stream; after its end Read tells when the exit code is known.
func (s *execStream) Socket() *net.UnixConn { return socket(s.Stream) }

func socket(s any) *net.UnixConn {
	c, _ := s.(*net.UnixConn)
	return c
}
