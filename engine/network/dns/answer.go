package dns

import (
	"math/rand/v2"
	"net/netip"
	"strconv"
	"strings"

	"github.com/miekg/dns"
)

// local answers what is known here, and what is not to be asked elsewhere; nil means upstream.
func (s *Server) local(q *dns.Msg, tcp bool) []byte {
	ask := q.Question[0]
	name := strings.ToLower(strings.TrimSuffix(ask.Name, "."))
	if ask.Qclass != dns.ClassINET {
		return nil
	}
	if ask.Qtype == dns.TypePTR {
		a, ok := reverseAddr(name)
		if !ok {
			return nil
		}
		full, known := s.names.Reverse(a)
		if !known {
			return nil
		}
		return pack(q, tcp, &dns.PTR{Hdr: header(ask), Ptr: dns.Fqdn(full)})
	}
	addrs, known := s.names.Lookup(name)
	if !known {
		if (ask.Qtype == dns.TypeA || ask.Qtype == dns.TypeAAAA) && s.names.Ndots() && !strings.Contains(name, ".") {
			return pack(q, tcp)
		}
		return nil
	}
	var rrs []dns.RR
	for _, a := range addrs {
		switch {
		case a.Is4() && ask.Qtype == dns.TypeA:
			rrs = append(rrs, &dns.A{Hdr: header(ask), A: a.AsSlice()})
		case a.Is6() && ask.Qtype == dns.TypeAAAA:
			rrs = append(rrs, &dns.AAAA{Hdr: header(ask), AAAA: a.AsSlice()})
		}
	}
	rand.Shuffle(len(rrs), func(i, j int) { rrs[i], rrs[j] = rrs[j], rrs[i] })
	return pack(q, tcp, rrs...) // a known name without such a record: an empty answer
}

func header(ask dns.Question) dns.RR_Header {
	return dns.RR_Header{Name: ask.Name, Rrtype: ask.Qtype, Class: dns.ClassINET, Ttl: ttl}
}

// pack writes an answer that fits what the client can take.
func pack(q *dns.Msg, tcp bool, rrs ...dns.RR) []byte {
	m := &dns.Msg{}
	m.SetReply(q)
	m.RecursionAvailable, m.Compress, m.Answer = true, len(rrs) > 4, rrs
	size := dns.MinMsgSize
	if o := q.IsEdns0(); o != nil {
		size = max(size, int(o.UDPSize()))
		m.SetEdns0(maxQuery, o.Do())
	}
	if !tcp && len(rrs) > 4 {
		m.Truncate(size)
	}
	b, err := m.Pack()
	if err != nil {
		return failure(q, dns.RcodeServerFailure)
	}
	return b
}

// failure is an answer of nothing but a code.
func failure(q *dns.Msg, code int) []byte {
	m := &dns.Msg{}
	m.SetRcode(q, code)
	m.RecursionAvailable = true
	b, _ := m.Pack() // it has only the question, which was read from a message
	return b
}

// reverseAddr reads the address out of a name below in-addr.arpa or ip6.arpa.
func reverseAddr(name string) (netip.Addr, bool) {
	if rest, ok := strings.CutSuffix(name, ".in-addr.arpa"); ok {
		f := strings.Split(rest, ".")
		if len(f) != 4 {
			return netip.Addr{}, false
		}
		var b [4]byte
		for i, s := range f {
			n, err := strconv.ParseUint(s, 10, 8)
			if err != nil {
				return netip.Addr{}, false
			}
			b[3-i] = byte(n)
		}
		return netip.AddrFrom4(b), true
	}
	rest, ok := strings.CutSuffix(name, ".ip6.arpa")
	f := strings.Split(rest, ".")
	if !ok || len(f) != 32 {
		return netip.Addr{}, false
	}
	var b [16]byte
	for i, s := range f {
		n, err := strconv.ParseUint(s, 16, 4)
		if err != nil || len(s) != 1 {
			return netip.Addr{}, false
		}
		b[15-i/2] |= byte(n) << (4 * (i % 2))
	}
	return netip.AddrFrom16(b), true
}
