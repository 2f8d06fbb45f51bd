package firewall

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"os"
	"strconv"
	"time"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// settle is how long Watch waits after a change for the next one of the same hand.
const settle = 100 * time.Millisecond

// Watch restores the table when somebody else removes it or parts of it, and looks after iptables' FORWARD chain when that
// appears. It returns when ctx ends. Before the first Sync nothing is restored.
func (t *Table) Watch(ctx context.Context, log *slog.Logger) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1 << (unix.NFNLGRP_NFTABLES - 1)}); err != nil {
		return err
	}
	// Wakes up to see whether ctx has ended.
	tv := unix.NsecToTimeval((500 * time.Millisecond).Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
		return err
	}
	buf := make([]byte, 64<<10)
	var c changes
	for ctx.Err() == nil {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		switch {
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ENOBUFS): // too many changes to be told one by one
		case err != nil:
			return err
		case !c.foreign(buf[:n]):
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(settle):
		}
		drain(fd, buf)
		if err := t.restore(log); err != nil {
			log.Warn("restoring the firewall", "error", err)
		}
	}
	return nil
}

func drain(fd int, buf []byte) {
	for {
		if _, _, err := unix.Recvfrom(fd, buf, unix.MSG_DONTWAIT); err != nil {
			return
		}
	}
}

// changes follows the messages of transactions: what they did comes first, then who did it.
type changes struct{ structural bool }

// foreign reports whether messages end a transaction of another process that is about tables, chains or rules. Elements come
// and go with every published port, and what this process does it knows.
func (c *changes) foreign(b []byte) bool {
	hit := false
	for len(b) >= unix.SizeofNlMsghdr {
		n := int(binary.NativeEndian.Uint32(b))
		typ := binary.NativeEndian.Uint16(b[4:])
		if n < unix.SizeofNlMsghdr || n > len(b) {
			return hit
		}
		if typ>>8 == unix.NFNL_SUBSYS_NFTABLES {
			switch typ & 0xff {
			case unix.NFT_MSG_NEWTABLE, unix.NFT_MSG_DELTABLE, unix.NFT_MSG_NEWCHAIN, unix.NFT_MSG_DELCHAIN, unix.NFT_MSG_NEWRULE, unix.NFT_MSG_DELRULE, unix.NFT_MSG_DELSET:
				c.structural = true
			case unix.NFT_MSG_NEWGEN:
				hit = hit || c.structural && !ours(b[:n])
				c.structural = false
			}
		}
		b = b[min((n+3)&^3, len(b)):]
	}
	return hit
}

// ours reports whether a message that ends a transaction names a thread of this process.
func ours(gen []byte) bool {
	const head = unix.SizeofNlMsghdr + 4 // and the header of nfnetlink
	for a := gen[min(head, len(gen)):]; len(a) >= unix.SizeofNlAttr; {
		n := int(binary.NativeEndian.Uint16(a))
		if n < unix.SizeofNlAttr || n > len(a) {
			return false
		}
		if binary.NativeEndian.Uint16(a[2:]) == unix.NFTA_GEN_PROC_PID && n >= 8 {
			_, err := os.Stat("/proc/self/task/" + strconv.Itoa(int(binary.BigEndian.Uint32(a[4:]))))
			return err == nil
		}
		a = a[min((n+3)&^3, len(a)):]
	}
	return false
}

// restore writes the table anew unless it is whole.
func (t *Table) restore(log *slog.Logger) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.ready {
		return nil
	}
	whole, err := t.whole()
	if err != nil || whole {
		return err
	}
	log.Warn("the firewall rules were changed by somebody else; they are restored")
	return t.sync(t.state)
}

// whole counts the rules of our chains, and of iptables' FORWARD chains.
func (t *Table) whole() (bool, error) {
	c, err := nftables.New()
	if err != nil {
		return false, err
	}
	chains, err := c.ListChains()
	if err != nil {
		return false, err
	}
	rs := Compile(t.name, t.state)
	want := map[string]int{}
	for _, ch := range rs.chains {
		want[ch.name] = len(ch.rule)
	}
	for _, ch := range chains {
		if ch.Table.Name == t.name && ch.Table.Family == nftables.TableFamilyINet {
			rules, err := c.GetRules(ch.Table, ch)
			if err != nil || len(rules) != want[ch.Name] {
				return false, err
			}
			delete(want, ch.Name)
		}
	}
	return len(want) == 0 && foreignWhole(c, chains, t.name, rs.bridges), nil
}
