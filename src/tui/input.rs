//! Bytes from a terminal into keys, mouse events and pasted text.
//!
//! Never waits: a sequence that comes in pieces (over ssh) is kept until its rest is there, and an
//! escape byte that stays alone is the key itself. What is no sequence we know is dropped.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};

/// A sequence longer than this is none.
const LONGEST: usize = 64;
/// So much pasted text is kept.
const PASTE_LIMIT: usize = 64 << 10;
const PASTE_END: &[u8] = b"\x1b[201~";

/// What the user did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Input {
    Key(KeyEvent),
    Mouse(MouseEvent),
    Paste(String),
}

/// Keeps what is not whole yet.
#[derive(Debug, Default)]
pub(super) struct Parser {
    pending: Vec<u8>,
    paste: Option<Vec<u8>>,
}

/// What the front of the pending bytes is.
enum Found {
    /// So many bytes make this.
    Whole(usize, Option<Input>),
    /// So many bytes begin pasted text.
    Paste(usize),
    /// More is needed to tell.
    Part,
}

impl Parser {
    /// Takes bytes as they come.
    pub fn feed(&mut self, bytes: &[u8], out: &mut Vec<Input>) {
        self.pending.extend_from_slice(bytes);
        let mut at = 0;
        while at < self.pending.len() {
            if let Some(paste) = &mut self.paste {
                let rest = &self.pending[at..];
                let end = rest.windows(PASTE_END.len()).position(|window| window == PASTE_END);
                // The end itself may come in pieces.
                let text = end.unwrap_or(rest.len().saturating_sub(PASTE_END.len() - 1));
                let room = PASTE_LIMIT.saturating_sub(paste.len());
                paste.extend_from_slice(&rest[..text.min(room)]);
                at += text;
                if end.is_none() {
                    break;
                }
                at += PASTE_END.len();
                let text = self.paste.take().unwrap_or_default();
                out.push(Input::Paste(String::from_utf8_lossy(&text).into_owned()));
                continue;
            }
            match front(&self.pending[at..]) {
                Found::Whole(length, input) => {
                    at += length;
                    out.extend(input);
                }
                Found::Paste(length) => {
                    at += length;
                    self.paste = Some(Vec::new());
                }
                Found::Part if self.pending.len() - at > LONGEST => at = self.pending.len(),
                Found::Part => break,
            }
        }
        self.pending.drain(..at);
    }

    /// Whether a sequence has begun and not ended.
    pub fn waits(&self) -> bool {
        !self.pending.is_empty() && self.paste.is_none()
    }

    /// Nothing came for a while: an escape that still waits is the key.
    pub fn settle(&mut self, out: &mut Vec<Input>) {
        if self.paste.is_none() && !self.pending.is_empty() {
            if self.pending == b"\x1b" {
                out.push(key(KeyCode::Esc, KeyModifiers::NONE));
            }
            self.pending.clear();
        }
    }
}

fn key(code: KeyCode, modifiers: KeyModifiers) -> Input {
    Input::Key(KeyEvent::new(code, modifiers))
}

fn front(bytes: &[u8]) -> Found {
    match bytes {
        [0x1b] => Found::Part,
        // Twice the key, quickly, or the key and then a sequence.
        [0x1b, 0x1b, ..] => Found::Whole(1, Some(key(KeyCode::Esc, KeyModifiers::NONE))),
        [0x1b, b'[', rest @ ..] => control_sequence(rest),
        [0x1b, b'O'] => Found::Part,
        [0x1b, b'O', last, ..] => Found::Whole(3, letter_key(*last).map(|code| key(code, KeyModifiers::NONE))),
        [0x1b, rest @ ..] => match plain(rest) {
            Some((length, Some((code, modifiers)))) => {
                Found::Whole(1 + length, Some(key(code, modifiers | KeyModifiers::ALT)))
            }
            Some((length, None)) => Found::Whole(1 + length, None),
            None => Found::Part,
        },
        _ => match plain(bytes) {
            Some((length, pressed)) => Found::Whole(length, pressed.map(|(code, modifiers)| key(code, modifiers))),
            None => Found::Part,
        },
    }
}

