package drivers

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/berthd/berth/engine/logs"
)

// facilities by name. Source: RFC 5424, table 1.
var facilities = map[string]int{
	"kern": 0, "user": 1, "mail": 2, "daemon": 3, "auth": 4, "syslog": 5, "lpr": 6, "news": 7, "uucp": 8, "cron": 9, "authpriv": 10, "ftp": 11,
	"local0": 16, "local1": 17, "local2": 18, "local3": 19, "local4": 20, "local5": 21, "local6": 22, "local7": 23,
}

type syslog struct {
	link
	format        string
	frame         bool // length before each message, as RFC 5425 says
	facility      int
	host, tag, id string
}

func facility(s string) (int, error) {
	if s == "" {
		return 3, nil
	}
	if n, ok := facilities[s]; ok {
		return n, nil
	}
	if n, err := strconv.Atoi(s); err == nil && n >= 0 && n <= 23 {
		return n, nil
	}
	return 0, errors.New("invalid syslog facility")
}

// syslogAddress splits an address; "" is the host's own socket.
func syslogAddress(s string) (network, address string, secure bool, err error) {
	if s == "" {
		for _, p := range []string{"/dev/log", "/var/run/syslog", "/var/run/log"} {
			if _, err := os.Stat(p); err == nil {
				return "unixgram", p, false, nil
			}
		}
		return "unixgram", "/dev/log", false, nil
	}
	u, err := url.Parse(s)
	if err != nil {
		return "", "", false, err
	}
	switch u.Scheme {
	case "unix", "unixgram":
		if _, err := os.Stat(u.Path); err != nil {
			return "", "", false, err
		}
		return u.Scheme, u.Path, false, nil
	case "udp", "tcp", "tcp+tls":
	default:
		return "", "", false, fmt.Errorf("syslog: unsupported scheme: '%s'", u.Scheme)
	}
	host := u.Host
	if _, _, err := net.SplitHostPort(host); err != nil {
		if !strings.Contains(err.Error(), "missing port in address") {
			return "", "", false, err
		}
		host = net.JoinHostPort(host, "514")
	}
	return strings.TrimSuffix(u.Scheme, "+tls"), host, u.Scheme == "tcp+tls", nil
}

func checkSyslog(o map[string]string) error {
	if _, _, _, err := syslogAddress(o["syslog-address"]); err != nil {
		return err
	}
	if _, err := facility(o["syslog-facility"]); err != nil {
		return err
	}
	switch o["syslog-format"] {
	case "", "rfc3164", "rfc5424", "rfc5424micro":
	default:
		return errors.New("Invalid syslog format") //nolint:staticcheck // dockerd's text
	}
	return nil
}

func openSyslog(i Info) (Forwarder, error) {
	s := &syslog{format: i.Options["syslog-format"], host: i.Hostname}
	var secure bool
	var err error
	if s.network, s.address, secure, err = syslogAddress(i.Options["syslog-address"]); err != nil {
		return nil, err
	}
	if s.facility, err = facility(i.Options["syslog-facility"]); err != nil {
		return nil, err
	}
	if s.tag, err = Tag(i, "{{.ID}}"); err != nil {
		return nil, err
	}
	if secure {
		if s.tls, err = clientTLS(i.Options); err != nil {
			return nil, err
		}
		s.frame = strings.HasPrefix(s.format, "rfc5424")
	}
	return s, nil
}

func clientTLS(o map[string]string) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if f := o["syslog-tls-ca-cert"]; f != "" {
		pem, err := os.ReadFile(f)
		if err != nil {
			return nil, fmt.Errorf("could not read CA certificate %q: %w", f, err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("failed to append certificates from PEM file: %q", f)
		}
	}
	if cert, key := o["syslog-tls-cert"], o["syslog-tls-key"]; cert != "" || key != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("could not load X509 key pair: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	_, c.InsecureSkipVerify = o["syslog-tls-skip-verify"] // its presence alone counts, as in dockerd
	return c, nil
}

func (s *syslog) message(r *logs.Record) []byte {
	pri, pid, t := s.facility*8+severity(r), os.Getpid(), r.Time.Local()
	var m string
	switch s.format {
	case "rfc3164":
		m = fmt.Sprintf("<%d>%s %s %s[%d]: %s", pri, t.Format(time.Stamp), s.host, s.tag, pid, text(r))
	case "rfc5424", "rfc5424micro":
		layout := time.RFC3339
		if s.format == "rfc5424micro" {
			layout = "2006-01-02T15:04:05.000000Z07:00"
		}
		m = fmt.Sprintf("<%d>1 %s %s %s %d %s - %s", pri, t.Format(layout), s.host, s.tag, pid, s.tag, text(r))
	default:
		m = fmt.Sprintf("<%d>%s %s[%d]: %s", pri, t.Format(time.Stamp), s.tag, pid, text(r))
	}
	m += "\n"
	if s.frame {
		m = strconv.Itoa(len(m)) + " " + m
	}
	return []byte(m)
}

func (s *syslog) Send(ctx context.Context, rs []logs.Record) error {
	packets := s.network == "udp" || s.network == "unixgram"
	var all []byte
	for i := range rs {
		m := s.message(&rs[i])
		if !packets {
			all = append(all, m...)
			continue
		}
		if err := s.write(ctx, m); err != nil {
			return err
		}
	}
	if packets {
		return nil
	}
	return s.write(ctx, all)
}
