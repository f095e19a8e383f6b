//! Pictures of numbers, as SVG that is as wide as there is room: places are parts of the width, so
//! that letters keep their size.

use std::fmt::Write;

use super::escape::{html, number};
use crate::engine::{forecast::Between, record::BootNs};

/// Height of a picture, pixels.
const HEIGHT: f64 = 168.0;
/// Units of a path across the picture.
const ACROSS: f64 = 1_000.0;
/// Rows of a picture's table.
const ROWS: usize = 13;

/// A line, or an area.
#[derive(Clone, Debug)]
pub struct Curve {
    /// What it shows; may hold anything.
    pub name: String,
    /// Its colour, by number.
    pub colour: usize,
    /// Its value at each moment; `None`: unknown.
    pub values: Vec<Option<u64>>,
}

/// A picture over time.
pub struct Chart<'a> {
    /// Its name in the page.
    pub id: &'a str,
    /// Its heading.
    pub title: &'a str,
    /// What it shows, in a sentence.
    pub about: String,
    /// The moments.
    pub times: &'a [BootNs],
    /// Where it begins and ends.
    pub range: [BootNs; 2],
    /// How a moment is written below it.
    pub tick: &'a dyn Fn(BootNs) -> String,
    /// What it shows, the most important first.
    pub curves: Vec<Curve>,
    /// Areas on top of one another instead of lines.
    pub stacked: bool,
    /// A value that can't be passed.
    pub limit: Option<u64>,
    /// The last value of the first curve goes on to the limit, which it reaches then, ns of the
    /// boot clock.
    pub reaches: Option<Between<BootNs>>,
}