type Pressed = Option<(KeyCode, KeyModifiers)>;

/// One character or control byte and its length; `None` where it is not whole.
fn plain(bytes: &[u8]) -> Option<(usize, Pressed)> {
    let control = |letter: u8| Some((KeyCode::Char(letter as char), KeyModifiers::CONTROL));
    let none = |code| Some((code, KeyModifiers::NONE));
    let first = *bytes.first()?;
    let pressed = match first {
        b'\r' | b'\n' => none(KeyCode::Enter),
        b'\t' => none(KeyCode::Tab),
        0x7f | 0x08 => none(KeyCode::Backspace),
        0 => control(b' '),
        0x01..=0x1a => control(first - 1 + b'a'),
        0x1c..=0x1f => control(first - 0x1c + b'4'),
        0x20..=0x7e => character(first as char),
        _ => {
            let length = match first {
                0xc2..=0xdf => 2,
                0xe0..=0xef => 3,
                0xf0..=0xf4 => 4,
                _ => return Some((1, None)),
            };
            let whole = &bytes[..bytes.len().min(length)];
            return match std::str::from_utf8(whole) {
                Ok(text) => Some((length, text.chars().next().and_then(character))),
                Err(error) if error.error_len().is_none() => None,
                Err(_) => Some((1, None)),
            };
        }
    };
    Some((1, pressed))
}

fn character(c: char) -> Pressed {
    let shift = if c.is_uppercase() { KeyModifiers::SHIFT } else { KeyModifiers::NONE };
    (!c.is_control()).then_some((KeyCode::Char(c), shift))
}

/// `ESC [` has been read.
fn control_sequence(rest: &[u8]) -> Found {
    const START: usize = 2;
    match rest {
        // The old form of mouse events: three bytes, each 32 more than it says.
        [b'M', buttons, column, row, ..] => {
            let at = |byte: u8| u16::from(byte.saturating_sub(32));
            let mouse = mouse(at(*buttons), at(*column), at(*row), true);
            return Found::Whole(START + 4, mouse.map(Input::Mouse));
        }
        [b'M', ..] | [b'['] => return Found::Part,
        // Linux's console: F1 to F5.
        [b'[', last, ..] => {
            let code = last.is_ascii_uppercase().then(|| KeyCode::F(last.saturating_sub(b'A') + 1));
            return Found::Whole(START + 2, code.filter(|_| *last <= b'E').map(|code| key(code, KeyModifiers::NONE)));
        }
        _ => {}
    }
    let Some(end) = rest.iter().position(|byte| !(0x20..0x40).contains(byte)) else { return Found::Part };
    let (parameters, last) = (&rest[..end], rest[end]);
    if !(0x40..=0x7e).contains(&last) {
        // Not a sequence after all; what interrupts it is looked at afresh.
        return Found::Whole(START + end, None);
    }
    let length = START + end + 1;
    if let Some(numbers) = parameters.strip_prefix(b"<") {
        let n = numbers_of(numbers);
        let found = match (n.as_slice(), last) {
            (&[buttons, column, row], b'M' | b'm') => mouse(buttons, column, row, last == b'M'),
            _ => None,
        };
        return Found::Whole(length, found.map(Input::Mouse));
    }
    let numbers = numbers_of(parameters);
    let first = numbers.first().copied().unwrap_or(0);
    if (first, last) == (200, b'~') {
        return Found::Paste(length);
    }
    let bits = numbers.get(1).copied().unwrap_or(1).saturating_sub(1);
    let mut modifiers = KeyModifiers::NONE;
    modifiers.set(KeyModifiers::SHIFT, bits & 1 != 0);
    modifiers.set(KeyModifiers::ALT, bits & 2 != 0);
    modifiers.set(KeyModifiers::CONTROL, bits & 4 != 0);
    let code = match last {
        b'~' => tilde_key(first),
        b'Z' => {
            modifiers |= KeyModifiers::SHIFT;
            Some(KeyCode::BackTab)
        }
        b'u' => unicode_key(first),
        last => letter_key(last),
    };
    Found::Whole(length, code.map(|code| key(code, modifiers)))
}

