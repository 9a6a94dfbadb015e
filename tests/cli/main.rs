//! The program as its users meet it: output, errors and exit codes together.
#![allow(clippy::unwrap_used, reason = "helpers of tests, too, fail by panicking")]

mod bad_input;
mod cluster;
mod diagnose;
mod diagnose_ask;
mod diagnose_gpu;
mod diagnose_node;
mod doctor;
mod environment;
mod fleet;
mod generated;
mod help;
mod output;
mod preload;
mod preload_memory;
mod profile;
mod profile_pods;
mod queue;
mod queue_faults;
mod queue_ray;
mod queue_release;
mod queue_slurm;
mod queue_slurm_commands;
mod queue_sync;
mod queue_wait;
mod remediate;
mod report;
mod saved_log;
mod shipping;
mod submit;
mod submit_faults;
#[path = "../support/mod.rs"]
mod support;
mod terminal;
mod timeline;
mod timeline_live;
mod tmux;
mod top;
