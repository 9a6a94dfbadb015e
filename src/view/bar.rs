//! Horizontal bars of text.

/// Left parts of a block, in eighths.
const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];

/// A bar of at most `width` cells for a share of 1, in eighths of a cell where `unicode`
/// allows it; padded with spaces to `width`. What is more than nothing shows at least a sliver.
pub fn bar(share: f64, width: usize, unicode: bool) -> String {
    let share = if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 };
    let cells = share * width as f64;
    let (mut text, used) = if unicode {
        let mut eighths = (cells * 8.0).round() as usize;
        if eighths == 0 && share > 0.0 {
            eighths = 1;
        }
        let mut text = "█".repeat(eighths / 8);
        text.push_str(EIGHTHS[eighths % 8]);
        (text, eighths.div_ceil(8))
    } else {
        let whole = cells.round() as usize;
        ("#".repeat(whole), whole)
    };
    text.extend(std::iter::repeat_n(' ', width.saturating_sub(used)));
    text
}

#[cfg(test)]
mod tests {
    use super::bar;

    #[test]
    fn bars_fill_to_their_share() {
        assert_eq!(bar(1.0, 4, true), "████");
        assert_eq!(bar(0.5, 4, true), "██  ");
        assert_eq!(bar(0.53, 4, true), "██▏ ");
        assert_eq!(bar(1e-9, 4, true), "▏   ");
        assert_eq!(bar(0.5, 4, false), "##  ");
        assert_eq!(bar(7.0, 4, false), "####");
        assert_eq!(bar(f64::NAN, 4, true), "    ");
    }
}
