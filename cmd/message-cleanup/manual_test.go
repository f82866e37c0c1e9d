package main

import (
	"os"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// The manual is written by hand, and must not fall behind the commands.
func TestManualHasEveryCommandAndFlag(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../packaging/man/message-cleanup.8.md")
	if err != nil {
		t.Fatal(err)
	}
	manual := string(text)
	has := func(what string) {
		if !strings.Contains(manual, what) {
			t.Errorf("packaging/man/message-cleanup.8.md does not mention %s", what)
		}
	}
	root := new(app).rootCommand()
	flag := func(f *pflag.Flag) {
		if !f.Hidden {
			has("**--" + f.Name + "**")
		}
	}
	root.Flags().VisitAll(flag)
	root.PersistentFlags().VisitAll(flag)
	for _, command := range root.Commands() {
		if command.Hidden || command.Name() == "help" {
			continue
		}
		has("**message-cleanup** **" + command.Name() + "**")
		has("\n**" + command.Name() + "**")
		command.Flags().VisitAll(flag)
	}
	commands := root.Commands()
	if len(commands) < 5 {
		t.Errorf("only %d commands were found", len(commands))
	}
}
