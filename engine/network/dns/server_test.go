package dns

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// book is a Names of fixed content.
type book struct {
	names map[string][]string
	ups   []Upstream
	ndots bool
}

func (b *book) Lookup(name string) ([]netip.Addr, bool) {
	as, ok := b.names[name]
	var out []netip.Addr
	for _, a := range as {
		out = append(out, netip.MustParseAddr(a))
	}
	return out, ok
}

func (b *book) Reverse(a netip.Addr) (string, bool) {
	for name, as := range b.names {
		for _, x := range as {
			if x == a.String() {
				return name + ".net", true
			}
		}
	}
	return "", false
}
func (b *book) Upstreams() []Upstream { return b.ups }
func (b *book) Ndots() bool           { return b.ndots }

// serve starts a Server on loopback and returns its address for both transports.
func serve(t *testing.T, b *book) (udp, tcp string) {
	t.Helper()
	u, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := Serve(context.WithoutCancel(t.Context()), u, l, b, func(ctx context.Context, network string, up Upstream) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, up.Addr.String())
	})
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return u.LocalAddr().String(), l.Addr().String()
}

// upstream starts a name server whose answers f makes; nil is silence.
func upstream(t *testing.T, f func(q *dns.Msg, tcp bool) *dns.Msg) Upstream {
	t.Helper()
	pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp4", pc.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, srv := range []*dns.Server{{PacketConn: pc}, {Listener: l}} {
		srv.Handler = dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
			if a := f(q, srv.Listener != nil); a != nil {
				_ = w.WriteMsg(a) // the test sees what arrives
			}
		})
		go func() { _ = srv.ActivateAndServe() }() // ends below
		t.Cleanup(func() { _ = srv.Shutdown() })
	}
	return Upstream{Addr: netip.MustParseAddrPort(pc.LocalAddr().String())}
}

func reply(q *dns.Msg, text string) *dns.Msg {
	m := &dns.Msg{}
	m.SetReply(q)
	m.Answer = []dns.RR{&dns.TXT{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: 1}, Txt: []string{text}}}
	return m
}

func ask(t *testing.T, network, addr, name string, typ uint16, edit func(*dns.Msg)) *dns.Msg {
	t.Helper()
	q := &dns.Msg{}
	q.SetQuestion(name, typ)
	if edit != nil {
		edit(q)
	}
	c := &dns.Client{Net: network, Timeout: 10 * time.Second}
	a, _, err := c.Exchange(q, addr)
	if err != nil {
		t.Fatalf("%s %s: %v", network, name, err)
	}
	return a
}

func TestNamesOfNeighbours(t *testing.T) {
	b := &book{names: map[string][]string{"web": {"172.18.0.2", "fd00::2"}, "db": {"172.18.0.3"}}}
	udp, tcp := serve(t, b)
	for _, tc := range []struct {
		name string
		typ  uint16
		want string
	}{
		{"web.", dns.TypeA, "172.18.0.2"}, {"WEB.", dns.TypeA, "172.18.0.2"}, {"web.", dns.TypeAAAA, "fd00::2"}, {"db.", dns.TypeAAAA, ""}, {"db.", dns.TypeMX, ""},
		{"2.0.18.172.in-addr.arpa.", dns.TypePTR, "web.net."}, {"2." + strings.Repeat("0.", 28) + "0.d.f.ip6.arpa.", dns.TypePTR, "web.net."},
	} {
		for network, addr := range map[string]string{"udp": udp, "tcp": tcp} {
			a := ask(t, network, addr, tc.name, tc.typ, nil)
			got := ""
			for _, rr := range a.Answer {
				f := strings.Fields(rr.String())
				got += f[len(f)-1]
			}
			if got != tc.want || a.Rcode != dns.RcodeSuccess || !a.RecursionAvailable {
				t.Errorf("%s %s %d: %q, want %q; %v", network, tc.name, tc.typ, got, tc.want, a)
			}
		}
	}
	if a := ask(t, "udp", udp, "elsewhere.example.", dns.TypeA, nil); a.Rcode != dns.RcodeServerFailure {
		t.Errorf("nobody may be asked, and yet: %v", a)
	}
}