/// `1;5` and the like; parts after a colon are left out.
fn numbers_of(bytes: &[u8]) -> Vec<u16> {
    let number = |part: &[u8]| {
        let digits = part.iter().take_while(|byte| byte.is_ascii_digit());
        digits.fold(0u16, |n, digit| n.saturating_mul(10).saturating_add(u16::from(digit - b'0')))
    };
    bytes.split(|byte| *byte == b';').map(number).collect()
}

fn letter_key(last: u8) -> Option<KeyCode> {
    Some(match last {
        b'A' => KeyCode::Up,
        b'B' => KeyCode::Down,
        b'C' => KeyCode::Right,
        b'D' => KeyCode::Left,
        b'F' => KeyCode::End,
        b'H' => KeyCode::Home,
        b'M' => KeyCode::Enter,
        b'P'..=b'S' => KeyCode::F(last - b'P' + 1),
        _ => return None,
    })
}

fn tilde_key(number: u16) -> Option<KeyCode> {
    Some(match number {
        1 | 7 => KeyCode::Home,
        2 => KeyCode::Insert,
        3 => KeyCode::Delete,
        4 | 8 => KeyCode::End,
        5 => KeyCode::PageUp,
        6 => KeyCode::PageDown,
        11..=15 => KeyCode::F((number - 10) as u8),
        17..=21 => KeyCode::F((number - 11) as u8),
        23 | 24 => KeyCode::F((number - 12) as u8),
        _ => return None,
    })
}

fn unicode_key(number: u16) -> Option<KeyCode> {
    match char::from_u32(u32::from(number))? {
        '\r' => Some(KeyCode::Enter),
        '\t' => Some(KeyCode::Tab),
        '\x1b' => Some(KeyCode::Esc),
        '\x7f' => Some(KeyCode::Backspace),
        c => (!c.is_control()).then_some(KeyCode::Char(c)),
    }
}

