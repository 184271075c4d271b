//! Figures as people read them.

use serde_json::Value;

/// What a number of the report is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// Something that is counted.
    Count,
    /// So many of something a second.
    Rate,
    /// Microseconds.
    Time,
    Seconds,
    Milliseconds,
    Kib,
    /// 0.5 is 50 %.
    Share,
    /// A plain number.
    Number,
    Text,
}

impl Unit {
    /// As a page marks it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Rate => "rate",
            Self::Time => "us",
            Self::Seconds => "s",
            Self::Milliseconds => "ms",
            Self::Kib => "kib",
            Self::Share => "share",
            Self::Number => "number",
            Self::Text => "text",
        }
    }
}

/// A value of the report in words; what is not known is a dash.
pub(super) fn say(value: &Value, unit: Unit) -> String {
    if let Some(text) = value.as_str() {
        return text.to_owned();
    }
    let Some(number) = value.as_f64() else {
        return "–".to_owned();
    };
    match unit {
        Unit::Count => grouped(number),
        Unit::Rate => format!("{} /s", rounded(number)),
        Unit::Time => time(number),
        Unit::Seconds => time(number * 1e6),
        Unit::Milliseconds => time(number * 1e3),
        Unit::Kib => memory(number),
        Unit::Share => format!("{:.1} %", number * 100.0),
        Unit::Number | Unit::Text => rounded(number),
    }
}

/// Microseconds, in the unit in which they are a short number.
pub(super) fn time(micros: f64) -> String {
    match micros {
        micros if micros < 999.5 => format!("{micros:.0} µs"),
        micros if micros < 9_995.0 => format!("{:.2} ms", micros / 1e3),
        micros if micros < 99_950.0 => format!("{:.1} ms", micros / 1e3),
        micros if micros < 999_500.0 => format!("{:.0} ms", micros / 1e3),
        micros if micros < 9_995_000.0 => format!("{:.2} s", micros / 1e6),
        micros => format!("{:.1} s", micros / 1e6),
    }
}

fn memory(kib: f64) -> String {
    match kib.abs() {
        size if size < 1024.0 => format!("{kib:.1} KiB"),
        size if size < 1024.0 * 1024.0 => format!("{:.1} MiB", kib / 1024.0),
        _ => format!("{:.2} GiB", kib / 1024.0 / 1024.0),
    }
}

/// With as many digits behind the point as make sense.
pub(super) fn rounded(number: f64) -> String {
    match number.abs() {
        size if size >= 100.0 || number.fract() == 0.0 => grouped(number.round()),
        size if size >= 10.0 => format!("{number:.1}"),
        size if size >= 1.0 => format!("{number:.2}"),
        _ => format!("{number:.3}"),
    }
}

/// With commas between thousands.
pub(super) fn grouped(number: f64) -> String {
    let digits = format!("{:.0}", number.abs());
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if number < 0.0 { format!("-{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_as_long_as_they_are_read() {
        for (number, words) in [
            (1_234_567.0, "1,234,567"),
            (999.6, "1,000"),
            (12.34, "12.3"),
            (1.234, "1.23"),
            (0.1234, "0.123"),
            (7.0, "7"),
            (-1_500.0, "-1,500"),
        ] {
            assert_eq!(rounded(number), words);
        }
    }

    #[test]
    fn times_and_sizes_have_the_unit_that_fits() {
        for (micros, words) in [
            (950.0, "950 µs"),
            (999.9, "1.00 ms"),
            (1_234.0, "1.23 ms"),
            (45_670.0, "45.7 ms"),
            (456_700.0, "457 ms"),
            (2_345_000.0, "2.35 s"),
        ] {
            assert_eq!(time(micros), words);
        }
        assert_eq!(say(&json!(3_072), Unit::Kib), "3.0 MiB");
        assert_eq!(say(&json!(4.2), Unit::Kib), "4.2 KiB");
    }

    #[test]
    fn what_is_not_known_is_a_dash() {
        assert_eq!(say(&Value::Null, Unit::Time), "–");
    }
}
