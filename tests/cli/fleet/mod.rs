//! `aictl diagnose` over a cluster: agents that publish, the fleet, a site's checks of objects; all
//! against a real API server.

mod agent;
mod cluster;
mod deploy;
mod jobs;
mod scene;
mod view;