/// A mouse event; column and row count from 1.
fn mouse(buttons: u16, column: u16, row: u16, down: bool) -> Option<MouseEvent> {
    let button = match buttons & 3 {
        0 => Some(MouseButton::Left),
        1 => Some(MouseButton::Middle),
        2 => Some(MouseButton::Right),
        _ => None,
    };
    let kind = match (buttons & 64 != 0, buttons & 32 != 0, button) {
        (true, _, _) => match buttons & 3 {
            0 => MouseEventKind::ScrollUp,
            1 => MouseEventKind::ScrollDown,
            2 => MouseEventKind::ScrollLeft,
            _ => MouseEventKind::ScrollRight,
        },
        (false, true, Some(button)) => MouseEventKind::Drag(button),
        (false, true, None) => MouseEventKind::Moved,
        (false, false, Some(button)) if down => MouseEventKind::Down(button),
        (false, false, Some(button)) => MouseEventKind::Up(button),
        // The old form does not say which.
        (false, false, None) => MouseEventKind::Up(MouseButton::Left),
    };
    let mut modifiers = KeyModifiers::NONE;
    modifiers.set(KeyModifiers::SHIFT, buttons & 4 != 0);
    modifiers.set(KeyModifiers::ALT, buttons & 8 != 0);
    modifiers.set(KeyModifiers::CONTROL, buttons & 16 != 0);
    Some(MouseEvent { kind, column: column.checked_sub(1)?, row: row.checked_sub(1)?, modifiers })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(bytes: &[u8]) -> Vec<Input> {
        let (mut parser, mut out) = (Parser::default(), Vec::new());
        parser.feed(bytes, &mut out);
        parser.settle(&mut out);
        out
    }

    #[test]
    fn keys() {
        let none = KeyModifiers::NONE;
        for (bytes, code, modifiers) in [
            (&b"w"[..], KeyCode::Char('w'), none),
            (b"G", KeyCode::Char('G'), KeyModifiers::SHIFT),
            ("é".as_bytes(), KeyCode::Char('é'), none),
            (b"\r", KeyCode::Enter, none),
            (b"\t", KeyCode::Tab, none),
            (b"\x7f", KeyCode::Backspace, none),
            (b"\x1b", KeyCode::Esc, none),
            (b"\x10", KeyCode::Char('p'), KeyModifiers::CONTROL),
            (b"\x03", KeyCode::Char('c'), KeyModifiers::CONTROL),
            (b"\x1bx", KeyCode::Char('x'), KeyModifiers::ALT),
            (b"\x1b[A", KeyCode::Up, none),
            (b"\x1bOB", KeyCode::Down, none),
            (b"\x1b[1;5C", KeyCode::Right, KeyModifiers::CONTROL),
            (b"\x1b[1;2D", KeyCode::Left, KeyModifiers::SHIFT),
            (b"\x1b[H", KeyCode::Home, none),
            (b"\x1b[4~", KeyCode::End, none),
            (b"\x1b[5~", KeyCode::PageUp, none),
            (b"\x1b[3;3~", KeyCode::Delete, KeyModifiers::ALT),
            (b"\x1b[Z", KeyCode::BackTab, KeyModifiers::SHIFT),
            (b"\x1bOP", KeyCode::F(1), none),
            (b"\x1b[15~", KeyCode::F(5), none),
            (b"\x1b[24~", KeyCode::F(12), none),
            (b"\x1b[[B", KeyCode::F(2), none),
            (b"\x1b[97;5u", KeyCode::Char('a'), KeyModifiers::CONTROL),
        ] {
            assert_eq!(parsed(bytes), [key(code, modifiers)], "{bytes:?}");
        }
        assert_eq!(parsed(b"\x1b\x1b").len(), 2);
    }

    #[test]
    fn mice() {
        for (bytes, kind, column, row) in [
            (&b"\x1b[<0;10;5M"[..], MouseEventKind::Down(MouseButton::Left), 9, 4),
            (b"\x1b[<0;10;5m", MouseEventKind::Up(MouseButton::Left), 9, 4),
            (b"\x1b[<32;300;5M", MouseEventKind::Drag(MouseButton::Left), 299, 4),
            (b"\x1b[<64;1;1M", MouseEventKind::ScrollUp, 0, 0),
            (b"\x1b[<65;1;1M", MouseEventKind::ScrollDown, 0, 0),
            (b"\x1b[M \x21\x22", MouseEventKind::Down(MouseButton::Left), 0, 1),
        ] {
            let modifiers = KeyModifiers::NONE;
            assert_eq!(parsed(bytes), [Input::Mouse(MouseEvent { kind, column, row, modifiers })], "{bytes:?}");
        }
        assert_eq!(parsed(b"\x1b[<0;0;0M"), []);
    }

    #[test]
    fn pasted_text_is_no_keys() {
        assert_eq!(
            parsed(b"\x1b[200~q\nw\x1b[A\x1b[201~j"),
            [Input::Paste("q\nw\x1b[A".to_owned()), key(KeyCode::Char('j'), KeyModifiers::NONE)]
        );
    }

    #[test]
    fn what_is_no_sequence_is_dropped_and_the_next_key_is_not() {
        for junk in [&b"\x1b[99999999999999999999~"[..], b"\x1b[?1;2c", b"\x1b[I", b"\xff\xc0", b"\x1b[12\x01"] {
            let all = parsed(&[junk, b"j"].concat());
            assert_eq!(all.last(), Some(&key(KeyCode::Char('j'), KeyModifiers::NONE)), "{junk:?}");
        }
    }

    proptest! {
        #[test]
        fn pieces_are_read_as_the_whole(bytes in proptest::collection::vec(
            prop_oneof![Just(0x1b), Just(b'['), Just(b';'), Just(b'<'), Just(b'M'), Just(b'~'), any::<u8>()], 0..200),
            size in 1usize..7)
        {
            let whole = parsed(&bytes);
            let (mut parser, mut out) = (Parser::default(), Vec::new());
            for piece in bytes.chunks(size) {
                parser.feed(piece, &mut out);
                prop_assert!(parser.pending.len() <= LONGEST + size);
            }
            parser.settle(&mut out);
            prop_assert_eq!(out, whole);
        }
    }
}
