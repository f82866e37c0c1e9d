package main

import (
	"path/filepath"
	"strings"

	"message-cleanup/internal/config"
)

// unitOf names the units that read a configuration file, or returns "".
func unitOf(file string) string {
	const folder = "/etc/message-cleanup"
	switch {
	case file == "" || file == config.DefaultFile:
		return "message-cleanup"
	case filepath.Dir(file) == folder && filepath.Ext(file) == ".yaml":
		return "message-cleanup@" + strings.TrimSuffix(filepath.Base(file), ".yaml")
	}
	return ""
}
