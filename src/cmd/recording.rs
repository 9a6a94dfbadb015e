//! Recordings as files: read one, name one, make one without harm to what is there.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::error::{Error, Kind};
use rustix::time::ClockId;

use crate::trace::{self, ChromeWriter, ClockSnapshot, PerfettoWriter, Sink, Trace};
use crate::view::Ui;

/// Opens a file to read, or stdin for `-`, with the name to call it by.
pub fn open(path: &Path) -> Result<(Box<dyn Read>, String), Error> {
    if path == Path::new("-") {
        return Ok((Box::new(io::stdin()), "stdin".to_owned()));
    }
    let shown = path.display().to_string();
    let file = File::open(path).map_err(|error| Error::failed(format!("cannot open {shown}"), error))?;
    if file.metadata().is_ok_and(|data| data.is_dir()) {
        return Err(Error::new(Kind::Failed, format!("cannot read {shown}: it is a directory")));
    }
    Ok((Box::new(file), shown))
}

/// Reads a recording of any kind that aictl knows; `-` is stdin.
pub fn read(path: &Path, ui: &Ui) -> Result<Trace, Error> {
    let line = ui.progress();
    line.set(&format!("reading {}", if path == Path::new("-") { Path::new("stdin") } else { path }.display()));
    read_quietly(path)
}

/// The same while the screen is someone else's.
pub fn read_quietly(path: &Path) -> Result<Trace, Error> {
    let (mut input, shown) = open(path)?;
    trace::read(input.as_mut()).map_err(|error| Error::failed(format!("cannot read {shown}"), error))
}

/// The formats a recording is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Perfetto's protobuf.
    Perfetto,
    /// Chrome's JSON.
    Chrome,
    /// The same, compressed.
    ChromeGzip,
}

impl Format {
    /// By the file's name; Perfetto unless it says otherwise.
    pub fn of(path: &Path) -> Format {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        if name.ends_with(".json.gz") {
            Format::ChromeGzip
        } else if name.ends_with(".json") {
            Format::Chrome
        } else {
            Format::Perfetto
        }
    }
}

/// The writer of a format. Each hands whole events on in runs of its own, so nothing buffers here.
pub fn sink<'w>(format: Format, out: Box<dyn Write + 'w>, clock: ClockSnapshot) -> io::Result<Box<dyn Sink + 'w>> {
    Ok(match format {
        Format::Perfetto => Box::new(PerfettoWriter::new(out, clock)?),
        Format::Chrome => Box::new(ChromeWriter::new(out)),
        Format::ChromeGzip => Box::new(ChromeWriter::gzip(out)),
    })
}