impl Chart<'_> {
    /// The picture with its heading, its legend and its numbers.
    pub fn write(&self, out: &mut String) {
        let most = self.most();
        let id = self.id;
        // Writing to a string does not fail.
        let _ = write!(
            out,
            "<figure class=\"chart\" id=\"{id}\"><figcaption><h3>{}</h3><p>{}</p></figcaption>",
            html(self.title),
            html(&self.about)
        );
        self.legend(out);
        let _ = write!(
            out,
            "<svg class=\"plot\" width=\"100%\" height=\"{}\" role=\"img\" \
             aria-labelledby=\"{id}-t {id}-d\"><title id=\"{id}-t\">{}</title>\
             <desc id=\"{id}-d\">{} The numbers are in the table below.</desc>",
            HEIGHT + 30.0,
            html(self.title),
            html(&self.about),
        );
        let (top, step) = scale(most);
        self.grid(out, top, step);
        let _ = write!(
            out,
            "<svg y=\"8\" width=\"100%\" height=\"{HEIGHT}\" viewBox=\"0 0 {ACROSS} {HEIGHT}\" \
             preserveAspectRatio=\"none\">"
        );
        if self.stacked {
            self.areas(out, top)
        } else {
            self.lines(out, top)
        }
        self.forecast(out, top);
        out.push_str("</svg>");
        self.ticks(out, top, step);
        self.below(out);
        out.push_str("</svg>");
        self.table(out);
        out.push_str("</figure>");
    }

    fn most(&self) -> u64 {
        let at = |n: usize| self.curves.iter().filter_map(move |c| c.values.get(n).copied()?);
        let all = 0..self.times.len();
        let most = if self.stacked {
            all.map(|n| at(n).sum::<u64>()).max()
        } else {
            all.filter_map(|n| at(n).max()).max()
        };
        most.unwrap_or(0).max(self.limit.unwrap_or(0)).max(1)
    }

    fn legend(&self, out: &mut String) {
        out.push_str("<ul class=\"legend\">");
        for curve in &self.curves {
            let last = curve.values.iter().rev().find_map(|v| *v);
            let last = last.map_or_else(|| "unknown".to_owned(), number);
            let _ = write!(
                out,
                "<li><svg class=\"swatch\" width=\"12\" height=\"12\" aria-hidden=\"true\">\
                 <rect class=\"f{}\" width=\"12\" height=\"12\" rx=\"3\"/></svg>{} <b>{last}</b>\
                 </li>",
                curve.colour,
                html(&curve.name)
            );
        }
        if let Some(limit) = self.limit {
            let _ = write!(
                out,
                "<li><svg class=\"swatch\" width=\"12\" height=\"12\" aria-hidden=\"true\">\
                 <line class=\"limit\" y1=\"6\" y2=\"6\" x2=\"12\"/></svg>limit <b>{}</b></li>",
                number(limit)
            );
        }
        out.push_str("</ul>");
    }

    fn grid(&self, out: &mut String, top: u64, step: u64) {
        for value in (0..=top / step).map(|n| n * step) {
            let y = 8.0 + height(value, top);
            let _ = write!(out, "<line class=\"grid\" x2=\"100%\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>");
        }
        if let Some(limit) = self.limit {
            let y = 8.0 + height(limit, top);
            let _ = write!(out, "<line class=\"limit\" x2=\"100%\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>");
        }
    }

    /// Above all lines and areas, so that they can be read.
    fn ticks(&self, out: &mut String, top: u64, step: u64) {
        for value in (1..=top / step).map(|n| n * step) {
            let y = 8.0 + height(value, top) - 3.0;
            let value = number(value);
            let _ = write!(out, "<text class=\"tick\" x=\"0\" y=\"{y:.1}\">{value}</text>");
        }
    }

    fn across(&self, at: BootNs) -> f64 {
        let [from, to] = self.range;
        let part = at.saturating_sub(from) as f64 / to.saturating_sub(from).max(1) as f64;
        part.clamp(0.0, 1.0) * ACROSS
    }

    fn areas(&self, out: &mut String, top: u64) {
        let mut below = vec![0; self.times.len()];
        for curve in &self.curves {
            let above: Vec<u64> = below
                .iter()
                .zip(&curve.values)
                .map(|(below, value)| below + value.unwrap_or(0))
                .collect();
            let mut path = String::new();
            let forth = self.times.iter().zip(&above);
            let back = self.times.iter().zip(&below).rev();
            for (n, (at, value)) in forth.chain(back).enumerate() {
                let letter = if n == 0 { 'M' } else { 'L' };
                let (x, y) = (self.across(*at), height(*value, top));
                let _ = write!(path, "{letter}{x:.1} {y:.1}");
            }
            let _ = write!(out, "<path class=\"area f{}\" d=\"{path}Z\"/>", curve.colour);
            below = above;
        }
    }

    fn lines(&self, out: &mut String, top: u64) {
        for curve in self.curves.iter().rev() {
            let mut path = String::new();
            let mut letter = 'M';
            for (at, value) in self.times.iter().zip(&curve.values) {
                match value {
                    Some(value) => {
                        let (x, y) = (self.across(*at), height(*value, top));
                        let _ = write!(path, "{letter}{x:.1} {y:.1}");
                        letter = 'L';
                    }
                    None => letter = 'M',
                }
            }
            let _ = write!(out, "<path class=\"line s{}\" d=\"{path}\"/>", curve.colour);
        }
    }

    fn forecast(&self, out: &mut String, top: u64) {
        let Some((reaches, limit)) = self.reaches.zip(self.limit) else { return };
        let known = self.curves.first().and_then(|curve| {
            self.times.iter().zip(&curve.values).rev().find_map(|(at, v)| v.map(|v| (*at, v)))
        });
        let Some((at, value)) = known else { return };
        // Where the picture ends before, the line does, too.
        let reach = |full: BootNs| {
            let end = full.min(self.range[1]).max(at);
            let part = (end - at) as f64 / full.saturating_sub(at).max(1) as f64;
            let reached = value as f64 + (limit.saturating_sub(value)) as f64 * part;
            format!("{:.1} {:.1}", self.across(end), height(reached as u64, top))
        };
        let Between { min, est, max } = reaches;
        let from = format!("{:.1} {:.1}", self.across(at), height(value, top));
        // Between the fastest and the slowest that it may go, up to the limit.
        let end = self.range[1];
        let corner = if min < end && max > end {
            format!("L{:.1} {:.1}", self.across(end), height(limit, top))
        } else {
            String::new()
        };
        let _ = write!(
            out,
            "<path class=\"perhaps\" d=\"M{from}L{}{corner}L{}Z\"/>\
             <path class=\"foretold\" d=\"M{from}L{}\"/>",
            reach(min),
            reach(max),
            reach(est)
        );
    }

    fn below(&self, out: &mut String) {
        let [from, to] = self.range;
        let middle = from + (to - from) / 2;
        let y = HEIGHT + 24.0;
        for (x, anchor, at) in
            [("0", "start", from), ("50%", "middle", middle), ("100%", "end", to)]
        {
            let _ = write!(
                out,
                "<text class=\"tick\" x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\">{}</text>",
                html(&(self.tick)(at))
            );
        }
    }

    fn table(&self, out: &mut String) {
        out.push_str(
            "<details><summary>Numbers</summary><div class=\"scroll\" tabindex=\"0\" \
             role=\"region\"",
        );
        let _ = write!(out, " aria-label=\"Numbers: {}\"><table><thead><tr>", html(self.title));
        out.push_str("<th scope=\"col\">Time</th>");
        for curve in &self.curves {
            let _ = write!(out, "<th scope=\"col\">{}</th>", html(&curve.name));
        }
        out.push_str("</tr></thead><tbody>");
        for n in spread(self.times.len(), ROWS) {
            let _ = write!(out, "<tr><th scope=\"row\">{}</th>", html(&(self.tick)(self.times[n])));
            for curve in &self.curves {
                let value = curve.values.get(n).copied().flatten();
                let _ = write!(out, "<td>{}</td>", value.map_or("?".to_owned(), number));
            }
            out.push_str("</tr>");
        }
        out.push_str("</tbody></table></div></details>");
    }
}

