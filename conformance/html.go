package conformance

import (
	_ "embed"
	"html/template"
	"io"
)

//go:embed report.html
var page string

// HTML writes the report as one page that needs nothing else: the matrix, the cases, what failed.
func (r *Report) HTML(w io.Writer, rows []Row) error {
	t, err := template.New("report").Funcs(template.FuncMap{
		"percent": percent,
		"state": func(x Row) string {
			switch {
			case x.Failed > 0:
				return "failed"
			case x.Passed > 0:
				return "passed"
			case x.Skipped > 0:
				return "skipped"
			}
			return "none"
		},
	}).Parse(page)
	if err != nil {
		return err
	}
	return t.Execute(w, struct {
		*Report
		Rows                    []Row
		Passed, Failed, Skipped int
	}{r, rows, r.Count(Passed), r.Count(Failed), r.Count(Skipped)})
}
