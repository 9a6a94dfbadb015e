//! NVML's bits of reasons in words (nvml.h, nvmlClocksEventReason…).

/// By bit, in words that fit into a cell.
const REASONS: [(u64, &str); 9] = [
    (0x1, "idle"),
    (0x2, "application-clocks"),
    (0x4, "power-cap"),
    (0x8, "hardware-slowdown"),
    (0x10, "sync-boost"),
    (0x20, "software-thermal"),
    (0x40, "hardware-thermal"),
    (0x80, "power-brake"),
    (0x100, "display-clocks"),
];

/// What the bits of [`Metric::ThrottleReasons`](super::Metric::ThrottleReasons) say; bits that are
/// not known are told in hexadecimal.
pub fn reasons(bits: f64) -> Vec<String> {
    let bits = bits as u64;
    let mut words: Vec<String> =
        REASONS.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, word)| (*word).to_owned()).collect();
    let rest = REASONS.iter().fold(bits, |rest, (bit, _)| rest & !bit);
    if rest != 0 {
        words.push(format!("{rest:#x}"));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::reasons;

    #[test]
    fn bits_are_told_in_words() {
        assert!(reasons(0.0).is_empty());
        assert_eq!(reasons(f64::from(0x44)), ["power-cap", "hardware-thermal"]);
        assert_eq!(reasons(f64::from(0x8001)), ["idle", "0x8000"]);
    }
}
