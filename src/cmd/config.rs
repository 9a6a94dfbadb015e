//! The configuration file. An unknown key is an error that names its line.

use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::error::Error;
use super::settings::{ColorWhen, OutputFormat};
use super::timeline::Theme;
use super::values::{LayerList, Length, Share};
use crate::queue::TargetOptions;
use crate::view::yaml;

/// Everything that can be configured; what is absent keeps its default.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Output format, as `-o`.
    pub output: Option<OutputFormat>,
    /// When to colour, as `--color`.
    pub color: Option<ColorWhen>,
    /// No characters outside ASCII.
    pub ascii: Option<bool>,
    /// Kubeconfig, as `--kubeconfig`.
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig, as `--context`.
    pub context: Option<String>,
    /// Namespace, as `--namespace`.
    pub namespace: Option<String>,
    /// Where jobs can go, beside the cluster of the kubeconfig and this machine's own Slurm and Ray.
    pub targets: Vec<TargetOptions>,
    /// Defaults of `aictl profile`.
    pub profile: ProfileConfig,
    /// Defaults of `aictl timeline` and of `aictl profile --live`.
    pub timeline: TimelineConfig,
    /// Who is asked by `aictl diagnose --ask`.
    pub ask: AskConfig,
}

/// A model behind an interface like OpenAI's.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AskConfig {
    /// "https://llm.example.org/v1".
    pub url: Option<String>,
    /// Its name there.
    pub model: Option<String>,
    /// File that holds the key. The key itself does not belong into a configuration.
    pub key_file: Option<PathBuf>,
    /// Longest time for an answer.
    pub timeout: Option<Length>,
}

/// Defaults of the viewer.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TimelineConfig {
    /// As `--theme`.
    pub theme: Option<Theme>,
    /// Whether the viewer takes the mouse; `--no-mouse` is `false`.
    pub mouse: Option<bool>,
}

/// Defaults of `aictl profile`; each key is the flag's name with `_` for `-`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProfileConfig {
    /// As `--duration`.
    pub duration: Option<Length>,
    /// As `--layers`.
    pub layers: Option<LayerList>,
    /// As `--max-overhead`.
    pub max_overhead: Option<Share>,
    /// As `--python-hz`.
    pub python_hz: Option<u32>,
    /// As `--syscall-threshold`.
    pub syscall_threshold: Option<Length>,
}

impl Config {
    /// Reads the file given, else the user's own, else nothing.
    pub fn read(given: Option<&Path>) -> Result<Config, Error> {
        let Some(path) = given.map(Path::to_owned).or_else(usual_path) else { return Ok(Config::default()) };
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            // HOME may still be another user's (sudo -u, setpriv): what can't be read there is not ours.
            Err(error)
                if given.is_none()
                    && matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) =>
            {
                return Ok(Config::default());
            }
            Err(error) => return Err(Error::usage(format!("cannot read {}", path.display())).because(error)),
        };
        if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
            return Ok(Config::default());
        }
        yaml::from_str(&text)
            .map_err(|error| Error::usage(format!("wrong configuration in {}", path.display())).because(error))
    }
}

/// `$XDG_CONFIG_HOME/aictl/config.yaml`, by default under `~/.config`.
fn usual_path() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_CONFIG_HOME").or_else(|| absolute("HOME").map(|home| home.join(".config")))?;
    Some(base.join("aictl/config.yaml"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::CaptureOptions;

    #[test]
    fn the_example_is_whole_and_holds_the_defaults() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/config.yaml");
        let config = Config::read(Some(&path)).unwrap();
        let default = CaptureOptions::default();
        assert_eq!(config.output, Some(OutputFormat::default()));
        assert_eq!(config.color, Some(ColorWhen::default()));
        assert_eq!(config.ascii, Some(false));
        assert_eq!(config.profile.layers, Some(LayerList(default.layers)));
        assert_eq!(config.profile.max_overhead, Some(Share(default.max_overhead)));
        assert_eq!(config.profile.python_hz, Some(default.python_hz));
        assert_eq!(config.profile.syscall_threshold, Some(Length(default.syscall_threshold)));
        assert_eq!(config.timeline.theme, Some(Theme::default()));
        assert_eq!(config.timeline.mouse, Some(true));
    }
}