fn height(value: u64, top: u64) -> f64 {
    HEIGHT * (1.0 - value as f64 / top.max(1) as f64)
}

/// The top of a scale for values up to `most`, and how far its lines are apart: 1, 2 or 5 times a
/// power of ten, four lines or fewer.
fn scale(most: u64) -> (u64, u64) {
    let mut step = 1u64;
    for factor in [2, 5, 10].into_iter().cycle() {
        if most.div_ceil(step) <= 4 {
            break;
        }
        let base = 10u64.pow(step.ilog10());
        step = base.saturating_mul(factor);
    }
    (most.div_ceil(step).saturating_mul(step).max(step), step)
}

/// So many of `length` places, evenly, the first and the last among them.
pub fn spread(length: usize, most: usize) -> Vec<usize> {
    if length <= most {
        return (0..length).collect();
    }
    (0..most).map(|n| n * (length - 1) / (most - 1)).collect()
}

/// A bar of a list, in parts.
#[derive(Clone, Debug)]
pub struct Bar {
    /// What it is about; may hold anything.
    pub name: String,
    /// Parts and their colours.
    pub parts: Vec<(u64, usize)>,
}

/// A list of bars, which is its own table. `columns`: what the parts are.
pub fn bars(
    out: &mut String,
    id: &str,
    title: &str,
    about: &str,
    columns: &[(&str, usize)],
    list: &[Bar],
) {
    let _ = write!(
        out,
        "<figure class=\"chart\" id=\"{id}\"><figcaption><h3>{}</h3><p>{}</p></figcaption>",
        html(title),
        html(about)
    );
    if columns.len() > 1 {
        out.push_str("<ul class=\"legend\">");
        for (name, colour) in columns {
            let _ = write!(
                out,
                "<li><svg class=\"swatch\" width=\"12\" height=\"12\" aria-hidden=\"true\">\
                 <rect class=\"f{colour}\" width=\"12\" height=\"12\" rx=\"3\"/></svg>{}</li>",
                html(name)
            );
        }
        out.push_str("</ul>");
    }
    let most = list.iter().map(|bar| bar.parts.iter().map(|(n, _)| n).sum::<u64>()).max();
    let most = most.unwrap_or(0).max(1) as f64;
    let _ = write!(
        out,
        "<table class=\"bars\"><caption class=\"unseen\">{}</caption><colgroup>\
         <col class=\"name\"><col><col class=\"count\"></colgroup><thead class=\"unseen\"><tr>\
         <th scope=\"col\">What</th><th scope=\"col\">Bar</th><th scope=\"col\">Count</th></tr>\
         </thead><tbody>",
        html(title)
    );
    for bar in list {
        let _ = write!(out, "<tr><th scope=\"row\">{}</th><td>", html(&bar.name));
        out.push_str("<svg width=\"100%\" height=\"16\" aria-hidden=\"true\">");
        let mut x = 0.0;
        for (n, colour) in bar.parts.iter().filter(|(n, _)| *n > 0) {
            let width = *n as f64 / most * 100.0;
            let _ = write!(
                out,
                "<rect class=\"f{colour}\" x=\"{x:.2}%\" width=\"{:.2}%\" height=\"16\" \
                 rx=\"2\"/>",
                width.max(0.4)
            );
            x += width;
        }
        let counts = bar.parts.iter().filter(|(n, _)| *n > 0).map(|(n, _)| number(*n));
        let counts = counts.collect::<Vec<_>>().join(" + ");
        let counts = if counts.is_empty() { "0" } else { &counts };
        let _ = write!(out, "</svg></td><td>{counts}</td></tr>");
    }
    out.push_str("</tbody></table></figure>");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_have_round_numbers() {
        let cases = [(1, (1, 1)), (4, (4, 1)), (5, (6, 2)), (9, (10, 5)), (37, (40, 10))];
        for (most, expected) in cases {
            assert_eq!(scale(most), expected, "{most}");
        }
        assert_eq!(scale(1_048_576), (1_500_000, 500_000));
        assert!(scale(u64::MAX).0 > 0, "no overflow");
    }

    #[test]
    fn places_are_spread() {
        assert_eq!(spread(3, 5), [0, 1, 2]);
        assert_eq!(spread(101, 3), [0, 50, 100]);
        assert!(spread(0, 3).is_empty());
    }
}
