//! A terminal's screen as SVG: monospace text on a dark ground. Every character is taken to be one
//! column wide.

use std::fmt::Write;

/// Of a character cell, in pixels.
const WIDTH: f64 = 8.4;
const HEIGHT: f64 = 18.0;
const MARGIN: f64 = 14.0;
/// How far a line's base is above the lower edge of its cells.
const BASE: f64 = 5.0;
const GROUND: &str = "#0d1117";
const TEXT: &str = "#d0d7de";
/// The sixteen colours that have names.
const NAMED: [&str; 16] = [
    "#484f58", "#ff7b72", "#3fb950", "#d29922", "#58a6ff", "#bc8cff", "#39c5cf", "#b1bac4",
    "#6e7681", "#ffa198", "#56d364", "#e3b341", "#79c0ff", "#d2a8ff", "#56d4dd", "#ffffff",
];

/// How a character looks.
#[derive(Clone, Debug, Default, PartialEq)]
struct Style {
    text: Option<String>,
    ground: Option<String>,
    bold: bool,
    dim: bool,
    italic: bool,
    underline: bool,
    reverse: bool,
}

/// Characters of a row that look alike.
#[derive(Debug, PartialEq)]
struct Run {
    column: usize,
    text: String,
    style: Style,
}

/// A picture of a screen with escape sequences for its colours.
pub fn picture(title: &str, screen: &str, columns: u16, rows: u16) -> String {
    let (width, height) =
        (f64::from(columns) * WIDTH + 2.0 * MARGIN, f64::from(rows) * HEIGHT + 2.0 * MARGIN);
    let title = escaped(title);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\">\n<title>{title}</title>\n\
         <style>text {{ font: 14px ui-monospace, SFMono-Regular, Menlo, Consolas, \
         \"DejaVu Sans Mono\", monospace; white-space: pre; fill: {TEXT} }}</style>\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"{GROUND}\"/>\n"
    );
    // An escape sequence holds until the next, over the ends of lines too.
    let mut style = Style::default();
    for (row, line) in screen.lines().take(rows.into()).enumerate() {
        for run in runs(line, &mut style) {
            draw(&run, row, &mut svg);
        }
    }
    svg.push_str("</svg>\n");
    svg
}

fn draw(run: &Run, row: usize, svg: &mut String) {
    let (x, top) = (MARGIN + run.column as f64 * WIDTH, MARGIN + row as f64 * HEIGHT);
    let width = run.text.chars().count() as f64 * WIDTH;
    let style = &run.style;
    let (text, ground) = if style.reverse {
        let text = style.ground.clone().unwrap_or_else(|| GROUND.to_owned());
        (Some(text), Some(style.text.clone().unwrap_or_else(|| TEXT.to_owned())))
    } else {
        (style.text.clone(), style.ground.clone())
    };
    if let Some(ground) = ground {
        let at = format!("x=\"{x:.1}\" y=\"{top:.1}\"");
        let _ = writeln!(
            svg,
            "<rect {at} width=\"{width:.1}\" height=\"{HEIGHT}\" fill=\"{ground}\"/>"
        );
    }
    if run.text.trim().is_empty() && !style.underline {
        return;
    }
    let mut look = String::new();
    if let Some(text) = text {
        // As a style: the sheet's own colour is stronger than an attribute.
        let _ = write!(look, "fill: {text};");
    }
    for (on, css) in [
        (style.bold, "font-weight: bold;"),
        (style.dim, "opacity: 0.65;"),
        (style.italic, "font-style: italic;"),
        (style.underline, "text-decoration: underline;"),
    ] {
        look.push_str(if on { css } else { "" });
    }
    let look = if look.is_empty() { look } else { format!(" style=\"{look}\"") };
    let y = top + HEIGHT - BASE;
    // Of this width in whatever font: columns stay below one another.
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" textLength=\"{width:.1}\" \
         lengthAdjust=\"spacingAndGlyphs\" xml:space=\"preserve\"{look}>{}</text>",
        escaped(&run.text)
    );
}

/// A line's characters by how they look. `style` is what holds before it and, then, after it.
fn runs(line: &str, style: &mut Style) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let (mut column, mut rest) = (0, line);
    while let Some(first) = rest.chars().next() {
        if let Some(sequence) = rest.strip_prefix("\x1b[") {
            let end = sequence.find(|c: char| ('@'..='~').contains(&c)).unwrap_or(sequence.len());
            if sequence[end..].starts_with('m') {
                change(style, &sequence[..end]);
            }
            rest = sequence.get(end + 1..).unwrap_or_default();
            continue;
        }
        rest = &rest[first.len_utf8()..];
        if first.is_control() {
            continue;
        }
        match runs.last_mut() {
            Some(run) if run.style == *style => run.text.push(first),
            _ => runs.push(Run { column, text: first.to_string(), style: style.clone() }),
        }
        column += 1;
    }
    runs
}

