package main

import (
	"encoding/json"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"message-cleanup/internal/config"
)

func (a *app) configCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "config",
		Short: "Print the effective configuration and where each value comes from",
		Long: `Config prints every value that a run would use, and where it comes from: the
default, the file, a variable of the environment, a credential or a flag.
Passwords are masked. It does not connect to the database.`,
		Args: noArguments,
		RunE: func(*cobra.Command, []string) error {
			cfg, err := a.loadConfig()
			if err != nil {
				return err
			}
			if a.global.output == "json" {
				return a.printValuesJSON(cfg.Values())
			}
			return a.printValues(cfg.Values())
		},
	}
}

func (a *app) printValues(values []config.Value) error {
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	for _, v := range values {
		shown := v.Value
		if shown == "" {
			shown = `""`
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", v.Key, shown, v.Source)
	}
	return w.Flush()
}

func (a *app) printValuesJSON(values []config.Value) error {
	type entry struct {
		Key    string `json:"key"`
		Value  string `json:"value"`
		Source string `json:"source"`
	}
	entries := make([]entry, len(values))
	for i, v := range values {
		entries[i] = entry(v)
	}
	encoder := json.NewEncoder(a.stdout)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(entries)
}
