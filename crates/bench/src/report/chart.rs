//! Charts as SVG, written by hand: lines over axes, nothing that needs a script or another file.

use std::fmt::Write as _;

use super::words;

/// One chart.
pub(super) struct Chart {
    pub(super) title: &'static str,
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) lines: Vec<Line>,
    /// Parts of the x axis that are not measured.
    pub(super) shaded: Vec<(f64, f64)>,
}

/// One line.
pub(super) struct Line {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
}

/// What an axis shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Axis {
    /// Seconds of the run.
    Seconds,
    /// Quantiles, each nine as far from the next.
    Nines,
    /// Microseconds, by powers of ten.
    Latency,
    /// Something that begins at 0.
    Count,
    /// KiB, from 0.
    Memory,
    /// 0 to 1.
    Share,
}

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 66.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 30.0;

/// Lines that can be told apart by their colours.
const COLOURS: usize = 8;

impl Chart {
    /// The chart with its title and legend; nothing if no line has two points.
    pub(super) fn html(&self) -> String {
        if self.lines.iter().all(|line| line.points.len() < 2) {
            return String::new();
        }
        let mut html = format!("<figure><figcaption>{}", escape(self.title));
        if self.lines.len() > 1 {
            html.push_str("<span class=legend>");
            for (number, line) in self.lines.iter().enumerate() {
                let _ = write!(
                    html,
                    "<span><i class=\"{}\"></i>{}</span>",
                    class(number),
                    escape(&line.name)
                );
            }
            html.push_str("</span>");
        }
        let _ = write!(html, "</figcaption>{}</figure>", self.svg());
        html
    }

    fn svg(&self) -> String {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let ends = self.shaded.iter().map(|(_, end)| *end);
        let x = Scale::over(self.x, points().map(|(x, _)| *x).chain(ends), LEFT, WIDTH - RIGHT);
        let y = Scale::over(self.y, points().map(|(_, y)| *y), HEIGHT - BOTTOM, TOP);
        let mut svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=img aria-label=\"{}\">",
            escape(self.title)
        );
        for (from, to) in &self.shaded {
            let (from, to) = (x.place(*from), x.place(*to));
            let (width, height) = ((to - from).max(0.0), HEIGHT - BOTTOM - TOP);
            let _ = write!(
                svg,
                "<rect class=shade x=\"{from:.1}\" y=\"{TOP}\" width=\"{width:.1}\" height=\"{height}\"/>"
            );
        }
        for (value, label) in y.ticks() {
            let place = y.place(value);
            let (end, text) = (WIDTH - RIGHT, LEFT - 6.0);
            let _ = write!(
                svg,
                "<path class=grid d=\"M{LEFT} {place:.1}H{end}\"/><text x=\"{text}\" y=\"{:.1}\" text-anchor=end>{label}</text>",
                place + 4.0
            );
        }
        for (value, label) in x.ticks() {
            let place = x.place(value);
            let (end, text) = (HEIGHT - BOTTOM, HEIGHT - BOTTOM + 18.0);
            let _ = write!(
                svg,
                "<path class=grid d=\"M{place:.1} {TOP}V{end}\"/><text x=\"{place:.1}\" y=\"{text}\" text-anchor=middle>{label}</text>"
            );
        }
        for (number, line) in self.lines.iter().enumerate() {
            let _ = write!(svg, "<path class=\"line {}\" d=\"", class(number));
            for (place, (horizontal, vertical)) in line.points.iter().enumerate() {
                let letter = if place == 0 { 'M' } else { 'L' };
                let _ = write!(
                    svg,
                    "{letter}{:.1} {:.1}",
                    x.place(*horizontal),
                    y.place(*vertical)
                );
            }
            svg.push_str("\"/>");
        }
        svg.push_str("</svg>");
        svg
    }
}

