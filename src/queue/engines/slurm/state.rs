//! From Slurm's states and reason codes to the words of all engines.

use super::record::Record;
use crate::queue::{Reason, ReasonKind, State};

/// Where a job stands.
pub(super) fn state(record: &Record) -> State {
    if record.flags.iter().any(|flag| matches!(flag.as_str(), "REQUEUE_HOLD" | "SPECIAL_EXIT" | "RESV_DEL_HOLD")) {
        return State::Held;
    }
    if record.flags.iter().any(|flag| matches!(flag.as_str(), "REQUEUED" | "REQUEUE_FED")) {
        return State::Pending;
    }
    if record.flags.iter().any(|flag| flag == "COMPLETING") {
        return State::Running;
    }
    match record.state.as_str() {
        "PENDING" | "REQUEUED" | "REQUEUE_FED" => {
            if record.priority == 0 || record.reason.starts_with("JobHeld") {
                State::Held
            } else {
                State::Pending
            }
        }
        "REQUEUE_HOLD" | "SPECIAL_EXIT" | "RESV_DEL_HOLD" | "SUSPENDED" | "STOPPED" => State::Held,
        _ if record.flags.iter().any(|flag| matches!(flag.as_str(), "CONFIGURING" | "POWER_UP_NODE")) => {
            State::Admitted
        }
        "CONFIGURING" | "POWER_UP_NODE" => State::Admitted,
        "RUNNING" | "COMPLETING" | "RESIZING" | "SIGNALING" | "STAGE_OUT" | "UPDATE_DB" => State::Running,
        "COMPLETED" => State::Succeeded,
        "CANCELLED" | "REVOKED" => State::Cancelled,
        "" => State::Pending,
        _ => State::Failed,
    }
}

/// Its program's exit code, once it is over: its status, or 128 and the signal, as shells have it.
pub(super) fn exit_code(record: &Record) -> Option<i32> {
    if !record.is_over() {
        return None;
    }
    let (status, signal) = record.exit?;
    match state(record) {
        State::Succeeded => Some(status),
        State::Failed if status != 0 => Some(status),
        State::Failed | State::Cancelled if signal != 0 => Some(128 + signal),
        // TIMEOUT, NODE_FAIL and the like leave no status of the program's own.
        _ => None,
    }
}

/// Why it waits or ended; `None` for a job that runs or ended well.
pub(super) fn reason(record: &Record) -> Option<Reason> {
    let raw = match record.description.as_str() {
        "" => record.reason.clone(),
        more => format!("{}: {more}", record.reason),
    };
    if let Some((kind, text)) = ended(record) {
        let raw = if record.reason.is_empty() { record.state.clone() } else { format!("{} ({raw})", record.state) };
        return Some(Reason::new(kind, text, raw));
    }
    let state = state(record);
    if !state.is_waiting() && state != State::Admitted {
        return None;
    }
    if matches!(record.state.as_str(), "SUSPENDED" | "STOPPED") {
        return Some(Reason::new(ReasonKind::Held, "it is suspended", record.state.clone()));
    }
    if state == State::Admitted {
        return Some(Reason::new(ReasonKind::NodesStarting, "its nodes are being made ready", record.state.clone()));
    }
    if let (State::Held, Some(model)) =
        (state, super::request::waits(&record.comment).and_then(|waits| waits.needs_model))
    {
        return Some(Reason::new(ReasonKind::WaitingForModel, format!("it waits until {model} is preloaded"), raw));
    }
    let (kind, text) = waiting(&record.reason, &record.dependency);
    Some(Reason::new(kind, text, raw))
}

fn ended(record: &Record) -> Option<(ReasonKind, String)> {
    if !record.is_over() {
        return None;
    }
    Some(match record.state.as_str() {
        "FAILED" => match record.exit {
            Some((0, signal)) if signal != 0 => (ReasonKind::ExitCode, format!("signal {signal} ended its program")),
            Some((status, _)) => (ReasonKind::ExitCode, format!("its program ended with exit code {status}")),
            None => (ReasonKind::ExitCode, "its program ended with an error".to_owned()),
        },
        "TIMEOUT" => (ReasonKind::TimeLimit, "it ran into its time limit".to_owned()),
        "DEADLINE" => (ReasonKind::TimeLimit, "its deadline passed".to_owned()),
        "OUT_OF_MEMORY" => (ReasonKind::OutOfMemory, "it ran out of memory".to_owned()),
        "NODE_FAIL" | "BOOT_FAIL" | "LAUNCH_FAILED" | "RECONFIG_FAIL" => {
            (ReasonKind::NodeFailed, "a node failed beneath it".to_owned())
        }
        "PREEMPTED" => (ReasonKind::Preempted, "it gave way to another job".to_owned()),
        "CANCELLED" | "REVOKED" => (ReasonKind::Cancelled, "it was cancelled".to_owned()),
        _ => return None,
    })
}

