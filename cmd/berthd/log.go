package main

import (
	"io"
	"log/slog"
	"os"

	"github.com/sirupsen/logrus"

	"github.com/berthd/berth/cmd/berthd/config"
)

// logger can be made to say more while it runs.
type logger struct {
	*slog.Logger
	level *slog.LevelVar
}

func newLogger(c *config.Config) logger {
	logrus.SetOutput(io.Discard) // containerd's libraries talk about harmless things; their errors come back as values
	l := logger{level: &slog.LevelVar{}}
	l.adjust(c)
	o := &slog.HandlerOptions{Level: l.level}
	if c.LogFormat == "json" {
		l.Logger = slog.New(slog.NewJSONHandler(os.Stderr, o))
	} else {
		l.Logger = slog.New(slog.NewTextHandler(os.Stderr, o))
	}
	return l
}

func (l logger) adjust(c *config.Config) {
	level := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError, "fatal": slog.LevelError}[c.LogLevel]
	if c.Debug {
		level = slog.LevelDebug
	}
	l.level.Set(level)
}
