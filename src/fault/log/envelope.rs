//! What log writers put in front of a kernel message: time, host, tag, priority.
//!
//! Knows dmesg (plain, -T, -x, -r, -d, -e, --time-format iso), /dev/kmsg, journalctl (short in all
//! its variants, and one JSON object a line), and syslog by RFC 3164 and RFC 5424, also with a date
//! like `2026-11-24 10:00:00`.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

/// Who wrote a message, as far as the log says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The kernel itself.
    Kernel,
    /// A program, whatever the text says.
    Program,
    /// The log does not say.
    Unknown,
}

/// When a message was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stamp {
    /// The log does not say.
    #[default]
    None,
    /// So many microseconds after boot.
    SinceBoot(u64),
    /// On the wall clock.
    Wall(Timestamp),
}

/// A message without its envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// The text itself.
    pub text: &'a str,
    /// When.
    pub stamp: Stamp,
    /// Host, where the log names one.
    pub host: Option<&'a str>,
    /// Who wrote it.
    pub origin: Origin,
}

/// What a reader must know to read times that leave something out.
#[derive(Debug, Clone)]
pub struct Clock {
    /// Syslog times have no year: they lie in the twelve months before this.
    pub now: Timestamp,
    /// Syslog and `dmesg -T` write local time.
    pub zone: TimeZone,
}

/// Takes the envelope off a line.
pub fn open<'a>(line: &'a str, clock: &Clock) -> Message<'a> {
    let mut message = Message { text: line.trim(), stamp: Stamp::None, host: None, origin: Origin::Unknown };
    if kmsg(&mut message) {
        return message;
    }
    let rfc5424 = priority(&mut message) && rfc5424(&mut message);
    decoded_priority(&mut message);
    let timed = rfc5424 || time(&mut message, clock);
    if timed {
        tag(&mut message);
    } else if let Some(rest) = message.text.strip_prefix("kernel: ") {
        message.text = rest;
        message.origin = Origin::Kernel;
    }
    since_boot(&mut message);
    caller(&mut message);
    message
}

/// `6,1234,5678901,-;text`, as read from /dev/kmsg.
fn kmsg(message: &mut Message<'_>) -> bool {
    let Some((head, text)) = message.text.split_once(';') else { return false };
    let mut fields = head.split(',');
    let (Some(Ok(priority)), Some(Ok(_)), Some(Ok(micros)), Some(_flags)) = (
        fields.next().map(str::parse::<u32>),
        fields.next().map(str::parse::<u64>),
        fields.next().map(str::parse::<u64>),
        fields.next(),
    ) else {
        return false;
    };
    message.text = text;
    message.origin = origin_of(priority);
    message.stamp = Stamp::SinceBoot(micros);
    caller(message);
    true
}

/// Facility 0 is the kernel's; no program can write with it.
pub(super) fn origin_of(priority: u32) -> Origin {
    if priority >> 3 == 0 { Origin::Kernel } else { Origin::Program }
}

/// `<6>`, as `dmesg -r` and syslog on the wire have it.
fn priority(message: &mut Message<'_>) -> bool {
    let Some((number, rest)) = message.text.strip_prefix('<').and_then(|rest| rest.split_once('>')) else {
        return false;
    };
    let Ok(priority) = number.parse() else { return false };
    message.origin = origin_of(priority);
    message.text = rest;
    true
}

