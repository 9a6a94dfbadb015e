//! What PyTorch's NCCL watchdog writes into a log. The forms are those of ProcessGroupNCCL.cpp
//! from 1.13 to 2.9: the words around the numbers changed, the numbers' names did not.

/// What one line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sign {
    /// The rank that says it.
    pub rank: Option<u32>,
    /// What.
    pub said: Said,
}

/// What a watchdog can say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// A collective was waited for longer than its limit.
    Timeout {
        /// Its number, which all ranks count alike.
        sequence: u64,
        /// "ALLREDUCE".
        operation: String,
        /// How long, milliseconds.
        waited_ms: u64,
    },
    /// How far the rank had come.
    Status {
        /// The last collective that it began.
        enqueued: u64,
        /// The last that it finished.
        completed: u64,
    },
    /// The thread that watches did not come on by itself.
    Stuck {
        /// For how long, seconds.
        seconds: u64,
    },
    /// Another rank asked it to write down where it is.
    Asked {
        /// Which.
        by: u32,
    },
    /// A frame of where the collective was called from, by the flight recorder.
    CalledFrom(String),
}

/// What stands before a stack trace of the flight recorder.
const TRACE: &str = "Stack trace of the failed collective:";

/// Reads a line; `None` if it says nothing of this.
pub fn sign(line: &str) -> Option<Sign> {
    // Nearly all lines of a log end here.
    if !(line.contains("NCCL") || line.contains("atchdog") || line.contains("PG ID") || line.contains("[PG ")) {
        return None;
    }
    let said = timeout(line)
        // How far a rank had come is worth more than who asked it: the one that was asked, and did not
        // time out itself, may be the one that all wait for.
        .or_else(|| status(line))
        .or_else(|| asked(line))
        .or_else(|| stuck(line))
        .or_else(|| traced(line))?;
    Some(Sign { rank: rank(line), said })
}

fn timeout(line: &str) -> Option<Said> {
    let work = line.split_once("collective operation timeout: WorkNCCL(")?.1;
    Some(Said::Timeout {
        sequence: number(work, "SeqNum=")?,
        operation: word(work, "OpType=").filter(|operation| !operation.is_empty())?.to_owned(),
        waited_ms: number(work, "ran for ").or_else(|| number(work, "Timeout(ms)="))?,
    })
}

fn asked(line: &str) -> Option<Said> {
    let by = number(line, "due to a collective timeout from rank ")
        .or_else(|| line.contains("dump signal").then(|| number(line, "from rank ")).flatten())?;
    Some(Said::Asked { by: u32::try_from(by).ok()? })
}

fn status(line: &str) -> Option<Said> {
    let any = |names: &[&str]| names.iter().find_map(|name| reached(line, name));
    let enqueued = any(&["last enqueued NCCL work: ", "last enqueued work: ", "Last enqueued NCCL work: "])?;
    let completed = any(&[
        "last completed NCCL work: ",
        "last completed work: ",
        "Last completed NCCL work: ",
        // 2.5 and 2.6, on request of another rank.
        "last completed: ",
    ])?;
    Some(Said::Status { enqueued, completed })
}

fn stuck(line: &str) -> Option<Said> {
    let seconds = number(line, "watchdog got stuck for ")?;
    Some(Said::Stuck { seconds })
}

/// The first frame of a stack trace on the line that begins it.
fn traced(line: &str) -> Option<Said> {
    let trace = line.split_once(TRACE)?.1.trim();
    (!trace.is_empty()).then(|| Said::CalledFrom(trace.chars().take(200).collect()))
}

/// Whose stack trace begins on the next line: a rank, or nobody known.
pub(super) fn trace(line: &str) -> Option<Option<u32>> {
    let rest = line.split_once(TRACE)?.1;
    rest.trim().is_empty().then(|| rank(line))
}

/// The first frame of a stack trace on a line of its own: "#0 all_reduce from /opt/train.py:31".
pub(super) fn frame(rank: Option<u32>, line: &str) -> Option<Sign> {
    let words = line.trim();
    let said = || Said::CalledFrom(words.chars().take(200).collect());
    words.starts_with("#0 ").then(|| Sign { rank, said: said() })
}

fn rank(line: &str) -> Option<u32> {
    let of = |name| number(line, name).and_then(|rank| u32::try_from(rank).ok());
    // "[Rank 3]" and "… Rank 3]" are the group's; "[rank3]:" is put before every line.
    of("[Rank ").or_else(|| of(" Rank ")).or_else(|| of("[rank"))
}

/// The number behind a name; each place where the name stands is tried.
fn number(text: &str, name: &str) -> Option<u64> {
    text.match_indices(name).find_map(|(at, _)| {
        let digits = &text[at + name.len()..];
        let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        digits[..end].parse().ok()
    })
}

/// The same of a count of collectives: -1 says that there was none yet.
fn reached(text: &str, name: &str) -> Option<u64> {
    let none = text.match_indices(name).any(|(at, _)| text[at + name.len()..].starts_with("-1"));
    number(text, name).or(none.then_some(0))
}

