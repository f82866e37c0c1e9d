package config

import "fmt"

const sourceDefault = "default"

// Value is one value of the effective configuration, as people read it.
type Value struct {
	Key   string // its path, such as "batch.target" or "policies[0].table"
	Value string // as a file would say it; passwords are masked

	// Source is where it came from: "default", "file /path", "environment
	// NAME", "flag --log-level" or "credential database-url".
	Source string
}

// Values returns the whole configuration in the order of the keys.
func (c *Config) Values() []Value {
	var values []Value
	for _, k := range keys {
		if k.path == policiesPath {
			values = append(values, c.policyValues()...)
			continue
		}
		values = append(values, Value{k.path, k.show(c), c.source(k.path)})
	}
	return values
}

func (c *Config) policyValues() []Value {
	var values []Value
	for i := range c.Policies {
		for _, k := range policyKeys {
			path := fmt.Sprintf("%s[%d].%s", policiesPath, i, k.path)
			values = append(values, Value{path, k.show(&c.Policies[i]), c.source(path)})
		}
	}
	return values
}

func (c *Config) source(path string) string {
	if s, ok := c.sources[path]; ok {
		return s
	}
	return sourceDefault
}
