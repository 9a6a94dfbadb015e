//! What a slice is inside of: its parents, and the Python that its thread was in.

use super::lines::{Block, PanelLine, Tone};
use super::words::{at_line, time};
use crate::trace::{Layer, Parent};
use crate::tui::scene::{Scene, SliceRef};
use crate::view::text::plain;

/// Frames that are shown; the outermost say least.
const FRAMES: usize = 24;

/// The stack of a slice, innermost first; of a device's work that of its launch.
pub(super) fn block(scene: &Scene, at: SliceRef, launch: Option<SliceRef>) -> Block {
    let mut lines = Vec::new();
    let title = if launch.is_some() { "stack of the launch" } else { "stack" };
    let at = launch.unwrap_or(at);
    let track = scene.trace.tracks.get(at.track.0 as usize);
    let python = track.is_some_and(|t| t.layer == Layer::Python);
    let mut parents = scene.parents(at);
    if python {
        parents.push(at);
        lines.extend(frames(scene, &parents));
    } else {
        lines.extend(parents.iter().rev().take(FRAMES).map(|at| parent(scene, *at)));
        if track.is_some_and(|t| matches!(t.layer, Layer::Cuda | Layer::Nccl | Layer::Syscall | Layer::Io)) {
            let operators = around(scene, at, Layer::Torch);
            lines.extend(operators.iter().rev().take(FRAMES).map(|operator| parent(scene, *operator)));
        }
        lines.extend(frames(scene, &around(scene, at, Layer::Python)));
    }
    Block { title: title.to_owned(), lines }
}

fn parent(scene: &Scene, at: SliceRef) -> PanelLine {
    let duration = scene.slice(at).map_or(0, |s| s.dur_ns);
    let line = PanelLine::of(Tone::Faint, "in ").with(Tone::Plain, plain(scene.name(at)));
    line.with(Tone::Faint, format!("  {}", time(duration))).to(Some(at))
}

/// Slices of the same thread on a layer that are open where a slice starts, outermost first.
fn around(scene: &Scene, at: SliceRef, layer: Layer) -> Vec<SliceRef> {
    let parent = scene.trace.tracks.get(at.track.0 as usize).map(|t| t.parent);
    let (Some(Parent::Thread(thread)), Some(slice)) = (parent, scene.slice(at)) else { return Vec::new() };
    scene.thread_track(thread, layer).map_or_else(Vec::new, |track| scene.open_at(track, slice.start_ns))
}

/// Python frames, innermost first, each with the line it is at: the callee knows where it was
/// called from, a line below a frame says where that was, and else its first line has to do.
fn frames(scene: &Scene, stack: &[SliceRef]) -> Vec<PanelLine> {
    let trace = &*scene.trace;
    let args = |at: SliceRef| scene.slice(at).map_or(Default::default(), |s| s.args);
    let is_line = |at: SliceRef| {
        trace.arg(args(at), "call_line").is_none()
            && scene.name(at).rsplit_once(':').is_some_and(|(_, line)| line.parse::<u64>().is_ok())
    };
    let mut lines = Vec::new();
    for (i, at) in stack.iter().enumerate().rev() {
        if is_line(*at) && i > 0 {
            continue;
        }
        let file = trace.arg_str(args(*at), "file").unwrap_or_default();
        let own = trace.arg_u64(args(*at), "line").unwrap_or(0);
        let callee = stack.get(i + 1).copied();
        let called = callee.and_then(|c| trace.arg_u64(args(c), if is_line(c) { "line" } else { "call_line" }));
        let native = callee.filter(|c| is_line(*c)).and_then(|c| trace.arg_str(args(c), "native"));
        let place =
            if file.is_empty() { String::new() } else { at_line(file, called.filter(|n| *n > 0).unwrap_or(own)) };
        let mut line = PanelLine::of(Tone::Faint, "at ").with(Tone::Plain, plain(scene.name(*at)));
        if !place.is_empty() && place != scene.name(*at) {
            line = line.with(Tone::Accent, format!("  {place}"));
        }
        if let Some(native) = native {
            line = line.with(Tone::Faint, format!("  in {}", plain(native.rsplit('/').next().unwrap_or(native))));
        }
        lines.push(line.to(Some(*at)));
        if lines.len() == FRAMES && i > 0 {
            lines.push(PanelLine::of(Tone::Faint, format!("… {i} more")));
            break;
        }
    }
    lines
}
