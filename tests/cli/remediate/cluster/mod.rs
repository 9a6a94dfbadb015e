//! `aictl remediate --cluster` against a real API server; the tests play kubelet and controllers.

mod budgets;
mod central;
mod faults;
pub mod proxy;
mod rules;
mod town;
mod walk;
