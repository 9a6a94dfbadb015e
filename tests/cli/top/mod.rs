//! `aictl top`: a machine with GPUs (the stand-in for NVML that the real loader loads), exporters
//! behind a real API server, a Prometheus, a real terminal.

mod fleet;
mod live;
mod machine;
mod prometheus;
mod serve;