/// What a reason code of a waiting job means. Slurm's codes: "JOB REASON CODES" in squeue(1) and
/// https://slurm.schedmd.com/job_reason_codes.html.
fn waiting(code: &str, dependency: &str) -> (ReasonKind, String) {
    use ReasonKind as K;
    // The limits of associations, qualities of service and partitions, which have many names:
    // AssocGrpGRES, QOSMaxJobsPerUserLimit, MaxGRESPerAccount, …
    let limit_of = |who: &str| (K::UserLimit, format!("a limit of {who} is reached"));
    let (kind, text) = match code {
        "" => return (K::NotLookedAt, "the scheduler has not looked at it yet".to_owned()),
        "JobHeldUser" => (K::Held, "its owner holds it"),
        "JobHeldAdmin" => (K::Held, "an administrator holds it"),
        "JobHoldMaxRequeue" => (K::Held, "it is held: it was put back too often"),
        "SystemFailure" | "FailedLaunch" | "launch_failed_requeued_held" | "JobLaunchFailure" => {
            (K::Held, "it is held after it could not be started")
        }
        "Priority" => (K::Priority, "jobs of higher priority come first"),
        "Resources" => (K::WaitingForResources, "it is next, and waits until enough is free"),
        "Nodes" | "NodesUnavailable" => (K::NodesUnavailable, "nodes that it needs are not available"),
        "ReqNodeNotAvail" | "ReservationDeleted" => {
            (K::NodesUnavailable, "nodes that it needs are down, drained or reserved")
        }
        "NodeDown" => (K::NodesUnavailable, "a node that it needs is down"),
        "PartitionDown" | "PartitionInactive" => (K::QueueStopped, "its partition starts no jobs"),
        "PartitionNodeLimit" => (K::ExceedsQuota, "it asks for more nodes than its partition allows"),
        "PartitionTimeLimit" => (K::TimeLimitTooLong, "it asks for more time than its partition allows"),
        "PartitionConfig" => (K::NodesUnavailable, "its partition can't hold it as it is set up now"),
        "BadConstraints" => (K::NoSuchNode, "no node has what it asks for"),
        "Dependency" => {
            let on = dependency.split('(').next().unwrap_or_default();
            return (
                K::Dependency,
                if on.is_empty() {
                    "it waits for another job".to_owned()
                } else {
                    format!("it waits for another job ({on})")
                },
            );
        }
        "DependencyNeverSatisfied" => (K::DependencyFailed, "the job that it waits for did not end as it should have"),
        "BeginTime" => (K::BeginTime, "it is not to begin yet"),
        "JobArrayTaskLimit" => (K::ArrayLimit, "as many jobs of its array run as may at a time"),
        "Licenses" => (K::Licenses, "a license that it needs is in use"),
        "Reservation" => (K::BeginTime, "it waits for its reservation to begin"),
        "Prolog" | "Configuring" => (K::NodesStarting, "its nodes are being made ready"),
        "Cleaning" => (K::NotLookedAt, "its last run is being cleaned up"),
        "InactiveLimit" | "TimeLimit" => (K::TimeLimit, "it ran into its time limit"),
        "InvalidAccount" | "AccountNotAllowed" | "AccountingPolicy" | "AssociationNotAllowed" => {
            (K::NotPermitted, "its account may not run there")
        }
        "InvalidQOS" | "QOSNotAllowed" => (K::NotPermitted, "its quality of service is not allowed there"),
        "QOSTimeLimit"
        | "AssociationTimeLimit"
        | "AssociationJobLimit"
        | "AssociationResourceLimit"
        | "QOSJobLimit"
        | "QOSResourceLimit"
        | "QOSUsageThreshold" => return limit_of("its account or quality of service"),
        "OutOfMemory" => (K::OutOfMemory, "it ran out of memory"),
        "Preempted" | "PreemptedByHigherPriority" => (K::Preempted, "it gave way to another job"),
        "BurstBufferResources" | "BurstBufferStageIn" | "BurstBufferOperation" => {
            (K::SettingUp, "its burst buffer is being set up")
        }
        "ReqBootDelay" | "Reboot" | "PowerNotAvail" | "PowerReserved" => {
            (K::NodesStarting, "nodes for it are starting")
        }
        "MaxRequeue" => (K::Held, "it was put back too often"),
        code if code.starts_with("AssocGrp") || code.starts_with("AssocMax") || code.starts_with("Assoc") => {
            return limit_of("its account");
        }
        code if code.starts_with("QOS") => return limit_of("its quality of service"),
        code if code.starts_with("Max") && code.contains("PerAccount") => return limit_of("its account"),
        code if code.starts_with("ReqNodeNotAvail") => {
            (K::NodesUnavailable, "nodes that it needs are down, drained or reserved")
        }
        code if code.contains("TimeLimit") => (K::TimeLimitTooLong, "it asks for more time than is allowed"),
        _ => (K::Other, "Slurm gives a reason that aictl has no word for"),
    };
    (kind, text.to_owned())
}

