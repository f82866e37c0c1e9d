package main

import (
	"bytes"
	"fmt"
	"html"
	"io"
	"math"
)

// drawing is a picture being drawn, in pixels from the upper left corner. Its
// colours follow the reader's light or dark page.
type drawing struct {
	width, height float64
	body          bytes.Buffer
}

// palette has a colour for each way, which people who see few colours can tell
// apart too (Okabe and Ito, "Color Universal Design", 2008), on light and on
// dark ground.
var palette = []struct{ light, dark string }{
	{"#8c8c8c", "#9a9a9a"},
	{"#0072b2", "#3fa0dd"},
	{"#56b4e9", "#9ad4f5"},
	{"#009e73", "#1fbf94"},
	{"#f0b400", "#f2c94c"},
	{"#d55e00", "#ee7d28"},
	{"#b5578f", "#d98bb8"},
}

func (d *drawing) rect(x, y, width, height float64, class, title string) {
	fmt.Fprintf(&d.body, `<rect class="%s" x="%.1f" y="%.1f" width="%.1f" height="%.1f"><title>%s</title></rect>`+"\n",
		class, x, y, width, height, html.EscapeString(title))
}

func (d *drawing) line(x1, y1, x2, y2 float64, class string) {
	fmt.Fprintf(&d.body, `<line class="%s" x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f"/>`+"\n", class, x1, y1, x2, y2)
}

func (d *drawing) dot(x, y, radius float64, class, title string) {
	fmt.Fprintf(&d.body, `<circle class="%s" cx="%.1f" cy="%.1f" r="%.1f"><title>%s</title></circle>`+"\n",
		class, x, y, radius, html.EscapeString(title))
}

// text is anchored at "start", "middle" or "end".
func (d *drawing) text(x, y float64, anchor, class, text string) {
	fmt.Fprintf(&d.body, `<text class="%s" x="%.1f" y="%.1f" text-anchor="%s">%s</text>`+"\n",
		class, x, y, anchor, html.EscapeString(text))
}

// upright is text that is read from below, around its middle.
func (d *drawing) upright(x, y float64, class, text string) {
	fmt.Fprintf(&d.body, `<text class="%[1]s" x="%.1[2]f" y="%.1[3]f" text-anchor="middle" transform="rotate(-90 %.1[2]f %.1[3]f)">%[4]s</text>`+"\n",
		class, x, y, html.EscapeString(text))
}

func (d *drawing) write(out io.Writer) error {
	var style bytes.Buffer
	dark := &bytes.Buffer{}
	for i, c := range palette {
		fmt.Fprintf(&style, ".c%d{fill:%s}", i, c.light)
		fmt.Fprintf(dark, ".c%d{fill:%s}", i, c.dark)
	}
	_, err := fmt.Fprintf(out, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %[1]g %[2]g" width="%[1]g" height="%[2]g" font-family="sans-serif" font-size="12">
<style>
.ground{fill:#ffffff}
text{fill:#24292f} .title{font-size:14px;font-weight:bold} .faint{fill:#57606a}
.axis{stroke:#57606a} .grid{stroke:#d8dee4} .range{stroke:#afb8c1;stroke-width:2}
%[3]s
@media (prefers-color-scheme: dark) {
.ground{fill:#0d1117}
text{fill:#e6edf3} .faint{fill:#9198a1}
.axis{stroke:#9198a1} .grid{stroke:#30363d} .range{stroke:#545d68}
%[4]s
}
</style>
<rect class="ground" width="%[1]g" height="%[2]g"/>
%[5]s</svg>
`, d.width, d.height, style.Bytes(), dark.Bytes(), d.body.Bytes())
	return err
}

// ticks are round numbers from 0 to at least the largest value, about four.
func ticks(largest float64) []float64 {
	if !(largest > 0) {
		return []float64{0, 1}
	}
	power := math.Pow(10, math.Floor(math.Log10(largest)))
	step := 2 * power
	for _, finer := range []float64{1, 0.5, 0.2} {
		if largest/(power*finer) <= 5 {
			step = power * finer
		}
	}
	list := []float64{0}
	for n := 1; list[len(list)-1] < largest; n++ {
		list = append(list, float64(n)*step)
	}
	return list
}
