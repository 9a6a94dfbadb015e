//! Units for people: durations, bytes, shares, counts.

/// A number with three significant digits, no trailing zeros after a whole number.
fn digits(value: f64) -> String {
    let size = value.abs();
    if size >= 99.95 || value == 0.0 {
        format!("{value:.0}")
    } else if size >= 9.995 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

/// The largest unit in which `value` is at least 1 (rounded to the digits shown), else the smallest.
fn scaled(value: f64, units: &[(f64, &str)]) -> String {
    let size = value.abs();
    let unit = units.iter().find(|(factor, _)| size >= factor * 0.9995).or(units.last());
    match unit {
        Some((factor, name)) => format!("{} {name}", digits(value / factor)),
        None => digits(value),
    }
}

/// A length of time: "1h05m", "2m10s", "12.1 s", "71.0 ms", "3.40 us", "250 ns".
pub fn seconds(value: f64) -> String {
    if !value.is_finite() {
        return "-".to_owned();
    }
    let size = value.abs();
    if size >= 3599.5 {
        let minutes = (size / 60.0).round() as u64;
        return format!("{}{}h{:02}m", if value < 0.0 { "-" } else { "" }, minutes / 60, minutes % 60);
    }
    if size >= 119.95 {
        let whole = size.round() as u64;
        return format!("{}{}m{:02}s", if value < 0.0 { "-" } else { "" }, whole / 60, whole % 60);
    }
    if value == 0.0 {
        return "0 s".to_owned();
    }
    scaled(value, &[(1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns")])
}

/// How long ago, as kubectl shows it: "45s", "12m", "3h", "5d".
pub fn age(seconds: f64) -> String {
    let whole = seconds.max(0.0) as u64;
    match whole {
        0..120 => format!("{whole}s"),
        120..7200 => format!("{}m", whole / 60),
        7200..172_800 => format!("{}h", whole / 3600),
        _ => format!("{}d", whole / 86_400),
    }
}

/// An amount of data in powers of ten: "12.4 MB", "512 B".
pub fn bytes(value: u64) -> String {
    if value < 1000 {
        return format!("{value} B");
    }
    scaled(value as f64, &[(1e15, "PB"), (1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")])
}

/// A share of 1 in percent: "71 %", "3.4 %", "0.02 %", "0 %".
pub fn percent(share: f64) -> String {
    let value = share * 100.0;
    if !value.is_finite() {
        return "-".to_owned();
    }
    let size = value.abs();
    if value == 0.0 || size >= 9.95 {
        format!("{value:.0} %")
    } else if size >= 0.095 {
        format!("{value:.1} %")
    } else if size >= 0.005 {
        format!("{value:.2} %")
    } else {
        "<0.01 %".to_owned()
    }
}

/// A count with thousands set apart: "1,204,331".
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// "1 step", "3 steps".
pub fn plural(value: u64, one: &str, many: &str) -> String {
    if value == 1 { format!("1 {one}") } else { format!("{} {many}", count(value)) }
}

/// The form for a table's cell, which holds no spaces: "71%", "12.1s".
pub fn cell(text: &str) -> String {
    text.replace(' ', "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        let shown: Vec<String> = [0.0, 2.5e-7, 3.4e-6, 0.0710, 0.9999, 12.06, 119.0, 130.0, 3900.0, -0.002, f64::NAN]
            .into_iter()
            .map(seconds)
            .collect();
        let wanted =
            ["0 s", "250 ns", "3.40 us", "71.0 ms", "1.00 s", "12.1 s", "119 s", "2m10s", "1h05m", "-2.00 ms", "-"];
        assert_eq!(shown, wanted);
    }

    #[test]
    fn no_unit_shows_a_thousand_of_itself() {
        assert_eq!(seconds(0.99999), "1.00 s");
        assert_eq!(seconds(9.9999e-4), "1.00 ms");
        assert_eq!(bytes(999_999), "1.00 MB");
        assert_eq!(seconds(3599.9), "1h00m");
    }

    #[test]
    fn bytes_and_shares_and_counts() {
        assert_eq!([bytes(0), bytes(512), bytes(12_400_000)], ["0 B", "512 B", "12.4 MB"]);
        assert_eq!([percent(0.714), percent(0.034), percent(0.0002), percent(0.0)], ["71 %", "3.4 %", "0.02 %", "0 %"]);
        assert_eq!(percent(1e-6), "<0.01 %");
        assert_eq!([count(7), count(1_204_331), count(100_000)], ["7", "1,204,331", "100,000"]);
        assert_eq!(cell(&percent(0.5)), "50%");
    }
}