/// Makes a recording in one go and returns its size: under another name first, so that what was
/// there stays whole until the new one is. Only a recording or an empty file is overwritten.
pub fn save(path: &Path, write: impl FnOnce(Box<dyn Write + '_>) -> io::Result<()>) -> Result<u64, Error> {
    let cannot = |error: io::Error| Error::failed(format!("cannot write {}", path.display()), error);
    let recording = NewRecording::create(path)?;
    if !recording.ordinary {
        recording.begin();
        write(Box::new(recording.writer().map_err(cannot)?)).map_err(cannot)?;
        return Ok(0);
    }
    // A link stays one: what it points to is replaced.
    let target = fs::canonicalize(path).map_err(cannot)?;
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let part = target.with_file_name(name);
    let written = File::create_new(&part).and_then(|file| {
        write(Box::new(&file))?;
        fs::set_permissions(&part, fs::metadata(&target)?.permissions())?;
        fs::rename(&part, &target)?;
        Ok(file.metadata()?.len())
    });
    written.map_err(|error| {
        // What is left of it is of no use.
        let _ = fs::remove_file(&part);
        recording.discard();
        cannot(error)
    })
}

/// A file that a recording is being written to. What was there before is overwritten only once
/// the recording has begun, so that a capture that never starts destroys nothing.
#[derive(Debug)]
pub struct NewRecording {
    file: File,
    path: PathBuf,
    /// It is an ordinary file, to be emptied and read back; not a pipe or a device.
    ordinary: bool,
    /// It was not there before.
    fresh: bool,
    begun: Arc<AtomicBool>,
}

impl NewRecording {
    /// Opens the file for writing, and makes sure that it may be overwritten: only a recording
    /// or an empty file is, since `-w train.py` is soon typed.
    pub fn create(path: &Path) -> Result<NewRecording, Error> {
        let shown = path.display();
        let cannot = |error: io::Error| {
            let hint = match error.kind() {
                io::ErrorKind::NotFound => "the directory does not exist; make it, or choose another with -w FILE",
                io::ErrorKind::PermissionDenied => "you may not write there; choose another file with -w FILE",
                _ => "choose another file with -w FILE",
            };
            Error::failed(format!("cannot write {shown}"), error).hint(hint)
        };
        let fresh = fs::symlink_metadata(path).is_err();
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        // A pipe or device may allow writing only. Of anything else the first error is the one to tell.
        let only_writable =
            || fs::metadata(path).is_ok_and(|data| data.file_type().is_fifo() || data.file_type().is_char_device());
        let file = file.or_else(|error| match only_writable() {
            true => OpenOptions::new().write(true).open(path),
            false => Err(error),
        });
        let file = file.map_err(cannot)?;
        let kind = file.metadata().map_err(cannot)?.file_type();
        let ordinary = kind.is_file();
        if !ordinary && !kind.is_fifo() && !kind.is_char_device() {
            return Err(cannot(io::Error::other("not an ordinary file, pipe or device")));
        }
        if ordinary && !is_recording(&file).map_err(cannot)? {
            return Err(Error::usage(format!("{shown} exists and is no recording; not overwriting it"))
                .hint("choose another file with -w FILE, or remove it first"));
        }
        Ok(NewRecording { file, path: path.to_owned(), ordinary, fresh, begun: Arc::default() })
    }

    /// A second handle to write through; it holds back what is written before [`NewRecording::begin`].
    pub fn writer(&self) -> io::Result<impl Write + use<>> {
        Ok(HeldBack {
            file: self.file.try_clone()?,
            ordinary: self.ordinary,
            begun: Arc::clone(&self.begun),
            held: Some(Vec::new()),
        })
    }

    /// The capture runs: from the next write on, the file is overwritten.
    pub fn begin(&self) {
        self.begun.store(true, Ordering::Relaxed);
    }

    /// Whether the capture ran.
    pub fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
    }

    /// Path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes in the file by now; none for a pipe or device, which can't be read back.
    pub fn size(&self) -> Option<u64> {
        self.ordinary.then(|| self.file.metadata().map_or(0, |data| data.len()))
    }

    /// Removes the file if it was made for a capture that never began.
    pub fn discard(self) {
        if self.fresh && self.ordinary && !self.has_begun() {
            // It stays as an empty file at worst.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Holds writes back until the recording has begun, then empties the file and passes them on.
struct HeldBack {
    file: File,
    ordinary: bool,
    begun: Arc<AtomicBool>,
    held: Option<Vec<u8>>,
}

impl HeldBack {
    fn let_go(&mut self) -> io::Result<()> {
        if let Some(held) = self.held.take() {
            if self.ordinary {
                self.file.set_len(0)?;
            }
            self.file.write_all(&held)?;
        }
        Ok(())
    }
}

impl Write for HeldBack {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if self.begun.load(Ordering::Relaxed) {
            self.let_go()?;
            return self.file.write(data);
        }
        match &mut self.held {
            Some(held) => held.write(data),
            None => self.file.write(data),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.begun.load(Ordering::Relaxed) { self.let_go() } else { Ok(()) }
    }
}

/// The same moment on the clocks that a recording is placed by.
pub fn clock_snapshot() -> ClockSnapshot {
    let read = |clock| {
        let time = rustix::time::clock_gettime(clock);
        u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
    };
    ClockSnapshot {
        monotonic_ns: read(ClockId::Monotonic),
        boottime_ns: read(ClockId::Boottime),
        realtime_ns: read(ClockId::Realtime),
    }
}

/// Whether a file is empty or starts as recordings do.
fn is_recording(file: &File) -> io::Result<bool> {
    use std::os::unix::fs::FileExt;
    let mut head = [0; 4096];
    let size = file.read_at(&mut head, 0)?;
    let head = &head[..size];
    let chrome = || head.windows(13).any(|w| w == b"\"traceEvents\"") || head.starts_with(b"[{");
    // 0x0a: field 1 (packet) of Perfetto's Trace message; 1f 8b: gzip.
    Ok(matches!(head, [] | [0x0a, ..] | [0x1f, 0x8b, ..]) || chrome())
}

/// Free bytes on the file system of a directory, for a warning before a capture starts.
pub fn free_bytes(path: &Path) -> Option<u64> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let stat = rustix::fs::statvfs(directory).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_gives_the_format() {
        for (name, format) in [
            ("a.pftrace", Format::Perfetto),
            ("a", Format::Perfetto),
            ("a.JSON", Format::Chrome),
            ("a.json.gz", Format::ChromeGzip),
        ] {
            assert_eq!(Format::of(Path::new(name)), format, "{name}");
        }
    }

    #[test]
    fn what_was_there_survives_until_the_recording_begins() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("old.pftrace");
        fs::write(&path, b"\x0a\x02old recording").unwrap();
        let recording = NewRecording::create(&path).unwrap();
        let mut writer = recording.writer().unwrap();
        writer.write_all(b"\x0a\x01n").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"\x0a\x02old recording");
        recording.begin();
        writer.write_all(b"ew").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"\x0a\x01new");
    }

    #[test]
    fn a_source_file_is_not_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("train.py");
        fs::write(&path, "import torch\n").unwrap();
        assert!(NewRecording::create(&path).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "import torch\n");
    }

    #[test]
    fn a_capture_that_never_starts_leaves_no_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new.pftrace");
        NewRecording::create(&path).unwrap().discard();
        assert!(!path.exists());
    }
}
