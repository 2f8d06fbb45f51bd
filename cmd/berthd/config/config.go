package config

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/spf13/pflag"
)

// Config is the merged configuration; values as typed.
type Config struct {
	Hosts                                    []string
	DataRoot, ExecRoot, Pidfile, File, Group string
	Debug, Validate, Version, Sweep          bool
	LogLevel, LogFormat                      string
	Bridge, BIP, StorageDriver               string
	IPTables, IPForward, IPMasq, ICC         bool
	LiveRestore, Init, Experimental          bool
	InitPath, CgroupParent, LogDriver        string
	ShmSize                                  Bytes
	Insecure, Mirrors, Labels                []string
	Ulimits                                  Ulimits
	DNS, DNSSearch, DNSOpts, ExecOpts        []string
	LogOpts                                  Map
	Features                                 Switches
	MTU, ShutdownTimeout                     int
	MaxDownloads, MaxUploads, MaxAttempts    int
	Pools                                    Pools
	Runtimes                                 Runtimes
	DefaultRuntime, SeccompProfile           string
	NoNewPrivileges                          bool
	TLS, TLSVerify                           bool
	CACert, Cert, Key                        string

	Prefix netip.Prefix // of BIP

	flags  *pflag.FlagSet
	inFile map[string]bool // keys that the file gave
	saidNo bool            // TLS was refused in words
}

// Parse reads the command line and the file it names.
func Parse(args []string) (*Config, error) {
	c := &Config{inFile: map[string]bool{}}
	f := c.flagSet()
	c.flags = f
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("\"berthd\" accepts no argument(s): %s", strings.Join(f.Args(), " "))
	}
	for _, o := range options {
		if o.state == unsupported && f.Changed(o.flag) {
			return nil, fmt.Errorf("the option --%s is known but not supported yet", o.flag)
		}
	}
	if err := c.merge(f); err != nil {
		return nil, err
	}
	return c, c.check()
}
