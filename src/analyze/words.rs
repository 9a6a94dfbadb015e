//! How a report names things.

use super::classify::How;
use super::frames::{FrameId, base_name};
use super::index::Index;
use super::report::Category;

/// "load_batch (data.py:17)"; empty for no frame.
pub(super) fn frame(index: &Index<'_>, id: FrameId) -> String {
    let f = index.frames.get(id);
    if f.name.is_empty() {
        String::new()
    } else if f.file.is_empty() {
        f.name.clone()
    } else {
        format!("{} ({}:{})", f.name, base_name(&f.file), f.line)
    }
}

/// "data.py:21" for a line of a function; its first line if the line is unknown; empty for no frame.
pub(super) fn line(index: &Index<'_>, id: FrameId, line: u32) -> String {
    let f = index.frames.get(id);
    if f.file.is_empty() {
        return f.name.clone();
    }
    format!("{}:{}", base_name(&f.file), if line > 0 { line } else { f.line })
}

/// What time of a category is, after "of each step".
pub(super) fn category(category: Category) -> &'static str {
    match category {
        Category::Input => "waiting for or loading data",
        Category::ComputeCpu => "computing on the CPU",
        Category::GpuWait => "waiting for the GPU",
        Category::Communication => "communicating with other ranks",
        Category::Io => "reading and writing files",
        Category::Python => "Python and launch overhead",
        Category::Idle => "doing nothing",
        Category::Other => "something the recording does not explain",
    }
}

/// What time was spent with, after a share.
pub(super) fn how(how: How) -> &'static str {
    match how {
        How::Interpreter => "in the Python interpreter",
        How::Native => "in native code on the CPU",
        How::Operator => "in operators",
        How::Launch => "launching operators",
        How::Gil => "waiting for the GIL",
        How::Sleep => "in a sleep call",
        How::Queue => "waiting for workers to hand over",
        How::Read => "reading files",
        How::Write => "writing files",
        How::Sync => "in fsync",
        How::Socket => "waiting on a socket",
        How::Collective => "in collectives",
        How::Device => "waiting for the device",
        How::Join => "waiting for other threads or processes",
        How::Wait => "waiting",
    }
}

/// "71 %".
pub(super) fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}