/// Select graphic rendition, ECMA-48 8.3.117: the parameters between `ESC [` and `m`.
fn change(style: &mut Style, parameters: &str) {
    let mut numbers = parameters.split([';', ':']).map(|n| n.parse::<usize>().unwrap_or(0));
    while let Some(number) = numbers.next() {
        match number {
            0 => *style = Style::default(),
            1 => style.bold = true,
            2 => style.dim = true,
            3 => style.italic = true,
            4 => style.underline = true,
            7 => style.reverse = true,
            22 => (style.bold, style.dim) = (false, false),
            23 => style.italic = false,
            24 => style.underline = false,
            27 => style.reverse = false,
            30..=37 => style.text = named(number - 30),
            38 => style.text = extended(&mut numbers),
            39 => style.text = None,
            40..=47 => style.ground = named(number - 40),
            48 => style.ground = extended(&mut numbers),
            49 => style.ground = None,
            90..=97 => style.text = named(number - 82),
            100..=107 => style.ground = named(number - 92),
            _ => {}
        }
    }
}

fn named(number: usize) -> Option<String> {
    NAMED.get(number).map(|colour| (*colour).to_owned())
}

/// `5;N`, of 256 colours, or `2;R;G;B`.
fn extended(numbers: &mut impl Iterator<Item = usize>) -> Option<String> {
    match numbers.next()? {
        2 => {
            let (red, green, blue) = (numbers.next()?, numbers.next()?, numbers.next()?);
            Some(format!("#{red:02x}{green:02x}{blue:02x}"))
        }
        5 => match numbers.next()? {
            number @ 0..=15 => named(number),
            // A cube of six steps a colour.
            number @ 16..=231 => {
                let step = |n: usize| if n == 0 { 0 } else { 55 + 40 * n };
                let n = number - 16;
                let (red, green, blue) = (step(n / 36), step(n / 6 % 6), step(n % 6));
                Some(format!("#{red:02x}{green:02x}{blue:02x}"))
            }
            grey => Some(format!("#{0:02x}{0:02x}{0:02x}", (8 + 10 * (grey - 232)).min(255))),
        },
        _ => None,
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn colours(line: &str) -> Vec<(usize, String, Option<String>)> {
        runs(line, &mut Style::default())
            .into_iter()
            .map(|run| (run.column, run.text, run.style.text))
            .collect()
    }

    #[test]
    fn colours_split_a_line() {
        let red = || named(1);
        assert_eq!(
            colours("a \x1b[31mred\x1b[39m b"),
            [(0, "a ".to_owned(), None), (2, "red".to_owned(), red()), (5, " b".to_owned(), None)]
        );
        assert_eq!(colours("\x1b[38;5;196mx"), [(0, "x".to_owned(), Some("#ff0000".to_owned()))]);
        assert_eq!(colours("\x1b[38;5;255mx"), [(0, "x".to_owned(), Some("#eeeeee".to_owned()))]);
        assert_eq!(colours("\x1b[38;2;1;2;3mx"), [(0, "x".to_owned(), Some("#010203".to_owned()))]);
        assert_eq!(colours("\x1b[2Jx\x07y"), [(0, "xy".to_owned(), None)]);
        assert_eq!(colours("x\x1b[31"), [(0, "x".to_owned(), None)]);
    }

    #[test]
    fn a_style_holds_over_lines_until_it_is_taken_back() {
        let mut style = Style::default();
        runs("\x1b[1;2;4;7m", &mut style);
        let all =
            Style { bold: true, dim: true, underline: true, reverse: true, ..Style::default() };
        assert_eq!(runs("x", &mut style)[0].style, all);
        runs("\x1b[22;24;27m", &mut style);
        assert_eq!(style, Style::default());
    }

    #[test]
    fn text_from_outside_is_escaped() {
        let svg = picture("a & b", "<script>\"x\"</script>", 30, 1);
        assert!(svg.contains("&lt;script&gt;&quot;x&quot;&lt;/script&gt;"), "{svg}");
        assert!(svg.contains("<title>a &amp; b</title>"), "{svg}");
    }

    #[test]
    fn what_is_reversed_has_a_ground_and_its_colour() {
        let svg = picture("t", "\x1b[7mx", 1, 1);
        assert!(svg.contains(&format!("fill=\"{TEXT}\"")), "{svg}");
        assert!(svg.contains(&format!("fill: {GROUND};")), "{svg}");
    }

    #[test]
    fn rows_beyond_the_screen_are_left_out() {
        assert!(!picture("t", "a\nb\nc", 1, 2).contains(">c<"));
    }
}