/// `1 2026-11-24T10:00:00Z host app procid msgid - text` after the priority.
fn rfc5424(message: &mut Message<'_>) -> bool {
    let Some(rest) = message.text.strip_prefix("1 ") else { return false };
    let mut parts = rest.splitn(6, ' ');
    let (Some(time), Some(host), Some(_app), Some(_process), Some(_id), Some(rest)) =
        (parts.next(), parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    message.stamp = time.parse().map_or(Stamp::None, Stamp::Wall);
    message.host = (host != "-").then_some(host);
    // Structured data: "-", or one or more [...] without a space between them.
    let rest = rest.strip_prefix("- ").or_else(|| rest.split_once("] ").map(|(_, text)| text)).unwrap_or(rest);
    message.text = rest.trim_start_matches('\u{feff}');
    true
}

/// `kern  :err   : `, as `dmesg -x` has it.
fn decoded_priority(message: &mut Message<'_>) {
    let Some((facility, rest)) = message.text.split_once(':') else { return };
    let Some((level, rest)) = rest.split_once(':') else { return };
    const LEVELS: [&str; 8] = ["emerg", "alert", "crit", "err", "warn", "notice", "info", "debug"];
    let (facility, level) = (facility.trim_end(), level.trim_end());
    if LEVELS.contains(&level)
        && !facility.is_empty()
        && facility.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    {
        message.origin = if facility == "kern" { Origin::Kernel } else { Origin::Program };
        message.text = rest.trim_start();
    }
}

/// A time at the start, of any kind; whether a host and a tag may follow is told.
fn time(message: &mut Message<'_>, clock: &Clock) -> bool {
    let text = message.text;
    if let Some(rest) = text.strip_prefix('[') {
        let Some((inside, rest)) = rest.split_once(']') else { return false };
        let rest = rest.strip_prefix(' ').unwrap_or(rest);
        // With -d the distance to the line before stands behind the time.
        let inside = inside.split_once('<').map_or(inside, |(time, _)| time).trim();
        let Some(stamp) = bracketed(inside, clock) else { return false };
        message.stamp = stamp;
        message.text = rest;
        // `journalctl -o short-monotonic` goes on with host and tag; dmesg does not.
        if let Some((host, rest)) = rest.split_once(' ')
            && let Some(rest) = rest.strip_prefix("kernel: ")
        {
            (message.host, message.text, message.origin) = (Some(host), rest, Origin::Kernel);
        }
        return false;
    }
    if let Some((first, rest)) = text.split_once(' ')
        && first.len() >= 19
        && first.as_bytes().get(4) == Some(&b'-')
        && let Some(wall) = iso(first, clock)
    {
        message.stamp = Stamp::Wall(wall);
        message.text = rest;
        // The comma is dmesg's, and no host follows there.
        return !first.contains(',');
    }
    let found = short_date(text, clock).or_else(|| spaced_date(text, clock)).or_else(|| unix(text));
    let Some((stamp, rest)) = found else { return false };
    message.stamp = stamp;
    message.text = rest;
    true
}

/// A time as dmesg has it in brackets.
pub(super) fn bracketed(inside: &str, clock: &Clock) -> Option<Stamp> {
    let wall = || long_date(inside, clock).map(Stamp::Wall);
    seconds(inside).map(Stamp::SinceBoot).or_else(wall).or_else(|| relative(inside, clock))
}

/// `Tue 2026-11-24 10:00:01.123456 UTC [s=5a…;i=1;b=…]`: the first line of a record of
/// `journalctl -o verbose`.
pub(super) fn journal_header(line: &str, clock: &Clock) -> Option<Stamp> {
    if !line.ends_with(']') {
        return None;
    }
    let (stamp, rest) = spaced_date(line, clock)?;
    rest.starts_with("[s=").then_some(stamp)
}

/// `Nov24 10:00`, or `+0.000012` after the line before, as `dmesg -e` writes them. The second tells no time.
fn relative(inside: &str, clock: &Clock) -> Option<Stamp> {
    if inside.strip_prefix('+').and_then(seconds).is_some() {
        return Some(Stamp::None);
    }
    let (date, time) = inside.split_once(' ')?;
    let (month, day) = date.split_at_checked(3)?;
    let text = format!("{month} {day} {}:00 ", time.trim());
    short_date(&text, clock).map(|(stamp, _)| stamp)
}

/// `Tue 2026-11-24 10:00:00 UTC `, as `journalctl -o short-full` writes it, and the same without a
/// weekday, as syslog templates have it. The letters of another zone than UTC mean the log's own.
fn spaced_date<'a>(text: &'a str, clock: &Clock) -> Option<(Stamp, &'a str)> {
    let weekday = text.split_once(' ').filter(|(day, _)| day.len() == 3 && day.chars().all(char::is_alphabetic));
    let (date, rest) = weekday.map_or(text, |(_, rest)| rest).split_once(' ')?;
    if date.len() != 10 || date.as_bytes().get(4) != Some(&b'-') {
        return None;
    }
    let (time, rest) = rest.split_once(' ')?;
    let written: DateTime = format!("{date}T{}", time.replace(',', ".")).parse().ok()?;
    let zone = rest.split_once(' ').filter(|(zone, _)| match zone.as_bytes() {
        [b'+' | b'-', digits @ ..] => !digits.is_empty() && digits.iter().all(|b| b.is_ascii_digit() || *b == b':'),
        letters => *zone == "UTC" || weekday.is_some() && letters.iter().all(u8::is_ascii_uppercase),
    });
    let rest = zone.map_or(rest, |(_, rest)| rest);
    let wall = match zone.map(|(zone, _)| zone) {
        Some("UTC") => written.to_zoned(TimeZone::UTC).ok()?.timestamp(),
        Some(offset) if !offset.starts_with(char::is_alphabetic) => iso(&format!("{written}{offset}"), clock)?,
        _ => written.to_zoned(clock.zone.clone()).ok()?.timestamp(),
    };
    Some((Stamp::Wall(wall), rest))
}

/// `1795514400.123456 `: seconds since 1970, as `journalctl -o short-unix` writes them.
fn unix(text: &str) -> Option<(Stamp, &str)> {
    let (first, rest) = text.split_once(' ')?;
    // From 2001 to 2286; seconds since boot have fewer digits.
    let micros = first.find('.').filter(|&digits| digits == 10).and_then(|_| seconds(first))?;
    let wall = Timestamp::from_microsecond(i64::try_from(micros).ok()?).ok()?;
    Some((Stamp::Wall(wall), rest))
}