/// An axis with its ends, in values and in places.
struct Scale {
    axis: Axis,
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Scale {
    fn over(axis: Axis, values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let (mut low, mut high) = values
            .map(|value| axis.bend(value))
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
                (low.min(value), high.max(value))
            });
        match axis {
            Axis::Latency => (low, high) = (low.floor(), high.ceil().max(low.floor() + 1.0)),
            Axis::Share => (low, high) = (0.0, 1.0),
            Axis::Count | Axis::Memory => (low, high) = (0.0, if high > 0.0 { high * 1.05 } else { 1.0 }),
            Axis::Seconds | Axis::Nines => (low, high) = (0.0, if high > 0.0 { high } else { 1.0 }),
        }
        Self {
            axis,
            low,
            high,
            from,
            to,
        }
    }

    fn place(&self, value: f64) -> f64 {
        let part = ((self.axis.bend(value) - self.low) / (self.high - self.low)).clamp(0.0, 1.0);
        self.from + part * (self.to - self.from)
    }

    /// Values with their labels.
    fn ticks(&self) -> Vec<(f64, String)> {
        match self.axis {
            Axis::Latency => {
                let decades = (0..10).map(|power| 10_f64.powi(power));
                decades
                    .filter(|value| (self.low..=self.high).contains(&value.log10()))
                    .map(|value| (value, words::time(value)))
                    .collect()
            }
            Axis::Nines => [0.0, 0.9, 0.99, 0.999, 0.9999, 0.99999]
                .into_iter()
                .filter(|value| self.axis.bend(*value) <= self.high)
                .map(|value| (value, percent(value)))
                .collect(),
            Axis::Share => [0.0, 0.25, 0.5, 0.75, 1.0]
                .map(|value| (value, percent(value)))
                .to_vec(),
            Axis::Seconds | Axis::Count | Axis::Memory => {
                let step = self.step();
                (0..20)
                    .map(|number| f64::from(number) * step)
                    .filter(|value| *value <= self.high)
                    .map(|value| (value, self.axis.label(value)))
                    .collect()
            }
        }
    }

    /// 1, 2 or 5 times a power of ten (of memory, a power of two), for about five ticks.
    fn step(&self) -> f64 {
        let rough = self.high / 5.0;
        if self.axis == Axis::Memory {
            return 2_f64.powf(rough.max(1.0).log2().ceil());
        }
        let power = 10_f64.powf(rough.log10().floor());
        let nice = [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * power);
        nice.into_iter().find(|step| *step >= rough).unwrap_or(rough)
    }
}

impl Axis {
    /// Where a value is, before it is stretched.
    fn bend(self, value: f64) -> f64 {
        match self {
            Self::Seconds | Self::Count | Self::Memory | Self::Share => value,
            Self::Latency => value.max(1.0).log10(),
            // The longest of all has no place of its own on an axis that never ends.
            Self::Nines => -(1.0 - value).max(1e-6).log10(),
        }
    }

    fn label(self, value: f64) -> String {
        match self {
            Self::Seconds => format!("{} s", words::rounded(value)),
            Self::Memory => words::say(&value.into(), words::Unit::Kib),
            Self::Count => words::rounded(value),
            Self::Share | Self::Nines => percent(value),
            Self::Latency => words::time(value),
        }
    }
}

/// 0.999 as `99.9 %`, without what rounding adds.
fn percent(value: f64) -> String {
    let text = format!("{:.3}", value * 100.0);
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

/// How a line is told apart: by its colour, and when there are no more by dashes.
fn class(number: usize) -> String {
    let dashed = if number < COLOURS { "" } else { " dashed" };
    format!("k{}{dashed}", number % COLOURS)
}

/// A text as HTML has it.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(x: Axis, y: Axis, points: &[(f64, f64)]) -> String {
        Chart {
            title: "a < b",
            x,
            y,
            lines: vec![Line {
                name: "one".to_owned(),
                points: points.to_vec(),
            }],
            shaded: vec![(0.0, 1.0)],
        }
        .html()
    }

    #[test]
    fn a_line_goes_from_corner_to_corner() {
        let html = chart(Axis::Seconds, Axis::Share, &[(0.0, 0.0), (10.0, 1.0)]);
        assert!(html.contains("d=\"M66.0 230.0L546.0 10.0\""), "{html}");
        assert!(html.contains(">50 %<") && html.contains(">10 s<"), "{html}");
    }

    #[test]
    fn nines_are_as_far_from_each_other() {
        let scale = Scale::over(Axis::Nines, [0.0, 0.999].into_iter(), 0.0, 300.0);
        let places = [0.9, 0.99, 0.999].map(|value| scale.place(value).round());
        assert_eq!(places, [100.0, 200.0, 300.0]);
        let labels: Vec<_> = scale.ticks().into_iter().map(|(_, label)| label).collect();
        assert_eq!(labels, ["0 %", "90 %", "99 %", "99.9 %"]);
    }

    #[test]
    fn latencies_are_drawn_by_powers_of_ten() {
        let scale = Scale::over(Axis::Latency, [150.0, 20_000.0].into_iter(), 0.0, 300.0);
        let labels: Vec<_> = scale.ticks().into_iter().map(|(_, label)| label).collect();
        assert_eq!(labels, ["100 µs", "1.00 ms", "10.0 ms", "100 ms"]);
    }

    #[test]
    fn no_chart_is_better_than_one_of_a_single_point() {
        assert_eq!(chart(Axis::Seconds, Axis::Count, &[(1.0, 1.0)]), "");
    }

    #[test]
    fn texts_are_escaped() {
        let html = chart(Axis::Seconds, Axis::Count, &[(0.0, 1.0), (1.0, 2.0)]);
        assert!(html.contains("a &lt; b") && !html.contains("a < b"));
    }
}
