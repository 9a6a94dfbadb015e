//! What programs that load models do with the page cache.

use serde::Serialize;

/// A program that loads models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Loader {
    /// vLLM with its own loader.
    Vllm,
    /// SGLang with its own loader.
    Sglang,
    /// transformers, diffusers: the safetensors library.
    Transformers,
    /// The Run:ai model streamer (`--load-format runai_streamer`).
    Runai,
    /// fastsafetensors (`--load-format fastsafetensors`).
    Fastsafetensors,
}

impl Loader {
    /// All of them.
    pub const ALL: [Loader; 5] =
        [Loader::Vllm, Loader::Sglang, Loader::Transformers, Loader::Runai, Loader::Fastsafetensors];

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Loader::Vllm => "vllm",
            Loader::Sglang => "sglang",
            Loader::Transformers => "transformers",
            Loader::Runai => "runai",
            Loader::Fastsafetensors => "fastsafetensors",
        }
    }

    /// Why a warm page cache does not help it as it is usually set, and what to change; `None` for
    /// those that read through the cache. Measured: with everything resident, these two still read
    /// the whole model from the device.
    pub fn bypass(self) -> Option<&'static str> {
        match self {
            Loader::Vllm | Loader::Sglang | Loader::Transformers => None,
            Loader::Runai => Some(
                "the Run:ai streamer reads past the page cache (O_DIRECT): set RUNAI_STREAMER_FS_STRATEGY=sync_buffered \
                 for the server, or warming is wasted",
            ),
            Loader::Fastsafetensors => Some(
                "fastsafetensors reads past the page cache (O_DIRECT or GPUDirect Storage): use another load format, or \
                 warming is wasted",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loaders_that_go_past_the_cache_are_known() {
        let past: Vec<&str> = Loader::ALL.iter().filter(|loader| loader.bypass().is_some()).map(|l| l.name()).collect();
        assert_eq!(past, ["runai", "fastsafetensors"]);
    }
}