func TestUpstream(t *testing.T) {
	silent := upstream(t, func(*dns.Msg, bool) *dns.Msg { return nil })
	broken := upstream(t, func(q *dns.Msg, _ bool) *dns.Msg { return new(dns.Msg).SetRcode(q, dns.RcodeServerFailure) })
	long := strings.Repeat("x", 200)
	good := upstream(t, func(q *dns.Msg, tcp bool) *dns.Msg {
		a := reply(q, fmt.Sprint(q.Id != 4711, q.IsEdns0() != nil))
		if strings.HasPrefix(q.Question[0].Name, "long") {
			a = reply(q, long)
			if a.Truncated = !tcp; a.Truncated {
				a.Answer = nil
			}
		}
		return a
	})
	for name, ups := range map[string][]Upstream{"one": {good}, "behind a silent one": {silent, good}, "behind a broken one": {broken, good}, "behind both": {silent, broken, good}} {
		udp, tcp := serve(t, &book{ups: ups})
		// The id that goes out is not the client's, and EDNS goes out only if the client has it.
		plain := ask(t, "udp", udp, "x.example.", dns.TypeTXT, func(m *dns.Msg) { m.Id = 4711 })
		if plain.Id != 4711 || len(plain.Answer) != 1 || !strings.Contains(plain.Answer[0].String(), `"true false"`) {
			t.Errorf("%s: %v", name, plain)
		}
		edns := ask(t, "udp", udp, "x.example.", dns.TypeTXT, func(m *dns.Msg) { m.SetEdns0(1232, true) })
		if len(edns.Answer) != 1 || !strings.Contains(edns.Answer[0].String(), `"true true"`) {
			t.Errorf("%s, EDNS: %v", name, edns)
		}
		if a := ask(t, "udp", udp, "long.example.", dns.TypeTXT, nil); !a.Truncated {
			t.Errorf("%s: a truncated answer does not say so: %v", name, a)
		}
		if a := ask(t, "tcp", tcp, "long.example.", dns.TypeTXT, nil); len(a.Answer) != 1 || !strings.Contains(a.Answer[0].String(), long) {
			t.Errorf("%s, TCP: %v", name, a)
		}
	}
	udp, _ := serve(t, &book{ups: []Upstream{broken}})
	if a := ask(t, "udp", udp, "x.example.", dns.TypeTXT, nil); a.Rcode != dns.RcodeServerFailure {
		t.Errorf("the only upstream fails: %v", a)
	}
}

func TestSingleLabelsStayHereWhenTheUserChoseNdots(t *testing.T) {
	up := upstream(t, func(q *dns.Msg, _ bool) *dns.Msg { return reply(q, "asked") })
	udp, _ := serve(t, &book{ups: []Upstream{up}, ndots: true})
	if a := ask(t, "udp", udp, "single.", dns.TypeA, nil); len(a.Answer) != 0 || a.Rcode != dns.RcodeSuccess {
		t.Errorf("%v", a)
	}
	if a := ask(t, "udp", udp, "two.labels.", dns.TypeA, nil); len(a.Answer) != 1 {
		t.Errorf("%v", a)
	}
}

func TestAnswersMustFit(t *testing.T) {
	q := &dns.Msg{}
	q.SetQuestion("x.example.", dns.TypeA)
	a := new(dns.Msg).SetReply(q)
	other := a.Copy()
	other.Question[0].Name = "y.example."
	for _, tc := range []struct {
		m    *dns.Msg
		id   uint16
		want bool
	}{{a, q.Id, true}, {a, q.Id + 1, false}, {other, q.Id, false}, {q, q.Id, false}} {
		raw, err := tc.m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		if got := answers(raw, tc.id, q.Question[0]); got != tc.want {
			t.Errorf("%v with id %d: %v", tc.m, tc.id, got)
		}
	}
	if answers([]byte{1, 2}, 0x102, q.Question[0]) {
		t.Error("two bytes are an answer")
	}
}

func FuzzMessages(f *testing.F) {
	q := &dns.Msg{}
	q.SetQuestion("web.", dns.TypeA)
	raw, _ := q.Pack()
	f.Add(raw)
	s := &Server{names: &book{names: map[string][]string{"web": {"10.0.0.1"}}}}
	f.Fuzz(func(t *testing.T, b []byte) {
		if m := parse(b); m != nil {
			_ = s.local(m, false)
			_ = answers(b, m.Id, m.Question[0])
		}
	})
}

func BenchmarkAnswer(b *testing.B) {
	q := &dns.Msg{}
	q.SetQuestion("web.", dns.TypeA)
	raw, err := q.Pack()
	if err != nil {
		b.Fatal(err)
	}
	s := &Server{names: &book{names: map[string][]string{"web": {"10.0.0.1"}}}}
	for b.Loop() {
		if len(s.local(parse(raw), false)) == 0 {
			b.Fatal("no answer")
		}
	}
}