fn word<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let rest = text.split_once(name)?.1;
    Some(&rest[..rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len())])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn watchdogs_of_all_ages_are_understood() {
        let timeout = |sequence, operation: &str, waited_ms| Said::Timeout {
            sequence,
            operation: operation.to_owned(),
            waited_ms,
        };
        for (line, rank, said) in [
            (
                "[E ProcessGroupNCCL.cpp:475] [Rank 0] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=1, OpType=BROADCAST, Timeout(ms)=1800000) ran for 1800116 milliseconds before timing out.",
                Some(0),
                timeout(1, "BROADCAST", 1_800_116),
            ),
            (
                "[rank3]:[E1124 10:00:01.1 ProcessGroupNCCL.cpp:632] [Rank 3] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=1234, OpType=_ALLGATHER_BASE, NumelIn=1, NumelOut=8, Timeout(ms)=600000) ran for 600029 milliseconds before timing out.",
                Some(3),
                timeout(1234, "_ALLGATHER_BASE", 600_029),
            ),
            (
                "[rank1]:[E ProcessGroupNCCL.cpp:1484] [PG ID 0 PG GUID 0(default_pg) Rank 1] Exception (either an error or timeout) detected by watchdog at work: 4, last enqueued NCCL work: 5, last completed NCCL work: 3.",
                Some(1),
                Said::Status { enqueued: 5, completed: 3 },
            ),
            (
                "[rank1]:[E] [PG ID 0 PG GUID 0(default_pg) Rank 1]  failure detected by watchdog at work sequence id: 4 PG status: last enqueued work: 4, last completed work: 3",
                Some(1),
                Said::Status { enqueued: 4, completed: 3 },
            ),
            (
                "[rank1]:[E] [PG ID 0 PG GUID 0 Rank 1] Received a dump signal due to a collective timeout from rank 0 and we will try our best to dump the debug info. Last enqueued NCCL work: 5, last completed NCCL work: 4.",
                Some(1),
                Said::Status { enqueued: 5, completed: 4 },
            ),
            // As 2.5 and 2.6 wrote them into logs that people have published.
            (
                "[rank0]:[E1114 09:51:00.658350320 ProcessGroupNCCL.cpp:1858] [PG ID 0 PG GUID 0(default_pg) Rank 0] Received a dump signal due to a collective timeout from rank 1. Last enqueued NCCL work: 3, last completed: 1.",
                Some(0),
                Said::Status { enqueued: 3, completed: 1 },
            ),
            (
                "[rank8]:[E] [PG ID 0 PG GUID 0(default_pg) Rank 8] Received a dump signal due to a collective timeout from this local rank and we will try our best to dump the debug info. Last enqueued NCCL work: 62, last completed NCCL work: 62.This is most likely caused by incorrect usages of collectives",
                Some(8),
                Said::Status { enqueued: 62, completed: 62 },
            ),
            (
                "[PG ID 0 PG GUID 0(default_pg) Rank 3] Received a dump signal due to a collective timeout from this local rank and we will try our best to dump the debug info. Last enqueued NCCL work: 1, last completed NCCL work: -1.",
                Some(3),
                Said::Status { enqueued: 1, completed: 0 },
            ),
            (
                "[rank4]:[E] [PG ID 0 PG GUID 0 Rank 4] Received a dump signal due to a collective timeout from rank 0 and we will try our best to dump the debug info.",
                Some(4),
                Said::Asked { by: 0 },
            ),
            (
                "[rank2]:[F] [PG ID 0 PG GUID 0(default_pg) Rank 2] ProcessGroupNCCL's watchdog got stuck for 480 seconds without making progress in monitoring enqueued collectives.",
                Some(2),
                Said::Stuck { seconds: 480 },
            ),
            (
                "[rank3]:[E] [PG ID 0 PG GUID 0(default_pg) Rank 3] Stack trace of the failed collective: #0 all_reduce from /opt/train.py:31",
                Some(3),
                Said::CalledFrom("#0 all_reduce from /opt/train.py:31".to_owned()),
            ),
        ] {
            assert_eq!(sign(line), Some(Sign { rank, said }), "{line}");
        }
    }

    #[test]
    fn other_lines_say_nothing() {
        for line in [
            "step 100 loss 2.31",
            "NCCL INFO Bootstrap : Using eth0",
            "[Rank 0] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=, OpType=ALLREDUCE) ran for x",
            "watchdog: BUG: soft lockup - CPU#3 stuck for 22s!",
            "Setting TORCH_NCCL_HEARTBEAT_TIMEOUT_SEC",
        ] {
            assert_eq!(sign(line), None, "{line}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "(NCCL|Rank |SeqNum=|OpType=|collective operation timeout: WorkNCCL\\(|[0-9é ,\\]]){0,12}") {
            sign(&text);
        }

        #[test]
        fn what_is_written_is_read(rank: u32, sequence: u64, waited: u64, operation in "[A-Z_]{1,20}") {
            let line = format!("[Rank {rank}] Watchdog caught collective operation timeout: WorkNCCL(SeqNum={sequence}, OpType={operation}, Timeout(ms)=1) ran for {waited} milliseconds");
            let said = Said::Timeout { sequence, operation, waited_ms: waited };
            prop_assert_eq!(sign(&line), Some(Sign { rank: Some(rank), said }));
        }
    }
}
