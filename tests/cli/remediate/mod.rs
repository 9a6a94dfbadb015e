//! `aictl remediate` as its users meet it, with a look and commands that are made up.

mod cluster;
mod safety;
mod site;
mod walk;