/// `host tag: text` after a time.
fn tag(message: &mut Message<'_>) {
    let text = message.text.trim_start();
    message.text = text;
    let Some((first, rest)) = text.split_once(' ') else { return };
    let (host, tag, rest) = if first.ends_with(':') {
        (None, first, rest)
    } else {
        let Some((second, rest)) = rest.trim_start().split_once(' ') else { return };
        if !second.ends_with(':') {
            return;
        }
        (Some(first), second, rest)
    };
    let name = tag.trim_end_matches(':');
    let name = name.split_once('[').map_or(name, |(name, _)| name);
    if name == "kernel" {
        message.origin = Origin::Kernel;
    } else if host.is_some() {
        message.origin = Origin::Program;
    } else {
        // No host and no "kernel:": the first word is the message's own.
        return;
    }
    message.host = host.or(message.host);
    message.text = rest;
}

/// `[12345.678901] ` after the tag; the wall clock in front of it is worth more.
fn since_boot(message: &mut Message<'_>) {
    let Some((inside, rest)) = message.text.strip_prefix('[').and_then(|rest| rest.split_once(']')) else { return };
    if let Some(micros) = seconds(inside.trim()) {
        if message.stamp == Stamp::None {
            message.stamp = Stamp::SinceBoot(micros);
        }
        message.text = rest.strip_prefix(' ').unwrap_or(rest);
    }
}

/// `[T1234] ` or `[C7] `: the caller, with CONFIG_PRINTK_CALLER.
fn caller(message: &mut Message<'_>) {
    let Some((inside, rest)) = message.text.strip_prefix('[').and_then(|rest| rest.split_once("] ")) else { return };
    let number = inside.trim().trim_start_matches(['T', 'C']);
    if number.len() + 1 == inside.trim().len() && number.bytes().all(|b| b.is_ascii_digit()) && !number.is_empty() {
        message.text = rest;
    }
}

/// `12345.678901` in microseconds.
fn seconds(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.')?;
    let digits = |t: &str| !t.is_empty() && t.len() <= 15 && t.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(part) {
        return None;
    }
    let micros: u64 = format!("{part:0<6}").get(..6)?.parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(1_000_000)?.checked_add(micros)
}

/// `2026-11-24T10:00:00+0000` and its relatives.
pub(super) fn iso(text: &str, clock: &Clock) -> Option<Timestamp> {
    let text = text.replace(',', ".");
    if let Ok(wall) = text.parse::<Timestamp>() {
        return Some(wall);
    }
    for format in ["%Y-%m-%dT%H:%M:%S%.f%z", "%Y-%m-%dT%H:%M:%S%z"] {
        if let Ok(wall) = Timestamp::strptime(format, &text) {
            return Some(wall);
        }
    }
    text.parse::<DateTime>().ok()?.to_zoned(clock.zone.clone()).ok().map(|zoned| zoned.timestamp())
}

/// `Tue Nov 24 10:00:00 2026`, as `dmesg -T` writes it. The weekday tells nothing new, so it is
/// not held against the date.
fn long_date(text: &str, clock: &Clock) -> Option<Timestamp> {
    let (weekday, date) = text.trim().split_once(' ')?;
    if weekday.is_empty() || !weekday.chars().all(char::is_alphabetic) {
        return None;
    }
    let spaced = date.split_whitespace().collect::<Vec<_>>().join(" ");
    let date = DateTime::strptime("%b %d %H:%M:%S %Y", &spaced).ok()?;
    date.to_zoned(clock.zone.clone()).ok().map(|zoned| zoned.timestamp())
}

/// `Nov 24 10:00:00` or `Nov 24 10:00:00.123456`, the latest such moment that is not in the future.
fn short_date<'a>(text: &'a str, clock: &Clock) -> Option<(Stamp, &'a str)> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = MONTHS.iter().position(|name| text.get(..3) == Some(name)).map(|month| month + 1);
    // Another language's month tells no time, but what follows it is the same.
    if month.is_none() && !text.get(..3)?.chars().all(char::is_alphabetic) {
        return None;
    }
    let rest = text.get(3..)?.strip_prefix(' ')?.trim_start();
    let (day, rest) = rest.split_once(' ')?;
    let (time, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    let clocklike = time.len() >= 8 && time.bytes().all(|b| b.is_ascii_digit() || b":.".contains(&b));
    if !clocklike || !day.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let Some(month) = month else { return Some((Stamp::None, rest)) };
    let now = clock.now.to_zoned(clock.zone.clone());
    for year in [now.year(), now.year() - 1] {
        let written = format!("{year:04}-{month:02}-{:0>2}T{time}", day);
        let Ok(date) = written.parse::<DateTime>() else { continue };
        let Ok(zoned) = date.to_zoned(clock.zone.clone()) else { continue };
        // A day's grace: the log's machine may be in another zone.
        if zoned.timestamp() <= clock.now.checked_add(24.hours()).unwrap_or(Timestamp::MAX) {
            return Some((Stamp::Wall(zoned.timestamp()), rest));
        }
    }
    None
}
