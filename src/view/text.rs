//! Text that fits: wrapped or cut to a width in characters.

/// Wraps words to `width` characters. The first line starts with `first`, the others with as
/// many spaces. A word longer than a line stands alone and sticks out: paths must stay whole.
pub fn wrap(first: &str, text: &str, width: usize) -> String {
    let indent = first.chars().count();
    let mut lines = vec![first.to_owned()];
    let mut used = indent;
    for word in text.split_whitespace() {
        let size = word.chars().count();
        if used > indent && used + 1 + size > width {
            lines.push(" ".repeat(indent));
            used = indent;
        }
        if let Some(line) = lines.last_mut() {
            if used > indent {
                line.push(' ');
                used += 1;
            }
            line.push_str(word);
            used += size;
        }
    }
    lines.join("\n")
}

/// Cuts a text to `width` characters, taking from the middle and marking the place, since the
/// ends of paths and of C++ names tell most.
pub fn shorten(text: &str, width: usize, unicode: bool) -> String {
    let size = text.chars().count();
    if size <= width {
        return text.to_owned();
    }
    let mark = if unicode { "…" } else { ".." };
    let room = width.saturating_sub(mark.chars().count());
    let (head, tail) = (room.div_ceil(2), room / 2);
    let start: String = text.chars().take(head).collect();
    let end: String = text.chars().skip(size - tail).collect();
    format!("{start}{mark}{end}")
}

/// One line without control characters, and without characters that take no room or turn the
/// direction of writing: what comes from a recording may hold anything.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || is_unseen(c) { '?' } else { c }).collect()
}

/// A line of a program's output for a terminal: its colours and tabs stay, and of a progress bar that
/// was written over itself the last state; all else that moves the cursor, renames the window or
/// answers in the reader's name is shown as `\\x1b` and the like.
pub fn on_terminal(line: &str) -> String {
    let written = line.trim_end_matches('\r');
    let mut rest = written.rsplit('\r').next().unwrap_or_default();
    let mut out = String::with_capacity(rest.len());
    let mut coloured = false;
    while let Some(c) = rest.chars().next() {
        let colour = rest.strip_prefix("\x1b[").and_then(|after| {
            let end = after.find(|c: char| !c.is_ascii_digit() && !matches!(c, ';' | ':'))?;
            after[end..].starts_with('m').then_some(2 + end + 1)
        });
        let (sequence, after) = rest.split_at(colour.unwrap_or(c.len_utf8()));
        match c {
            '\x1b' if colour.is_some() => {
                out.push_str(sequence);
                coloured = true;
            }
            '\t' => out.push(c),
            c if c.is_control() => out.extend(format!("\\x{:02x}", u32::from(c)).chars()),
            c if is_unseen(c) && !joins(c) => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
        rest = after;
    }
    if coloured {
        // What a program leaves switched on ends with its line.
        out.push_str("\x1b[0m");
    }
    out
}

/// Parts of emoji and of some scripts, which harm nobody.
fn joins(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200d}' | '\u{2060}' | '\u{fe00}'..='\u{fe0f}')
}

/// Characters that change how others are shown and can't be seen themselves.
fn is_unseen(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// The same text in ASCII: signs become their usual stand-ins, other characters `?`.
pub fn to_ascii(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '≥' => out.push_str(">="),
            '≤' => out.push_str("<="),
            '→' => out.push_str("->"),
            '…' => out.push_str("..."),
            '–' | '—' | '·' => out.push('-'),
            '×' => out.push('x'),
            'µ' | 'μ' => out.push('u'),
            '‘' | '’' => out.push('\''),
            '“' | '”' => out.push('"'),
            '\u{a0}' | '\u{202f}' => out.push(' '),
            c if c.is_ascii() => out.push(c),
            _ => out.push('?'),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_of_programs_keeps_its_colours_and_nothing_else() {
        assert_eq!(
            on_terminal("\x1b[1;31mloss\x1b[0m\t0.5 ⚡\u{fe0f}"),
            "\x1b[1;31mloss\x1b[0m\t0.5 ⚡\u{fe0f}\x1b[0m"
        );
        assert_eq!(on_terminal("  1%\r 50%\r100% done\r"), "100% done");
        assert_eq!(
            on_terminal("a\x1b]0;title\x07b\x1b[2Jc\x1b[6n\u{9b}1m"),
            "a\\x1b]0;title\\x07b\\x1b[2Jc\\x1b[6n\\x9b1m"
        );
        assert_eq!(on_terminal("x\u{202e}y\x1b["), "x\\u{202e}y\\x1b[");
        assert_eq!(on_terminal(""), "");
    }

    #[test]
    fn words_wrap_under_the_first() {
        assert_eq!(wrap("do  ", "raise num_workers from 2 to 8", 20), "do  raise\n    num_workers from\n    2 to 8");
        assert_eq!(wrap("", "a /very/long/path/that/stays/whole b", 10), "a\n/very/long/path/that/stays/whole\nb");
    }

    #[test]
    fn long_names_lose_their_middle() {
        assert_eq!(shorten("abcdefghij", 10, true), "abcdefghij");
        assert_eq!(shorten("abcdefghijk", 6, true), "abc…jk");
        assert_eq!(shorten("abcdefghijk", 6, false), "ab..jk");
        assert_eq!(to_ascii("≥ 2 µs → 3 × é"), ">= 2 us -> 3 x ?");
        assert_eq!(plain("a\u{1b}[31mb\n"), "a?[31mb?");
        assert_eq!(plain("a\u{202e}b\u{2066}c\u{200b}d\u{2028}e\u{feff}f\u{e0041}"), "a?b?c?d?e?f?");
        assert_eq!(plain("é 模型 →"), "é 模型 →");
    }
}
