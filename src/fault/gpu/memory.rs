//! What a GPU asks for itself, and its memory: errors, rows replaced, pages retired.

use jiff::SignedDuration;

use super::facts::{Banks, Failure, Gpu, Reading, Rows};
use super::pass::Pass;
use crate::fault::history::History;

/// The GPU's own word, which is worth more than any reading.
pub fn recovery(pass: &mut Pass<'_>, _history: &mut History) {
    for gpu in &pass.look.gpus {
        if gpu.opened == Reading::Failed(Failure::ResetRequired) {
            pass.found(gpu, "gpu-recovery-reset", format!("NVML on GPU {}: {}", gpu.index, Failure::ResetRequired));
        }
    }
    for gpu in pass.gpus() {
        let Some(action) = pass.read(gpu, "recovery action", &gpu.recovery_action) else { continue };
        let fault = match action {
            0 => continue,
            1 => "gpu-recovery-reset",
            2 => "gpu-recovery-reboot",
            3 => "gpu-recovery-drain-p2p",
            4 => "gpu-recovery-drain-reset",
            // Newer than this program: never acted on.
            other => {
                pass.blind(format!("GPU {}: recovery action {other} is not known here", gpu.index));
                continue;
            }
        };
        pass.found(gpu, fault, format!("NVML's recovery action is {action}"));
    }
}

/// Memory errors, and whether they are corrected at all.
pub fn ecc(pass: &mut Pass<'_>, history: &mut History) {
    for gpu in pass.gpus() {
        let ecc = &gpu.ecc;
        let on = pass.read(gpu, "ECC mode", &ecc.mode).copied();
        if let (Some(mode), Some(true)) = (on, ecc.on_by_default.value())
            && !mode.current
        {
            let pending = if mode.pending { "on after the next reset" } else { "off after the next reset, too" };
            pass.found(gpu, "ecc-disabled", format!("ECC is off, on by default; {pending}"));
        }
        if let Some(errors @ 1..) = pass.read(gpu, "uncorrected errors", &ecc.volatile_uncorrected).copied() {
            let life = ecc.aggregate_uncorrected.value().map_or(String::new(), |life| format!(", {life} in its life"));
            pass.found(gpu, "ecc-dbe-volatile", format!("{errors} uncorrected since the driver was loaded{life}"));
        }
        if let Some(errors) = pass.read(gpu, "corrected errors", &ecc.volatile_corrected).copied() {
            let key = gpu.key("ecc-corrected");
            history.count(&key, errors);
            if let Some(grown) = history.grown(&key, SignedDuration::from_hours(1))
                && grown.per_hour() >= pass.machine.limits.corrected_per_hour
            {
                let minutes = grown.over.as_mins();
                pass.found(gpu, "ecc-sbe-rate", format!("{} corrected errors in {minutes} min", grown.by));
            }
        }
        if pass.read(gpu, "SRAM errors", &ecc.sram_threshold_exceeded) == Some(&true) {
            pass.found(gpu, "ecc-sram-threshold", "the GPU says that its SRAM had too many uncorrectable errors");
        }
        match &gpu.inforom {
            Reading::Failed(Failure::InforomCorrupt) => {
                pass.found(gpu, "inforom-corrupt", "the checksum of the InfoROM is wrong");
            }
            reading => _ = pass.read(gpu, "InfoROM", reading),
        }
    }
    needs_another_look(pass, history);
}

/// Rows replaced (Ampere and later), pages retired (before).
pub fn rows(pass: &mut Pass<'_>, history: &mut History) {
    let limits = pass.machine.limits;
    for gpu in pass.gpus() {
        if let Some(rows) = pass.read(gpu, "rows", &gpu.rows).copied() {
            let banks = pass.read(gpu, "banks", &gpu.banks).copied().unwrap_or_default();
            replaced(pass, gpu, rows, banks, history);
        }
        if pass.read(gpu, "retired pages", &gpu.pages.pending) == Some(&true) {
            pass.found(gpu, "page-retire-pending", "pages wait to be retired when the driver is loaded anew");
        }
        let corrected = pass.read(gpu, "retired pages", &gpu.pages.corrected).copied().unwrap_or(0);
        let uncorrected = pass.read(gpu, "retired pages", &gpu.pages.uncorrected).copied().unwrap_or(0);
        let all = corrected.saturating_add(uncorrected);
        if all >= limits.retired_pages {
            let words = format!(
                "{all} pages retired ({corrected} corrected, {uncorrected} not), of {} possible",
                limits.retired_pages
            );
            pass.found(gpu, "page-retire-limit", words);
        }
    }
}

fn replaced(pass: &mut Pass<'_>, gpu: &Gpu, rows: Rows, banks: Banks, history: &mut History) {
    let limits = pass.machine.limits;
    let counts = format!(
        "{} rows replaced after uncorrectable, {} after correctable errors",
        rows.uncorrectable, rows.correctable
    );
    if rows.pending {
        pass.found(gpu, "row-remap-pending", format!("a replacement waits for a reset; {counts}"));
    }
    if rows.failure {
        pass.found(gpu, "row-remap-failure", format!("a replacement failed; {counts}"));
    }
    let key = gpu.key("rows-uncorrectable");
    if rows.uncorrectable >= limits.uncorrectable_rows || banks.none > 0 {
        let words = format!("{counts}; {} banks have no spare row left", banks.none);
        pass.found(gpu, "row-remap-uncorr-limit", words);
    } else if rows.uncorrectable > 0 {
        pass.found(gpu, "row-remap-uncorr", counts);
        // They stay for the life of the GPU: news only once.
        let value = rows.uncorrectable.to_string();
        if let Some(known) = history.recall(&key).filter(|known| known.value == value && known.last < history.now()) {
            let since = known.since;
            pass.no_news(format!("no new ones since {since:.0}"));
        }
    }
    if gpu.uuid.is_some() {
        history.note(key, &rows.uncorrectable.to_string());
    }
}

/// Rates need two looks; the first one says so.
pub fn needs_another_look(pass: &mut Pass<'_>, history: &History) {
    if history.last_look().is_none() && pass.gpus().next().is_some() {
        pass.note("rates from the next look on");
    }
}