/// What somebody would have to do, for reasons that do not pass by themselves.
pub(super) fn unblock(record: &Record, kind: ReasonKind) -> Option<String> {
    Some(match kind {
        ReasonKind::Held if record.state == "SUSPENDED" => format!("scontrol resume {}", record.address()),
        ReasonKind::Held if record.reason == "JobHeldAdmin" => {
            format!("an administrator must run: aictl queue release {}", record.address())
        }
        ReasonKind::Held => format!("aictl queue release {}", record.address()),
        ReasonKind::TimeLimitTooLong => {
            format!("ask for less time: scontrol update JobId={} TimeLimit=…", record.address())
        }
        ReasonKind::ExceedsQuota => "ask for fewer nodes, or another partition".to_owned(),
        ReasonKind::NoSuchNode => "ask for what nodes of its partition have: aictl queue quota shows it".to_owned(),
        ReasonKind::QueueStopped => "the partition must be set up again, or the job moved to another".to_owned(),
        ReasonKind::DependencyFailed => {
            "submit it again without the dependency, or after the other job was repeated".to_owned()
        }
        ReasonKind::NotPermitted => "another account or quality of service".to_owned(),
        ReasonKind::NodesUnavailable => "nodes must come back: sinfo -R says why they are away".to_owned(),
        ReasonKind::UserLimit => "others of the same account must end, or the limit be raised".to_owned(),
        ReasonKind::Misconfigured => "the request must be changed".to_owned(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(state: &str, reason: &str) -> Record {
        Record { state: state.to_owned(), reason: reason.to_owned(), priority: 1, ..Record::default() }
    }

    #[test]
    fn states() {
        for (slurm, ours) in [
            ("PENDING", State::Pending),
            ("CONFIGURING", State::Admitted),
            ("RUNNING", State::Running),
            ("SUSPENDED", State::Held),
            ("COMPLETED", State::Succeeded),
            ("TIMEOUT", State::Failed),
            ("NODE_FAIL", State::Failed),
            ("OUT_OF_MEMORY", State::Failed),
            ("CANCELLED", State::Cancelled),
        ] {
            assert_eq!(state(&of(slurm, "")), ours, "{slurm}");
        }
        assert_eq!(state(&of("PENDING", "JobHeldUser")), State::Held);
        assert_eq!(state(&Record { priority: 0, ..of("PENDING", "") }), State::Held);
        assert_eq!(state(&Record { flags: vec!["COMPLETING".to_owned()], ..of("FAILED", "") }), State::Running);
        assert_eq!(state(&Record { flags: vec!["CONFIGURING".to_owned()], ..of("RUNNING", "") }), State::Admitted);
    }

    #[test]
    fn exit_codes() {
        let ended = |state: &str, exit| exit_code(&Record { exit: Some(exit), ..of(state, "") });
        assert_eq!(ended("COMPLETED", (0, 0)), Some(0));
        assert_eq!(ended("FAILED", (3, 0)), Some(3));
        assert_eq!(ended("FAILED", (0, 9)), Some(137));
        assert_eq!(ended("CANCELLED", (0, 15)), Some(143));
        assert_eq!(ended("TIMEOUT", (0, 0)), None);
        assert_eq!(ended("RUNNING", (0, 0)), None);
    }

    #[test]
    fn reasons() {
        let kind = |code: &str| reason(&of("PENDING", code)).unwrap().kind;
        assert_eq!(kind("Resources"), ReasonKind::WaitingForResources);
        assert_eq!(kind("QOSMaxGRESPerUser"), ReasonKind::UserLimit);
        assert_eq!(kind("AssocGrpGRES"), ReasonKind::UserLimit);
        assert_eq!(kind("MaxGRESPerAccount"), ReasonKind::UserLimit);
        assert_eq!(kind("DependencyNeverSatisfied"), ReasonKind::DependencyFailed);
        assert_eq!(kind("ReqNodeNotAvail,"), ReasonKind::NodesUnavailable);
        assert_eq!(kind("SomethingOfTomorrow"), ReasonKind::Other);
        assert_eq!(reason(&of("PENDING", "SomethingOfTomorrow")).unwrap().raw, "SomethingOfTomorrow");
        assert_eq!(reason(&of("RUNNING", "")), None);
        assert_eq!(reason(&of("COMPLETED", "")), None);
        assert_eq!(reason(&of("TIMEOUT", "TimeLimit")).unwrap().kind, ReasonKind::TimeLimit);
    }
}
