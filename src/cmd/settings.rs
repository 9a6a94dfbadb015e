//! What was meant, from what was typed: flag over environment over configuration over default.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::iter;
use std::path::PathBuf;

use clap::{ArgAction, ColorChoice, ValueEnum, ValueHint};
use serde::Deserialize;

use super::config::Config;
use super::env;
use super::error::Error;
use crate::cluster;
use crate::view::{Color, Ui, UiOptions};

/// How data is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputFormat {
    /// For people
    #[default]
    Table,
    /// For people, with more rows and columns
    Wide,
    /// For programs
    Json,
    /// For programs and people
    Yaml,
    /// Just the name of what was found
    Name,
}

/// What can be typed: how data is printed, and what one subcommand alone can print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Typed {
    /// For people
    Table,
    /// For people, with more rows and columns
    Wide,
    /// For programs
    Json,
    /// For programs and people
    Yaml,
    /// Just the name of what was found
    Name,
    /// For Prometheus (aictl top)
    #[value(hide = true)]
    Prometheus,
}

impl Typed {
    fn format(self) -> OutputFormat {
        match self {
            Typed::Table | Typed::Prometheus => OutputFormat::Table,
            Typed::Wide => OutputFormat::Wide,
            Typed::Json => OutputFormat::Json,
            Typed::Yaml => OutputFormat::Yaml,
            Typed::Name => OutputFormat::Name,
        }
    }
}

/// When to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ColorWhen {
    /// On a terminal, unless NO_COLOR is set
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// Heading of the flags that say which cluster; not in short help, since not every subcommand asks one.
const CLUSTER: &str = "Cluster options";

/// Flags that every subcommand has.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Common options")]
pub struct CommonArgs {
    /// Print data as
    #[arg(short, long, global = true, value_enum, value_name = "FORMAT", env = env::OUTPUT, hide_env = true)]
    output: Option<Typed>,
    /// Print no status, progress or hints, only data and errors
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Print more detail; twice for all of it
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,
    /// When to colour
    #[arg(long, global = true, value_enum, value_name = "WHEN", env = env::COLOR, hide_env = true)]
    color: Option<ColorWhen>,
    /// Draw bars and marks in ASCII
    #[arg(long, global = true)]
    ascii: bool,
    /// Configuration file [default: $XDG_CONFIG_HOME/aictl/config.yaml]
    #[arg(long, global = true, value_name = "FILE", env = env::CONFIG, hide_env = true, value_hint = ValueHint::FilePath)]
    config: Option<PathBuf>,
    /// Namespace [default: the context's]
    #[arg(short, long, global = true, value_name = "NAME", env = env::NAMESPACE, hide_env = true, hide_short_help = true, help_heading = CLUSTER)]
    namespace: Option<String>,
    /// Context of the kubeconfig: which cluster, as whom
    #[arg(long, global = true, value_name = "NAME", env = env::CONTEXT, hide_env = true, hide_short_help = true, help_heading = CLUSTER)]
    context: Option<String>,
    /// Kubeconfig [default: $KUBECONFIG, ~/.kube/config, or the pod's own account]
    #[arg(long, global = true, value_name = "FILE", env = env::KUBECONFIG, hide_env = true, hide_short_help = true, help_heading = CLUSTER, value_hint = ValueHint::FilePath)]
    kubeconfig: Option<PathBuf>,
}

/// What was meant, for all subcommands.
#[derive(Debug)]
pub struct Settings {
    /// The way to the terminal.
    pub ui: Ui,
    /// How data is printed.
    pub output: OutputFormat,
    /// In the form that Prometheus reads, instead.
    pub prometheus: bool,
    /// Which cluster, for subcommands that speak to one.
    pub cluster: cluster::Options,
    /// The configuration, for what a subcommand's own flags leave open.
    pub config: Config,
}

impl Settings {
    /// What holds where a line is typed half, for a shell that asks what may follow: of the flags only
    /// those that say which cluster and which configuration.
    pub fn half_typed(words: &[String]) -> Option<Settings> {
        #[derive(clap::Parser)]
        struct Nothing {
            #[command(flatten)]
            common: CommonArgs,
        }
        let mut known = BTreeMap::new();
        for (at, word) in words.iter().enumerate() {
            let (name, joined) =
                word.split_once('=').map_or((word.as_str(), None), |(name, value)| (name, Some(value)));
            let name = if name == "-n" { "--namespace" } else { name };
            let value = joined.or_else(|| words.get(at + 1).map(String::as_str)).filter(|value| !value.is_empty());
            if let (true, Some(value)) =
                (["--config", "--kubeconfig", "--context", "--namespace"].contains(&name), value)
            {
                known.insert(name, value);
            }
        }
        let flags = known.iter().map(|(name, value)| format!("{name}={value}"));
        let parsed = <Nothing as clap::Parser>::try_parse_from(iter::once("aictl".to_owned()).chain(flags)).ok()?;
        Settings::new(parsed.common).ok()
    }

    /// Reads the configuration and settles everything once. An error comes with the way to print it.
    pub fn new(args: CommonArgs) -> Result<Settings, (Ui, Error)> {
        let typed = |args: &CommonArgs| UiOptions {
            color: colour(args.color.unwrap_or_default()),
            quiet: args.quiet,
            verbose: args.verbose,
            ascii: args.ascii,
            still: false,
        };
        let config = match Config::read(args.config.as_deref()) {
            Ok(config) => config,
            Err(error) => return Err((Ui::new(typed(&args)), error)),
        };
        let output = args.output.map(Typed::format).or(config.output).unwrap_or_default();
        let prometheus = args.output == Some(Typed::Prometheus);
        let cluster = cluster::Options {
            kubeconfig: args.kubeconfig.clone().or_else(|| config.kubeconfig.clone()),
            context: args.context.clone().or_else(|| config.context.clone()),
            namespace: args.namespace.clone().or_else(|| config.namespace.clone()),
        };
        let ui = Ui::new(UiOptions {
            color: colour(args.color.or(config.color).unwrap_or_default()),
            ascii: args.ascii || config.ascii.unwrap_or(false),
            still: prometheus || matches!(output, OutputFormat::Json | OutputFormat::Yaml),
            ..typed(&args)
        });
        Ok(Settings { ui, output, prometheus, cluster, config })
    }
}

fn colour(when: ColorWhen) -> Color {
    match when {
        ColorWhen::Auto => Color::Auto,
        ColorWhen::Always => Color::Always,
        ColorWhen::Never => Color::Never,
    }
}

/// The value of `--color`, found before parsing, because the parser itself prints help and errors.
pub fn color_before_parsing(arguments: &[OsString]) -> Option<ColorChoice> {
    let ours = arguments.iter().take_while(|argument| *argument != "--");
    let texts: Vec<&str> = ours.filter_map(|argument| argument.to_str()).collect();
    let separate = texts.windows(2).rev().find(|pair| pair[0] == "--color").map(|pair| pair[1]);
    let joined = texts.iter().rev().find_map(|text| text.strip_prefix("--color="));
    joined.or(separate)?.parse().ok()
}
