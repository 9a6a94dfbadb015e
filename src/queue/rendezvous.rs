//! The variables by which the nodes of a job find each other: the same ones in every engine, so that
//! one script runs everywhere.
//!
//! aictl starts the command once on each node. `RANK` and `WORLD_SIZE` count these processes; a
//! launcher such as torchrun sets its own for the processes that it starts in turn, and takes the
//! `PET_` variables as the defaults of its options, so that `torchrun train.py` needs none.

/// Where rank 0 is: a name or an address that all nodes resolve.
pub const MASTER_ADDR: &str = "MASTER_ADDR";
/// A port at which rank 0 may listen.
pub const MASTER_PORT: &str = "MASTER_PORT";
/// Which node this is, from 0.
pub const NODE_RANK: &str = "NODE_RANK";
/// How many nodes there are.
pub const NNODES: &str = "NNODES";
/// How many processes a launcher is to start on each node.
pub const NPROC_PER_NODE: &str = "NPROC_PER_NODE";
/// Which of the processes that aictl starts this is: [`NODE_RANK`].
pub const RANK: &str = "RANK";
/// How many processes aictl starts: [`NNODES`].
pub const WORLD_SIZE: &str = "WORLD_SIZE";
/// Which process on its node this is: 0.
pub const LOCAL_RANK: &str = "LOCAL_RANK";
/// Which job of an array this is.
pub const ARRAY_INDEX: &str = "AICTL_ARRAY_INDEX";
/// How many jobs the array has.
pub const ARRAY_COUNT: &str = "AICTL_ARRAY_COUNT";
/// The submission: [`super::JobSpec::id`].
pub const SUBMISSION_ID: &str = "AICTL_SUBMISSION_ID";

/// The value of [`MASTER_PORT`]: torchrun's own default.
pub const PORT: u16 = 29500;

/// torchrun's options by variable, and the variable above whose value each has.
pub const TORCHRUN: [(&str, &str); 5] = [
    ("PET_NNODES", NNODES),
    ("PET_NODE_RANK", NODE_RANK),
    ("PET_NPROC_PER_NODE", NPROC_PER_NODE),
    ("PET_MASTER_ADDR", MASTER_ADDR),
    ("PET_MASTER_PORT", MASTER_PORT),
];

/// Lines of POSIX shell that set all of it from four expressions of the shell, each of which an
/// engine knows its own form of; sourced before the command where the engine can't set variables by
/// value.
pub fn shell(node_rank: &str, nodes: &str, master_addr: &str, processes_per_node: u32) -> String {
    let mut lines = vec![
        format!("export {NODE_RANK}={node_rank}"),
        format!("export {NNODES}={nodes}"),
        format!("export {MASTER_ADDR}={master_addr}"),
        format!("export {MASTER_PORT}=${{{MASTER_PORT}:-{PORT}}}"),
        format!("export {NPROC_PER_NODE}={processes_per_node}"),
        format!("export {RANK}=${NODE_RANK} {WORLD_SIZE}=${NNODES} {LOCAL_RANK}=0"),
    ];
    lines.extend(TORCHRUN.iter().map(|(option, variable)| format!("export {option}=${variable}")));
    lines.join("\n")
}
