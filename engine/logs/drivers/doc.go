// Package drivers sends container logs to remote receivers: syslog, gelf, fluentd and journald. A driver only sends; whoever
// calls it reads the local spool, tries again and keeps the place, so that nothing is lost while a receiver or the daemon is
// away. Records of a container arrive in order, and at least once.
//
// awslogs, gcplogs and splunk are known by their options and refused: their services' libraries are not part of berth.
package drivers
