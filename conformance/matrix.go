package conformance

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/berthd/berth/conformance/spec"
)

// Row is one operation of the specification and what a run did with it.
type Row struct {
	Operation *spec.Operation
	Cases     []string // that name it
	Passed, Failed, Skipped,
	Parameters, ParametersUsed,
	Statuses, StatusesUsed,
	Fields, FieldsUsed int
	Unused []string // what no case used: parameters, statuses
}

// Matrix holds the operations of the newest version against a report; an empty report gives the cases that there are.
func Matrix(r *Report, cases []Case) ([]Row, error) {
	v, err := spec.At("1.51")
	if err != nil {
		return nil, err
	}
	var rows []Row
	for _, op := range v.Operations {
		row := Row{Operation: op}
		for _, k := range cases {
			if slices.Contains(k.Ops, op.ID) {
				row.Cases = append(row.Cases, k.Name)
			}
		}
		for _, x := range r.Results {
			if !slices.Contains(x.Ops, op.ID) {
				continue
			}
			switch x.Outcome {
			case Passed:
				row.Passed++
			case Failed:
				row.Failed++
			case Skipped:
				row.Skipped++
			}
		}
		row.count(v, op, r.Coverage[op.ID])
		rows = append(rows, row)
	}
	return rows, nil
}

func (row *Row) count(v *spec.Version, op *spec.Operation, c *Coverage) {
	if c == nil {
		c = &Coverage{}
	}
	tally := func(all, used *int, was bool, name string) {
		*all++
		if was {
			*used++
		} else if name != "" {
			row.Unused = append(row.Unused, name)
		}
	}
	for _, p := range op.Params {
		tally(&row.Parameters, &row.ParametersUsed, c.Parameters[p.Name], p.Name)
	}
	for status := range op.Responses {
		if status == "500" {
			continue // no case can ask for it
		}
		tally(&row.Statuses, &row.StatusesUsed, c.Statuses[status], status)
		if status[0] != '2' {
			continue
		}
		for _, f := range v.FieldPaths(op, status) {
			tally(&row.Fields, &row.FieldsUsed, c.Fields[status+" "+f], "")
		}
	}
	slices.Sort(row.Unused)
}

// WriteMatrix prints the rows and their sums.
func WriteMatrix(w io.Writer, rows []Row) error {
	tw := tabwriter.NewWriter(w, 0, 1, 2, ' ', 0)
	fmt.Fprintln(tw, "operation\tcases\tpassed\tfailed\tskipped\tparameters\tstatuses\tfields\tnot used")
	var sum Row
	covered := 0
	for _, r := range rows {
		fmt.Fprintf(tw, "%s\t%d\t%d\t%d\t%d\t%d/%d\t%d/%d\t%d/%d\t%s\n", r.Operation.ID, len(r.Cases), r.Passed, r.Failed, r.Skipped,
			r.ParametersUsed, r.Parameters, r.StatusesUsed, r.Statuses, r.FieldsUsed, r.Fields, strings.Join(r.Unused, " "))
		if len(r.Cases) > 0 {
			covered++
		}
		sum.Parameters, sum.ParametersUsed = sum.Parameters+r.Parameters, sum.ParametersUsed+r.ParametersUsed
		sum.Statuses, sum.StatusesUsed = sum.Statuses+r.Statuses, sum.StatusesUsed+r.StatusesUsed
		sum.Fields, sum.FieldsUsed = sum.Fields+r.Fields, sum.FieldsUsed+r.FieldsUsed
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "%d of %d operations have cases; used: parameters %d%%, statuses %d%%, fields of answers %d%%\n",
		covered, len(rows), percent(sum.ParametersUsed, sum.Parameters), percent(sum.StatusesUsed, sum.Statuses), percent(sum.FieldsUsed, sum.Fields))
	return err
}

func percent(n, of int) int {
	if of == 0 {
		return 100
	}
	return n * 100 / of
}
