package config

import (
	"fmt"
	"maps"
	"slices"

	"message-cleanup/internal/cleanup"
)

// defaultTable is cleaned when no file says otherwise.
const defaultTable = "messages"

// policies reads the list of the file, or returns the default policy.
func (l *loader) policies() []cleanup.Policy {
	raw, given := l.values[policiesPath]
	if !given {
		p := l.policy(policiesPath+"[0]", map[string]any{"table": defaultTable}, sourceDefault)
		return []cleanup.Policy{p}
	}
	list, ok := raw.([]any)
	if raw != nil && !ok {
		l.fail(policiesPath, Error{Problem: kind(raw) + " where a list belongs", Hint: "write one item for each policy, e.g. - table: messages"})
		return nil
	}
	// A list whose items were all commented out must not fall back to the
	// default: nobody asked to clean that table.
	if len(list) == 0 {
		l.fail(policiesPath, Error{Problem: "the list is empty", Hint: "name a table, e.g. - table: messages, or remove the key"})
		return nil
	}
	return l.policyList(list)
}

// policyList reads the items of the list, whose names must differ.
func (l *loader) policyList(list []any) []cleanup.Policy {
	policies := make([]cleanup.Policy, 0, len(list))
	first := map[string]string{} // name -> path of the policy that has it
	for i, item := range list {
		path := fmt.Sprintf("%s[%d]", policiesPath, i)
		fields, ok := item.(map[string]any)
		if !ok {
			l.fail(path, Error{Problem: kind(item) + " where a policy belongs", Hint: "write its keys, e.g. table: messages"})
			continue
		}
		p := l.policy(path, fields, l.fileSource())
		if p.Name != "" { // else it is reported already
			if other, taken := first[p.Name]; taken {
				l.fail(path+".name", Error{Problem: fmt.Sprintf("%q is the name of %s already", p.Name, other), Hint: "give each policy a name of its own"})
			} else {
				first[p.Name] = path
			}
		}
		policies = append(policies, p)
	}
	return policies
}

// policy reads one item of the list.
func (l *loader) policy(path string, fields map[string]any, source string) cleanup.Policy {
	l.unknownFields(path, fields)
	var p cleanup.Policy
	for _, k := range policyKeys {
		key := path + "." + k.path
		raw, given := fields[k.path]
		switch {
		case given:
			if err := k.set(&p, raw); err != nil {
				l.fail(key, err)
			}
			l.sources[key] = source
		case k.path == "table":
			l.fail(key, Error{Problem: "is missing", Hint: "name the table, e.g. table: messages"})
		case k.initial != "":
			if err := k.set(&p, text(k.initial)); err != nil {
				l.fail(key, err)
			}
		}
	}
	if _, given := fields["name"]; !given {
		p.Name = p.Table
	}
	return p
}

func (l *loader) unknownFields(path string, fields map[string]any) {
	known := make([]string, len(policyKeys))
	for i, k := range policyKeys {
		known[i] = k.path
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if !slices.Contains(known, name) {
			l.fail(pathOf(path, name), Error{Problem: "unknown key", Hint: unknownHint(name, known)})
		}
	}
}
